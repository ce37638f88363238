"""The PostgreSQL store of Cano: runs that many processes on many machines share."""

from cano_postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
