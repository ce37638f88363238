"""PostgreSQL's errors, as Cano's: each says which database, and what can be done."""

from __future__ import annotations

import psycopg
from cano import SerializationError, StoreError, StoreUnavailableError

_REMEDIES = {
    "25006": "it is read-only; name the primary server, or add target_session_attrs=read-write to the URL",
    "28": "it does not let this user in; look after user, password and pg_hba.conf",
    "3D": "there is no such database; make it with createdb, or name another",
    "3F": "its schema is gone; open the store anew",
    "42P01": "its tables are gone; open the store anew",
    "42501": "this user may not do that; grant CREATE on the database, or let its owner open the store once",
    "53100": "the server's disk is full; make room, and try again",
    "53200": "the server is out of memory",
    "53300": "the server has too many connections; raise its max_connections, or lower pool_size",
    "57014": "the server's statement_timeout is too short, or somebody cancelled the statement",
    "XX001": "its data are damaged; restore a backup",
    "XX002": "an index is damaged; REINDEX it",
}
"""What can be done, by SQLSTATE or the class of it."""

_GONE = ("57P01", "57P02", "57P03", "57P04", "57P05", "08")
"""The server has ended the connection, or is about to."""
_AGAIN = ("40001", "40P01")
"""Another transaction was in the way; the next attempt may succeed."""
_UNKEPT = (psycopg.DataError, psycopg.IntegrityError, UnicodeError, OverflowError)
"""How values that PostgreSQL cannot keep show."""

# a refused connection has no SQLSTATE: libpq hands on the text alone
_TOO_MANY = ("too many", "remaining connection slots")
_PASSING = (*_TOO_MANY, "starting up", "shutting down", "recovery mode", "not yet accepting")


def is_lost(error: BaseException, connection: psycopg.AsyncConnection[object]) -> bool:
    """Whether the connection is gone, so that nobody knows whether the statement was carried out."""
    if connection.closed or isinstance(error, TimeoutError):
        return True
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_GONE)


def is_worth_another_attempt(error: BaseException) -> bool:
    """Whether the same statement may succeed when it is sent again."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _AGAIN


def passes(error: BaseException) -> bool:
    """Whether a refused connection may be granted soon: the server is there, but not ready, or full."""
    return any(text in str(error) for text in _PASSING)


def unreachable(error: BaseException, label: str, seconds: float | None = None) -> StoreUnavailableError:
    """The error for a connection that could not be made, for `seconds` where it was tried so long."""
    text = " ".join(str(error).split()) or type(error).__name__
    tried = "" if seconds is None else f" for {seconds:g} seconds"
    if any(each in text for each in _TOO_MANY):
        return StoreUnavailableError(f"the store {label} could not be reached{tried}: {_REMEDIES['53300']} ({text})")
    return StoreUnavailableError(f"the store {label} could not be reached{tried}: {text}")


def translated(error: Exception, label: str, run_id: str | None) -> Exception:
    """What the caller gets to see of `error`, which came up in a call that concerns `run_id`."""
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
    """The error for something that does not go into a table."""
    refused = SerializationError(f"the run {run_id!r} has something that cannot be stored: {error}")
    refused.run_id = run_id
    return refused


def unreadable(run_id: str, what: object, *, key: str | None = None) -> SerializationError:
    """The error for rows of a run that cannot be read back."""
    damaged = SerializationError(f"the run {run_id!r} cannot be read from the store: {what}", key=key)
    damaged.run_id = run_id
    return damaged
