"""The shortcut of a lone commit: the event loop's own thread makes it, where nobody is kept waiting by that.

The way to the writer's thread and back takes as long as half of what a good disk needs for a commit. It is worth that
wherever the event loop has something else to do meanwhile, or several runs share one sync to disk.
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
"""Seconds for which the event loop must have nothing to do."""

MOST = 100
"""How many commits in a row take it, before one goes the long way: the loop turns then, and the log is tidied up."""

# what is remembered of the run is right, or else its row is another: then `run` is NULL, which is refused
_STEP = """
    INSERT INTO journal (run, prev, seq, state, status, at, changes) VALUES (
        (SELECT id FROM runs WHERE id = ? AND head = ? AND run_id = ? AND seq = ? AND token = ? AND status = 'running'),
        ?, ?, ?, 'running', ?, ?)"""


class Shortcut:
    """Takes commits past the thread of `worker`, to its hand `writer`."""

    def __init__(self, worker: Worker, writer: Writer, tails: Tails) -> None:
        self._worker = worker
        self._writer = writer
        self._tails = tails
        self._count = 0

    def take(self, commit: Commit) -> bool:
        """Make a commit now, if it is a mere step, and in nobody's way; whether it is made.

        It is written out in one piece because it is hot: a call costs as much as a statement's look-up.

        Raises:
            StoreError: something went wrong, and it is not made.
        """
        worker, count = self._worker, self._count
        self._count = 0
        if worker.under_way or count >= MOST:
            return False
        (
            run_id, token, before, seq, state, _, changed, removed, _, _, _, _, _, at,
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
        with worker.hold:  # a signal that raises cannot come between this and its release
            if not worker.idle:
                return False
            try:
                if writer.checkpoints:
                    writer.let_commits_checkpoint(False)
                # one statement, which is a transaction of its own
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
    """Whether `loop` would only wait, for `HORIZON` at least: it has no callback, no timer and no socket to look after.

    What other threads hand it meanwhile waits until it is asked again. A loop that is not asyncio's own has no time;
    nor has one whose tasks begin before it turns: several runs may be about to commit together.
    """
    own: Any = loop  # asyncio has no public name for what it has to do
    try:
        timers = own._scheduled
        return (
            type(loop) is asyncio.SelectorEventLoop
            and loop.get_task_factory() is None
            and not own._ready
            and len(own._selector.get_map()) == 1  # the pipe by which other threads wake it
            and (not timers or timers[0]._when - own.time() > HORIZON)
        )
    except AttributeError:
        return False
