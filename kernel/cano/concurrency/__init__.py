"""Splits, batches and sub-workflows."""
