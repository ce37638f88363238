"""Runs that are kept in a store."""
