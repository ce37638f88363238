"""Stores the progress that steps report, so that other processes see it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from cano import Progress, Run, RunRecord, StoreError
from cano.engine.ports import Host, safe_str

from cano_durability.keys import PROGRESS
from cano_durability.patience import cancelled
from cano_durability.recovery.groups import AT_ONCE
from cano_durability.recovery.leases import journal_of
from cano_durability.stored_runs import StoredRuns

INTERVAL = 0.5
"""Seconds between a report and its write, so that short steps cost nothing, and at least between two writes."""
SHARE = 50
"""After a write, the step waits for the next one at least this part of its time: a step of a day makes 600 writes."""


class _Reported:
    """A run whose present step has reported progress."""

    __slots__ = ("began", "due", "run", "seq", "written")

    def __init__(self, run: Run, now: float) -> None:
        self.run = run
        self.seq = run.step.seq
        self.began = now
        self.due = now
        self.written: Progress | None = None


class ProgressWriter:
    """Writes the last progress of the steps that one kernel executes, each in a small commit of its own."""

    def __init__(self, kernel: Host, stored: StoredRuns) -> None:
        self._kernel = kernel
        self._stored = stored
        self._reported: dict[str, _Reported] = {}
        self._task: asyncio.Task[None] | None = None

    def report(self, run: Run) -> None:
        """Note that the present step of `run` has reported progress. Any thread may call this."""
        known = self._reported.get(run.run_id)
        if (known is None or known.run is not run) and run.loop is not None:
            self._reported[run.run_id] = _Reported(run, self._kernel.clock.monotonic())
            with suppress(RuntimeError):  # the loop has ended, and a thread that it abandoned reports
                run.loop.call_soon_threadsafe(self._start)

    async def close(self) -> None:
        """Stop the writes."""
        self._reported.clear()
        await cancelled(self._task)

    def _start(self) -> None:
        if self._reported and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._write(), name="cano progress")

    async def _write(self) -> None:
        while self._reported:
            await self._kernel.clock.sleep(INTERVAL)
            due = [each for each in list(self._reported.values()) if self._is_due(each)]
            for first in range(0, len(due), AT_ONCE):
                await asyncio.gather(*map(self._write_one, due[first : first + AT_ONCE]))

    def _is_due(self, reported: _Reported) -> bool:
        """Return whether to write the progress of a run now. Drop the run if its step has ended."""
        run, progress, now = reported.run, reported.run.step.last_progress, self._kernel.clock.monotonic()
        if self._kernel.active.get(run.run_id) is not run or progress is None:
            self._reported.pop(run.run_id, None)
            return False
        if reported.seq != run.step.seq:
            reported.seq, reported.began, reported.due = run.step.seq, now, now + INTERVAL
        return progress is not reported.written and now >= reported.due

    async def _write_one(self, reported: _Reported) -> None:
        run, progress = reported.run, reported.run.step.last_progress
        if progress is None:
            return
        reported.written = progress
        message = None if progress.message is None else self._kernel.limits.cut(safe_str(progress.message))
        with suppress(Exception):  # the next report is written, or the run is about to end here
            await journal_of(run).save_progress([reported.seq, progress.done, progress.total, message])
        now = self._kernel.clock.monotonic()
        reported.due = now + max(0.0, (now - reported.began) / SHARE - INTERVAL)


def progress_of(kernel: Host, stored: StoredRuns, record: RunRecord) -> Progress | None:
    """Return the last progress of the run's present step, as this kernel or else the store knows it; or None."""
    if (run := kernel.active.get(record.run_id)) is not None:
        return run.step.last_progress
    with suppress(StoreError, TypeError, ValueError):
        if (packed := stored.values.own(PROGRESS, record.own, record.run_id)) is not None:
            seq, done, total, message = packed
            return Progress(done, total, message) if seq > record.seq else None
    return None
