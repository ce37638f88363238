"""Selects runs: the text of a filter, and lists from stores that cannot filter as much."""
