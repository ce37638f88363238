"""Keeps the runs of a kernel in its store."""
