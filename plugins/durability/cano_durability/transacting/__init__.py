"""Commits steps together with what their tasks do in the database of the store."""
