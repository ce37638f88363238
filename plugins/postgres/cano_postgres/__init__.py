"""Durable runs in a PostgreSQL database: `postgresql://user@host/database`."""

import typing

from cano.lazy_names import lazy_names as _lazy_names

__all__ = ["PostgresBackend"]

if typing.TYPE_CHECKING:
    from cano_postgres.backend import PostgresBackend
else:
    __getattr__, __dir__ = _lazy_names(__name__, {"backend": "PostgresBackend"})
