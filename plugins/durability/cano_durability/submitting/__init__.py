"""Submitting runs: they are stored without being executed, for workers."""
