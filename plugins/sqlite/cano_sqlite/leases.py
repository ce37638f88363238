"""Leases: claim, renew and release the right to execute a run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing, suppress
from itertools import islice

from cano import ClaimedRun, Lane, SerializationError
from cano_durability.stores.lanes import Turns

from cano_sqlite.news import note
from cano_sqlite.queues import chosen, enter, leave, put_back
from cano_sqlite.reading import load
from cano_sqlite.tails import Tails

_CLAIM = """
    UPDATE runs SET token = token + 1, holder = ?, expires = ?
    WHERE run_id = ? AND (holder IS NULL OR expires IS NULL OR expires < ?)"""
# a unary plus keeps a condition from choosing the index: many runs are parked
READY = """
    SELECT runs.run_id, runs.queue, definitions.workflow, definitions.version, definitions.fingerprint
    FROM runs CROSS JOIN definitions ON definitions.run = runs.id WHERE runs.holder IS NULL AND runs.{0}
        AND definitions.workflow IN (SELECT value FROM json_each(:workflows))"""
READY = " UNION ALL ".join(map(READY.format, ("wake <= :now AND +runs.status = 'parked'", "status = 'running'")))
_MAIL = "SELECT EXISTS (SELECT 1 FROM signals WHERE run_id = ? AND consumed = 0)"
_RENEW = "UPDATE runs SET expires = ? WHERE run_id = ? AND token = ? AND holder = ?"
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = ? AND token = ?"


def claim(
    connection: sqlite3.Connection, run_id: str, holder: str, now: float, expires: float, tails: Tails
) -> int | None:
    """Return the new fencing token, or None if the run is held or does not exist."""
    tails.take(run_id)  # another process may have written since the tail was remembered
    if connection.execute(_CLAIM, (holder, expires, run_id, now)).rowcount != 1:
        return None
    token, status = connection.execute("SELECT token, status FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    leave(connection, run_id, status)
    return int(token)


def claim_ready(
    connection: sqlite3.Connection,
    definitions: Sequence[tuple[str, str, str]],
    limit: int,
    holder: str,
    now: float,
    expires: float,
    skip: Sequence[str],
    queues: Sequence[str] | None,
    tails: Tails,
    turns: Turns,
) -> list[ClaimedRun]:
    """Claim up to `limit` runs of `definitions` that are ready and have no holder: first those that have begun."""
    wanted, unwanted, claimed = set(definitions), set(skip), list[ClaimedRun]()
    given = {"now": now, "workflows": json.dumps([workflow for workflow, *_ in definitions])}
    with closing(connection.execute(READY, given)) as rows:
        free = (
            run_id
            for run_id, queue, *definition in rows
            if tuple(definition) in wanted
            and run_id not in unwanted
            and (queues is None or (queue or Lane().queue) in queues)
        )
        run_ids = list(islice(free, max(limit, 0)))
    enter(connection, now)
    run_ids += chosen(connection, wanted, limit - len(run_ids), queues, turns)
    for run_id in run_ids:
        token, record = claim(connection, run_id, holder, now, expires, tails), None
        with suppress(SerializationError):
            record = load(connection, run_id)
        if token is not None:
            claimed.append(ClaimedRun(run_id, token, record, bool(connection.execute(_MAIL, (run_id,)).fetchone()[0])))
    return claimed


def renew(
    connection: sqlite3.Connection, holder: str, tokens: Sequence[tuple[str, int]], expires: float
) -> Sequence[str]:
    """Renew leases, and return the ids of the lost ones."""
    return [
        run_id for run_id, token in tokens if connection.execute(_RENEW, (expires, run_id, token, holder)).rowcount != 1
    ]


def release(connection: sqlite3.Connection, run_id: str, token: int) -> None:
    """Release the lease if it still has this token."""
    if connection.execute(_RELEASE, (run_id, token)).rowcount == 1:
        put_back(connection, run_id)
        note(connection, run_id)
