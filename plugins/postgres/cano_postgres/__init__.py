"""Durable runs in a PostgreSQL database: `postgresql://user@host/database`."""

from cano_postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
