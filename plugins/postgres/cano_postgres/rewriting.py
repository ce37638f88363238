"""Replaces the values in a run's journal, such as encrypted ones by others under a new key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import LiteralString

from cano import Commit, Transition
from cano_msgspec.packing import Changes, DamagedError, pack_changes, unpack_changes, unreadable

from cano_postgres.commits import Append
from cano_postgres.connection import Connection

_LINES = """
    SELECT runs.head, runs.folded, journal.line, journal.seq, journal.packed FROM runs
    LEFT JOIN journal ON journal.run = runs.id AND journal.seq BETWEEN %s AND %s
    WHERE runs.run_id = %s ORDER BY journal.line"""
_MADE: LiteralString = """EXISTS (
        SELECT FROM journal AS made
        WHERE made.run = run.id AND made.mark = %(mark)s AND made.xmin = pg_current_xact_id()::xid)"""
_REWRITE: LiteralString = f"""
    WITH run AS MATERIALIZED (SELECT id FROM runs WHERE run_id = %(run_id)s), fenced AS (
        UPDATE runs SET token = token + 1 FROM run WHERE runs.id = run.id AND {_MADE}
    )
    UPDATE journal SET packed = given.packed
    FROM unnest(%(numbers)s::bigint[], %(blobs)s::bytea[]) AS given (line, packed), run
    WHERE journal.run = run.id AND journal.line = given.line AND {_MADE}"""


async def rewriting(connection: Connection, commit: Commit, entries: Sequence[Transition]) -> Append | None:
    """Return the work of a commit that replaces values of entries, too; None if the run must be compacted first.

    Raises:
        SerializationError: an entry is corrupt.
    """
    work, new = Append(commit), {entry.seq: entry for entry in entries}
    run_id = commit.run_id
    cursor = await connection.execute(_LINES, (min(new, default=0), max(new, default=-1), run_id), binary=True)
    numbers, blobs, before = list[int](), list[bytes](), None
    for head, folded, line, seq, packed in await cursor.fetchall():
        if new and head != folded:  # an entry after the snapshot has values of the run's data
            return None
        if seq in new:
            try:
                changes = unpack_changes(packed)
            except DamagedError as error:
                raise unreadable(run_id, error) from error
            changed, own = dict(new[seq].changed), dict(new[seq].own)
            # a commit without a transition is not in the history, and the snapshot has its values
            changes = Changes({}, []) if seq == before else changes._replace(changed=changed, own=own)
            numbers.append(line)
            blobs.append(pack_changes(*changes))
        before = seq
    values = {"run_id": run_id, "mark": work.mark, "numbers": numbers, "blobs": blobs}
    work.follow_with((_REWRITE, values), sum(map(len, blobs)))
    return work
