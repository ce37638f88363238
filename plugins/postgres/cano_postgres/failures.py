"""Translates PostgreSQL's errors into Cano's. Each names the database and the remedy."""

from __future__ import annotations

import struct

import psycopg
from cano import SerializationError, StoreError, StoreUnavailableError

_REMEDIES = {
    "25006": "it is read-only; name the primary server, or add target_session_attrs=read-write to the URL",
    "28": "it refuses this user; check user, password and pg_hba.conf",
    "3D": "there is no such database; create it with createdb, or name another",
    "3F": "its schema does not exist any more; close the store, and open a new one",
    "42P01": "its tables do not exist any more; close the store, and open a new one",
    "42501": "this user lacks a privilege; grant CREATE on the database, or let its owner open the store once",
    "53100": "the server's disk is full; free space, and try again",
    "53200": "the server is out of memory; lower its memory settings, or add memory",
    "53300": "the server has too many connections; raise its max_connections, or lower pool_size",
    "57014": "the statement was cancelled; raise the server's statement_timeout, unless a user cancelled it",
    "XX001": "its data is corrupt; restore a backup",
    "XX002": "an index is corrupt; REINDEX it",
}
"""Remedies by SQLSTATE or its class."""

_GONE = ("57P01", "57P02", "57P03", "57P04", "57P05", "08")
"""The server ends the connection."""
_AGAIN = ("40001", "40P01")
"""Another transaction caused it; the next attempt may succeed."""
_UNKEPT = (psycopg.DataError, psycopg.IntegrityError, UnicodeError, OverflowError, struct.error)
"""Errors for values that PostgreSQL cannot store."""

# a refused connection has no SQLSTATE, since libpq passes on only the text
_TOO_MANY = ("too many", "remaining connection slots")
_PASSING = (*_TOO_MANY, "starting up", "shutting down", "recovery mode", "not yet accepting")


def is_lost(error: BaseException, connection: psycopg.AsyncConnection[object]) -> bool:
    """Return whether the connection is lost, so that the statement may have been executed."""
    if connection.closed or isinstance(error, TimeoutError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_GONE)


def is_worth_another_attempt(error: BaseException) -> bool:
    """Return whether the statement may succeed if it is sent again."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _AGAIN


def passes(error: BaseException) -> bool:
    """Return whether a refused connection may succeed later: the server starts, stops or is full."""
    return any(text in str(error) for text in _PASSING)


def unreachable(error: BaseException, label: str, seconds: float | None = None) -> StoreUnavailableError:
    """Return the error for a failed connection, tried for `seconds` if given."""
    text = " ".join(str(error).split()) or type(error).__name__
    tried = "" if seconds is None else f" for {seconds:g} seconds"
    if any(each in text for each in _TOO_MANY):
        return StoreUnavailableError(f"the store {label} could not be reached{tried}: {_REMEDIES['53300']} ({text})")
    return StoreUnavailableError(f"the store {label} could not be reached{tried}: {text}")


def translated(error: Exception, label: str, run_id: str | None) -> Exception:
    """Return the error that the caller gets for `error`, with the id of the run."""
    state = getattr(error, "sqlstate", None) or ""
    if isinstance(error, _UNKEPT) or state.startswith(("22", "54")):
        return unkept(error, run_id)
    if isinstance(error, psycopg.Error):
        error = _unavailable(error, state, label)
    if isinstance(error, StoreError) and error.run_id is None:
        error.run_id = run_id
    return error


def _unavailable(error: psycopg.Error, state: str, label: str) -> StoreUnavailableError:
    text = " ".join(str(error).split())
    remedy = _REMEDIES.get(state) or _REMEDIES.get(state[:2])
    what = f"the store {label} cannot be used: {remedy or text}"
    return StoreUnavailableError(f"{what} (PostgreSQL says: {text})" if remedy else what)


def unkept(error: object, run_id: str | None) -> SerializationError:
    """Return the error for a value that cannot be stored."""
    return SerializationError(f"the run {run_id!r} contains a value that cannot be stored: {error}", run_id=run_id)
