"""Leases: claim, renew and release the right to execute a run."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cano_sqlite.tails import Tails

_CLAIM = """
    UPDATE runs SET token = token + 1, holder = ?, expires = ?
    WHERE run_id = ? AND (holder IS NULL OR expires IS NULL OR expires < ?)"""
_RENEW = "UPDATE runs SET expires = ? WHERE run_id = ? AND token = ? AND holder = ?"
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ? AND token = ?"


def claim(
    connection: sqlite3.Connection, run_id: str, holder: str, now: float, expires: float, tails: Tails
) -> int | None:
    """Return the new fencing token, or None if the run is held or does not exist."""
    tails.take(run_id)  # another process may have written since the tail was remembered
    if connection.execute(_CLAIM, (holder, expires, run_id, now)).rowcount != 1:
        return None
    (token,) = connection.execute("SELECT token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    return int(token)


def renew(
    connection: sqlite3.Connection, holder: str, tokens: Sequence[tuple[str, int]], expires: float
) -> Sequence[str]:
    """Renew leases, and return the ids of the lost ones."""
    return [
        run_id for run_id, token in tokens if connection.execute(_RENEW, (expires, run_id, token, holder)).rowcount != 1
    ]


def release(connection: sqlite3.Connection, run_id: str, token: int) -> None:
    """Release the lease if it still has this token."""
    connection.execute(_RELEASE, (run_id, token))
