"""SQLite's errors, as Cano's: each says which file, and what can be done."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cano import SerializationError, StoreError, StoreUnavailableError

_LOCKED = "others kept it locked for longer than busy_timeout; raise that, or find out who holds it"
_READ_ONLY = "it is read-only; make the file and its folder writable for this user"

_REMEDIES = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; name another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a copy, or save what can be saved with sqlite3's .recover",
    sqlite3.SQLITE_FULL: "the disk is full; make room, and try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; look after the disk and the space left on it",
}

_UNKEPT = (
    sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
    UnicodeError, OverflowError,
)  # fmt: skip
"""How values that SQLite cannot keep show."""


def unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailableError:
    """The error for what SQLite says about the file at `path`."""
    code = primary_code(error)
    remedy = _why_it_cannot_be_opened(path) if code == sqlite3.SQLITE_CANTOPEN else _REMEDIES.get(code)
    what = f"the store {path} cannot be used: {remedy or error}"
    return StoreUnavailableError(f"{what} (SQLite says: {error})" if remedy else what)


def primary_code(error: Exception) -> int:
    """Which of SQLite's kinds of error it is; 0 where it comes from Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: Exception) -> bool:
    """Whether another connection was in the way."""
    return _REMEDIES.get(primary_code(error)) is _LOCKED


def translated(error: Exception, path: Path, run_id: str | None) -> Exception:
    """What the caller gets to see of `error`, which came up in a call that concerns `run_id`."""
    if isinstance(error, _UNKEPT):
        return unkept(error, run_id)
    if isinstance(error, sqlite3.Error):
        error = unavailable(error, path)
    if isinstance(error, StoreError) and error.run_id is None:
        error.run_id = run_id
    return error


def unkept(error: object, run_id: str | None) -> SerializationError:
    """The error for something that does not go into a file."""
    refused = SerializationError(f"the run {run_id!r} has something that cannot be stored: {error}")
    refused.run_id = run_id
    return refused


def unreadable(run_id: str, what: object, *, key: str | None = None) -> SerializationError:
    """The error for rows of a run that cannot be read back."""
    damaged = SerializationError(f"the run {run_id!r} cannot be read from the store: {what}", key=key)
    damaged.run_id = run_id
    return damaged


def _why_it_cannot_be_opened(path: Path) -> str:
    if path.is_dir():
        return "it is a folder; name a file in it"
    if not path.parent.exists():
        return f"the folder {path.parent} does not exist; make it first"
    if not path.parent.is_dir():
        return f"{path.parent} is not a folder; name another"
    return "it cannot be opened; make the file and its folder accessible for this user"
