"""Actions on many runs."""
