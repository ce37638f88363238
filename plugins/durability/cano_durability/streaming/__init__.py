"""Streams of runs: what steps emit, and what happens to runs, for those that follow them."""
