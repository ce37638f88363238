"""Carries runs from store to store in files: exporting and importing."""
