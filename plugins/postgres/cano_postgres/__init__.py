"""Durable runs in a PostgreSQL database: `postgresql://user@host/database`."""

import typing

from cano.late import names as _late_names

__all__ = ["PostgresBackend"]

if typing.TYPE_CHECKING:
    from cano_postgres.backend import PostgresBackend
else:
    __getattr__, __dir__ = _late_names(__name__, {"backend": "PostgresBackend"})
