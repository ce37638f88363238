"""Durable runs in an SQLite file: `sqlite:///path`."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["SqliteBackend"]

if typing.TYPE_CHECKING:
    from cano_sqlite.backend import SqliteBackend
else:
    __getattr__, __dir__ = _lazy_names(__name__, {"backend": "SqliteBackend"})
