"""Translates SQLite's errors into Cano's. Each names the file and the remedy."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from pathlib import Path

from cano import SerializationError, StoreError, StoreUnavailableError
from cano_msgspec.packing import size_of

_LOCKED = "another process kept it locked for longer than busy_timeout; raise busy_timeout, or end that process"
_READ_ONLY = "it is read-only; make the file and its folder writable for this user"

_REMEDIES = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_PERM: _READ_ONLY,
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; name another file, or move this one away",
    sqlite3.SQLITE_CORRUPT: "it is corrupt; restore a backup, or recover data with the .recover command of sqlite3",
    sqlite3.SQLITE_FULL: "the disk is full; free space, and try again",
    sqlite3.SQLITE_IOERR: "reading or writing failed; check the disk and its free space",
}

_UNKEPT = (
    sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError, sqlite3.IntegrityError,
    UnicodeError, OverflowError,
)  # fmt: skip
"""Errors for values that SQLite cannot store."""


LARGEST = 64 * 2**20
"""The largest size of the values of one commit, in bytes. SQLite takes 1 GB, but event loop and thread stall on it."""


def unavailable(error: sqlite3.Error, path: Path) -> StoreUnavailableError:
    """Return the error for an SQLite error about the file at `path`."""
    code = primary_code(error)
    remedy = _why_it_cannot_be_opened(path) if code == sqlite3.SQLITE_CANTOPEN else _REMEDIES.get(code)
    what = f"the store {path} cannot be used: {remedy or error}"
    return StoreUnavailableError(f"{what} (SQLite says: {error})" if remedy else what)


def primary_code(error: Exception) -> int:
    """Return SQLite's primary result code, or 0 if the error comes from Python's module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def is_busy(error: Exception) -> bool:
    """Return whether another connection holds a lock."""
    return _REMEDIES.get(primary_code(error)) is _LOCKED


def translated(error: Exception, path: Path, run_id: str | None) -> Exception:
    """Return the error that the caller gets for `error`, with the id of the run."""
    if isinstance(error, _UNKEPT):
        return unkept(error, run_id)
    if isinstance(error, sqlite3.Error):
        error = unavailable(error, path)
    if isinstance(error, StoreError) and error.run_id is None:
        error.run_id = run_id
    return error


def unkept(error: object, run_id: str | None) -> SerializationError:
    """Return the error for a value that cannot be stored."""
    return SerializationError(f"the run {run_id!r} contains a value that cannot be stored: {error}", run_id=run_id)


def check_size(size: int, values: Mapping[str, bytes], run_id: str) -> None:
    """Raise SerializationError if `values`, of `size` bytes together, are too large for one commit."""
    if size > LARGEST:
        sizes = {key: size_of({key: value}) for key, value in values.items()}
        key = max(sizes, key=sizes.__getitem__)
        raise SerializationError(
            f"the run {run_id!r} sets {size / 2**20:.0f} MiB in one commit, {sizes[key] / 2**20:.0f} MiB of them "
            f"in the key {key!r}; the store keeps up to {LARGEST // 2**20} MiB; keep large values in files, for "
            "example with ?codec=offload:1MiB:FOLDER in the URL",
            key=key,
            run_id=run_id,
        )


def _why_it_cannot_be_opened(path: Path) -> str:
    if path.is_dir():
        return "it is a folder; name a file in it"
    if not path.parent.exists():
        return f"the folder {path.parent} does not exist; create it first"
    if not path.parent.is_dir():
        return f"{path.parent} is not a folder; name another"
    return "it cannot be opened; make the file and its folder accessible for this user"
