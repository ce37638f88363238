"""Events of runs for those that follow them, read from history and record, so that no step does more."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from cano import (
    Run,
    RunEvent,
    RunInterruptedError,
    RunRecord,
    RunStatus,
    SerializationError,
    Transition,
    read_history,
    state_name,
)
from cano.engine.ports import Host

from cano_durability.lateness.expectations import lateness_of
from cano_durability.lateness.watching import LateRuns
from cano_durability.looking.progress import progress_of
from cano_durability.recovery.leases import journal_of, with_status_at
from cano_durability.recovery.waiting import Waiters
from cano_durability.stored_runs import StoredRuns

PAGE = 100
"""The most entries of a history that are read together."""
LOOK = 0.25
"""The least seconds between two looks at a run without a notification. None is one of a step in another process."""


class Follower:
    """Follows the runs of one kernel's store, and those of the kernel that no store keeps.

    A commit of a run that is executed here wakes its readers. Between two of them, looks at it read nothing.
    """

    def __init__(
        self, kernel: Host, stored: StoredRuns, waiters: Waiters, late: LateRuns, listen: Callable[[], bool]
    ) -> None:
        self._kernel = kernel
        self._stored = stored
        self._waiters = waiters
        self._late = late
        self._listen = listen  # follows the store's notifications; see `Caretaker.start`
        self._readers = Counter[str]()

    async def events(self, run_id: str, after: int | None, follow: bool, run: Run | None) -> AsyncIterator[RunEvent]:
        """Yield the events of a run after a position, until it ends. `run` is the run's object, if there is one."""
        last, seen = -1 if after is None else after, _Seen()
        if run is not None and run.journal is None and run.status is not RunStatus.PARKED:
            async for event in self._unkept(run, last, follow):
                last = event.position
                yield event
            if run.journal is None or not follow:
                return
        record, pause = None, LOOK
        with self._reader(run_id):
            while True:
                with self._waiters.waiter(run_id) as changed:
                    before = last, seen.facts
                    if record is None or not self._is_current(record):
                        record = await self._stored.record(run_id)  # before its history, which has all that led to it
                        async for entry in self._entries(run_id, None if last < 0 else last // 2):
                            for event in _durable(entry):
                                if event.position > last:
                                    last = event.position
                                    yield event
                    shown = with_status_at(record, self._stored.now())
                    if shown.status.finished and run_id not in self._kernel.active:
                        if last < (end := _position(shown.seq, end=True)) and last >= _position(shown.seq) - 1:
                            yield self._end(shown, end)
                        return
                    for event in self._live(shown, last, seen):
                        yield event
                    if not follow:
                        return
                    self._check_open(run_id)
                    quiet = before == (last, seen.facts) and run_id not in self._kernel.active
                    pause = min(2 * pause if quiet else LOOK, self._kernel.poll)
                    parked = not self._listen() and shown.status is RunStatus.PARKED  # until now nothing was notified
                    await self._waiters.change(changed, self._kernel.poll if parked else pause)

    async def _unkept(self, run: Run, last: int, follow: bool) -> AsyncIterator[RunEvent]:
        """Yield the events of a run that no store keeps, as looks find them, until its end, or until a store has it."""
        seen = _Seen()
        run.when_stopped(lambda: self._waiters.notify(run.run_id))
        while run.journal is None:
            with self._waiters.waiter(run.run_id) as changed:
                error, name = run.error, state_name(run.state)
                record = RunRecord(run.run_id, run.workflow, run.version, "", name, run.steps, run.status)
                if last < (position := _position(record.seq)):
                    last = position
                    yield RunEvent("transition", last, self._stored.now(), name, record.seq, 1, RunStatus.RUNNING)
                if record.status.finished:
                    if last < (position := _position(record.seq, end=True)):
                        yield _ended(record._replace(updated=run.stopped_at), position, error)
                    return
                for event in self._live(record, last, seen):
                    yield event
                if not follow:
                    return
                self._check_open(run.run_id)
                if error is not None:  # it was interrupted, and this object is all that there is of it
                    raise error
                await self._waiters.change(changed, LOOK)

    @contextmanager
    def _reader(self, run_id: str) -> Iterator[None]:
        """Let each commit of a run that is executed here wake its readers."""
        self._readers[run_id] += 1
        self._stored.followed[run_id] = partial(self._waiters.notify, run_id)
        try:
            yield
        finally:
            self._readers[run_id] -= 1
            if not self._readers[run_id]:
                del self._readers[run_id], self._stored.followed[run_id]

    def _is_current(self, record: RunRecord) -> bool:
        """Return whether a run that is executed here has made no transition since its record was read."""
        run = self._kernel.active.get(record.run_id)
        if run is None or run.journal is None or record.status is not RunStatus.RUNNING:
            return False
        journal = journal_of(run)
        return (journal.seq, journal.token) == (record.seq, record.token)

    def _check_open(self, run_id: str) -> None:
        if self._kernel.closed:
            message = f"the kernel closed before run {run_id} ended; ask another kernel for its events"
            raise RunInterruptedError(message, run_id=run_id)

    async def _entries(self, run_id: str, after: int | None) -> AsyncIterator[Transition]:
        while page := await read_history(self._stored.backend, run_id, after, PAGE):
            for entry in page:
                yield entry
            if len(page) < PAGE:
                return
            after = page[-1].seq

    def _end(self, record: RunRecord, position: int) -> RunEvent:
        return _ended(record, position, self._stored.error(record))

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
        known = lateness_of(self._stored.values, record) if run is None else self._late.known(record.run_id)
        for late in () if known is None else known.found(record.status):
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

    @property
    def facts(self) -> tuple[object, ...]:
        """All of them."""
        return self.seq, self.failed, self.progress, self.parked, len(self.late)


def _position(seq: int, *, end: bool = False) -> int:
    return 2 * seq + end


def _durable(entry: Transition) -> Iterator[RunEvent]:
    common = entry.at, entry.state, entry.seq, 1, entry.status
    yield RunEvent("transition", _position(entry.seq), *common)
    if entry.status.finished:
        yield RunEvent("end", _position(entry.seq, end=True), *common)


def _ended(record: RunRecord, position: int, error: BaseException | None) -> RunEvent:
    attempt, text = getattr(error, "attempt", None) or 1, None if error is None else str(error)
    return RunEvent("end", position, record.updated, record.state, record.seq, attempt, record.status, error=text)
