"""The embedded durable store of Cano: runs in an SQLite file."""

from cano_sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
