"""A single run's step skips the writing thread: the event loop's thread commits it if the loop is otherwise idle.

Switching to the writing thread and back takes half as long as a commit on a good disk. It pays if the event loop has
other work to do meanwhile, or if several runs share a sync.
"""

from __future__ import annotations

import asyncio
from sqlite3 import IntegrityError
from typing import Any

from cano import Commit
from cano_msgspec.packing import LARGE, pack_changes, size_of

from cano_sqlite.failures import is_busy
from cano_sqlite.journal import is_step
from cano_sqlite.tails import Tails
from cano_sqlite.worker import Worker
from cano_sqlite.writer import Writer

HORIZON = 0.02
"""Seconds that the event loop must have nothing to do."""

MOST = 100
"""The most commits in a row. The next goes to the thread: then the loop runs other callbacks, and the log is cut."""

# if the run's row differs from the remembered tail, `run` is NULL, which the NOT NULL constraint refuses
_STEP = """
    INSERT INTO journal (run, prev, seq, state, status, at, packed) VALUES (
        (SELECT id FROM runs WHERE id = ? AND head = ? AND run_id = ? AND seq = ? AND token = ? AND status = 'running'),
        ?, ?, ?, 'running', ?, ?)"""


class Shortcut:
    """Applies commits with the connection of `writer`, without the thread of `worker`."""

    def __init__(self, worker: Worker, writer: Writer, tails: Tails) -> None:
        self._worker = worker
        self._writer = writer
        self._tails = tails
        self._count = 0

    def take(self, commit: Commit) -> bool:
        """Apply `commit` now if it is a plain step and delays nothing else. Return whether it was applied.

        One long method, because it is hot: a call costs as much as looking up a statement.

        Raises:
            StoreError: it failed, and nothing is written.
        """
        worker, count = self._worker, self._count
        self._count = 0
        if worker.under_way or count >= MOST:
            return False
        (
            run_id, token, before, seq, state, _, changed, removed, _, _, _, _, _, _, _, _, _, _, _, at,
        ) = commit  # fmt: skip
        tail = self._tails.find(run_id)
        if (
            tail is None
            or tail.seq != before
            or tail.token != token
            or seq >= tail.due
            or not is_step(commit)
            or (size := size_of(changed)) >= LARGE
            or not has_time(asyncio.get_running_loop())
        ):
            return False
        changes = bytearray(pack_changes(changed, removed))  # as in `Append`
        if worker.hold.locked():
            return False
        writer = self._writer
        cursor = writer.cursor
        with worker.hold:  # a with block, since a signal handler may raise at any point
            if not worker.idle or not writer.file.same:
                return False
            try:
                if writer.checkpoints:
                    writer.let_commits_checkpoint(False)
                # in autocommit mode, a statement is a transaction
                head = tail.head
                cursor.execute(_STEP, (tail.run, head, run_id, before, token, head, seq, state, at, changes))
                tail.add(cursor.lastrowid or 0, before, token, seq, size, changed, removed)
            except IntegrityError:
                self._tails.take(run_id)
                return False
            except Exception as problem:
                if not is_busy(problem):
                    raise writer.failed(problem, run_id) from problem
                return False
        self._count = count + 1
        return True


def has_time(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether `loop` is idle for at least `HORIZON` seconds: no callback, no socket and no timer is due.

    False for a loop that is not asyncio's own, such as uvloop's, for one whose private attributes have changed, and for
    eager tasks: there, several runs may be about to commit
    together. Callbacks from other threads wait until the commit is done.
    """
    own: Any = loop  # asyncio has no public API for this, so any surprise means: not idle
    try:
        timers = own._scheduled
        return (
            type(loop) is asyncio.SelectorEventLoop
            and loop.get_task_factory() is None
            and not own._ready
            and len(own._selector.get_map()) == 1  # the pipe that wakes the loop from other threads
            and (not timers or timers[0]._when - own.time() > HORIZON)
        )
    except (AttributeError, TypeError, LookupError):
        return False
