"""Events of runs for those that follow them, read from history and record, so that no step does more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

from cano import RunEvent, RunInterruptedError, RunRecord, RunStatus, SerializationError, Transition, read_history
from cano.engine.ports import Host

from cano_durability.lateness.expectations import lateness_of
from cano_durability.looking.progress import progress_of
from cano_durability.recovery.leases import with_status_at
from cano_durability.recovery.waiting import Waiters
from cano_durability.stored_runs import StoredRuns

PAGE = 100
"""The most entries of a history that are read together."""
LOOK = 0.25
"""The most seconds between two looks at a run that is executed: no store notifies of a step."""


class Follower:
    """Follows the runs of one kernel's store."""

    def __init__(self, kernel: Host, stored: StoredRuns, waiters: Waiters, listen: Callable[[], None]) -> None:
        self._kernel = kernel
        self._stored = stored
        self._waiters = waiters
        self._listen = listen  # begins to follow the store's notifications

    async def events(self, run_id: str, after: int | None, follow: bool) -> AsyncIterator[RunEvent]:
        """Yield the events of a run after a position, until it ends."""
        last, seen = -1 if after is None else after, _Seen()
        while True:
            with self._waiters.waiter(run_id) as changed:
                record = await self._stored.record(run_id)  # before its history, which then has all that led to it
                async for entry in self._entries(run_id, None if last < 0 else last // 2):
                    for event in _durable(entry):
                        if event.position > last:
                            last = event.position
                            yield event
                record = with_status_at(record, self._stored.now())
                if record.status.finished and run_id not in self._kernel.active:
                    if last < (end := _position(record.seq, end=True)) and last >= _position(record.seq) - 1:
                        yield self._end(record, end)
                    return
                for event in self._live(record, last, seen):
                    yield event
                if not follow:
                    return
                if self._kernel.closed:
                    message = f"the kernel closed before run {run_id} ended; ask another kernel for its events"
                    raise RunInterruptedError(message, run_id=run_id)
                self._listen()
                parked = record.status is RunStatus.PARKED
                await self._waiters.change(changed, self._kernel.poll if parked else min(LOOK, self._kernel.poll))

    async def _entries(self, run_id: str, after: int | None) -> AsyncIterator[Transition]:
        while page := await read_history(self._stored.backend, run_id, after, PAGE):
            for entry in page:
                yield entry
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def _end(self, record: RunRecord, position: int) -> RunEvent:
        error = self._stored.error(record)
        attempt = getattr(error, "attempt", None) or 1
        return RunEvent(
            "end", position, record.updated, record.state, record.seq, attempt, record.status,
            error=None if error is None else str(error),
        )  # fmt: skip

    def _live(self, record: RunRecord, last: int, seen: _Seen) -> Iterator[RunEvent]:
        """Yield what no history has: failed attempts, progress, and waits in the middle of a step."""
        run, now, failed = self._kernel.active.get(record.run_id), self._stored.now(), 0
        with suppress(SerializationError):
            failed = self._stored.failed_attempts(record) if run is None else run.step.attempt - 1
        position = max(last, 0)
        if seen.seq != record.seq:
            seen.seq, seen.failed, seen.progress, seen.parked = record.seq, 0, None, False
        common = record.state, record.seq + 1
        if failed > seen.failed:
            seen.failed = failed
            yield RunEvent("retry", position, now, *common, failed, record.status)
        progress = progress_of(self._kernel, self._stored, record)
        if progress is not None and progress != seen.progress:
            seen.progress = progress
            yield RunEvent("progress", position, now, *common, failed + 1, record.status, progress=progress)
        parked = record.status is RunStatus.PARKED
        if parked and not seen.parked:
            yield RunEvent("wait", position, now, *common, failed + 1, record.status, wait=record.wait)
        seen.parked = parked
        for late in lateness_of(self._stored.values, record).found(record.status):
            if (late.step, late.since) not in seen.late:
                seen.late.add((late.step, late.since))
                yield RunEvent("late", position, late.at, *common, failed + 1, record.status, late=late)


class _Seen:
    """The last reports of the present step, and what was late."""

    def __init__(self) -> None:
        self.late: set[tuple[bool, float]] = set()

    seq = -1
    failed = 0
    progress: object = None
    parked = False


def _position(seq: int, *, end: bool = False) -> int:
    return 2 * seq + end


def _durable(entry: Transition) -> Iterator[RunEvent]:
    common = entry.at, entry.state, entry.seq, 1, entry.status
    yield RunEvent("transition", _position(entry.seq), *common)
    if entry.status.finished:
        yield RunEvent("end", _position(entry.seq, end=True), *common)
