"""Plugins: how they are found, ordered, blocked and isolated."""
