"""Sealing stores whose layers encrypt: every value is bound to its place, and every commit is authenticated."""
