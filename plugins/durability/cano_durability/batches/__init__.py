"""Batches in a store: a run that reads inputs, and executes a child for each."""
