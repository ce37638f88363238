"""Durable runs in an SQLite file: `sqlite:///path`."""

from cano_sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
