"""The queues of stores with SQL: the statuses in their rows, and the turns of lanes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, LiteralString, NamedTuple

from cano import Lane, RunFilter, RunRecord, RunStatus

from cano_durability.restating import is_unbegun

LISTED: LiteralString = "100"
"""The most runs of a definition and a queue that wait there and are listed as ready."""
IN_QUEUE: LiteralString = "status IN ('enqueued', 'due')"
"""The condition of the index `runs_queued`, which SQLite reads for queries with these very words."""
QUEUED, DELAYED, DUE = "enqueued", "delayed", "due"
"""The status in the row of a run that waits in a queue; of one that was submitted with a delay, before and after its
time. Others have the run's own, so that no index of running or waiting runs has those in queues."""
STATUSES = {status.value: status for status in RunStatus} | {
    QUEUED: RunStatus.RUNNING, DELAYED: RunStatus.PARKED, DUE: RunStatus.PARKED
}  # fmt: skip
"""The run's status by the one in its row."""


def columns_of(run: RunRecord, wake: float | None) -> tuple[str, float | None, tuple[Any, ...]]:
    """Return what the row of a new run has: its status and `wake`; and queue, priority, key, class and `due`."""
    if run.lane is None:
        return run.status.value, wake, (None,) * 5
    lane = *run.lane, class_of(run.workflow, run.version, run.fingerprint, run.lane.queue), wake
    if not run.in_queue:
        return run.status.value, wake, lane
    return (QUEUED, wake, lane) if run.status is RunStatus.RUNNING else (DELAYED, None, lane)


def is_new(run: RunRecord) -> bool:
    """Return whether a run that was claimed comes out of a queue."""
    return run.lane is not None and is_unbegun(run)


def statuses_of(filter: RunFilter) -> list[str]:
    """Return the statuses of the rows of the runs with the status of a filter: one list for each has to be read."""
    if filter.status is None:
        return [""]
    status = filter.status
    in_queue = [] if filter.held else [name for name in (QUEUED, DELAYED, DUE) if STATUSES[name] is status]
    return [status.value, *in_queue]


def first_of(filter: RunFilter, lists: Sequence[Iterable[RunRecord]]) -> list[RunRecord]:
    """Return the first runs of lists that are sorted as the filter says."""
    found = [run for runs in lists for run in runs]
    if len(lists) > 1:
        found.sort(key=filter.place_of, reverse=not filter.ascending)
    return found if filter.limit is None else found[: max(filter.limit, 0)]


def class_of(workflow: str, version: str, fingerprint: str, queue: str) -> int:
    """Return a hash of a definition and a queue, under which an index has its runs."""
    from hashlib import blake2b  # late: importing it takes 1 ms

    text = "\0".join((workflow, version, fingerprint, queue)).encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big", signed=True)


class Span(NamedTuple):
    """A part of the lanes of one priority, in the order of their turns: keys of a class, above `low`, up to `high`."""

    number: int
    low: str | None = None
    high: str | None = None


class Turns:
    """The lanes that had the last turn, by priority. A lane is the number of a class, and a key."""

    def __init__(self) -> None:
        self.last: dict[int, tuple[int, str]] = {}

    def spans(self, priority: int, classes: Iterable[int]) -> list[Span]:
        """Return the lanes of these classes, beginning after the one that had the last turn."""
        ordered = sorted(classes)
        if (last := self.last.get(priority)) is None:
            return [*map(Span, ordered)]
        number, key = last
        own = [Span(number, low=key)] if number in ordered else []
        rest = [Span(number, high=key)] if own else []
        after, before = ([*map(Span, some)] for some in (
            (each for each in ordered if each > number), (each for each in ordered if each < number)
        ))  # fmt: skip
        return [*own, *after, *before, *rest]

    def claimed(self, runs: Iterable[RunRecord]) -> None:
        """Note which runs in queues were claimed: the last turn had the last lane of those that got the most runs."""
        counts: dict[int, dict[tuple[int, str], int]] = {}
        for run in runs:
            queue, priority, key = run.lane or Lane()
            lane = class_of(run.workflow, run.version, run.fingerprint, queue), key
            lanes = counts.setdefault(priority, {})
            lanes[lane] = lanes.get(lane, 0) + 1
        for priority, lanes in counts.items():
            most, last = max(lanes.values()), self.last.get(priority)
            turn = [lane for lane, count in lanes.items() if count == most]
            self.last[priority] = max(turn, key=lambda lane: (last is not None and lane <= last, lane))
