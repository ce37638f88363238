"""Replaces the values in a run's journal, such as encrypted ones by others under a new key."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cano import Commit, Transition
from cano_msgspec.packing import Changes, DamagedError, pack_changes, size_of, unpack_changes, unreadable

from cano_sqlite.job import Job
from cano_sqlite.journal import Append
from cano_sqlite.snapshot import PART, fetch, fold, next_mark
from cano_sqlite.tails import Tails

_FENCE = "UPDATE runs SET token = token + 1 WHERE run_id = ?"
# only the newest entry's error, wait and payload are those of the run
_REWRITE = "UPDATE journal SET packed = ?, extra = iif(id = ?, extra, NULL) WHERE id = ?"


class Rewrite(Job):
    """The job of a commit that replaces values of entries, too. See `RewritingStore`."""

    def __init__(self, commit: Commit, entries: Sequence[Transition], tails: Tails) -> None:
        self.run_id: str = commit.run_id
        self._append = Append(commit, tails)
        self._tails = tails
        self._new = {entry.seq: (dict(entry.changed), dict(entry.own)) for entry in entries}
        self.size = self._append.size + sum(size_of(some) for new in self._new.values() for some in new)

    def do(self, connection: sqlite3.Connection) -> None:
        """Apply the commit, and replace the values. Raise ConflictError if it is stale; then nothing is written."""
        self._append.do(connection)
        connection.execute(_FENCE, (self.run_id,))
        if not self._new:
            return
        fold(connection, self.run_id, self._tails)  # from now on, no entry has values of the run's data
        run, head = connection.execute("SELECT id, head FROM runs WHERE run_id = ?", (self.run_id,)).fetchone()
        mark = next_mark(connection, run, max(self._new))
        before = None
        found = fetch(connection, PART, {"until": head if mark is None else mark[1], "after": min(self._new) - 1})
        for id, _, owner, blob, seq, *_ in found:
            if owner != run:
                raise unreadable(self.run_id, f"its journal is broken before entry {id}")
            if seq in self._new:
                try:
                    changes = unpack_changes(blob)
                except DamagedError as error:
                    raise unreadable(self.run_id, error) from error
                changed, own = self._new[seq]
                # a commit without a transition is not in the history, and the snapshot has its values
                changes = Changes({}, []) if seq == before else changes._replace(changed=changed, own=own)
                connection.execute(_REWRITE, (pack_changes(*changes), head, id))
            before = seq
