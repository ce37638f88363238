"""Copying the runs of one store into another, in an order in which nobody misses one that is not there yet."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from cano import Clock, RunRecord, SerializationError, Signal, StoreBackend

from cano_cli.contents import Place, in_signals, signals_obstacle
from cano_cli.copying import Copier, Kind, Outcome, is_half

SCHEDULES = "cano.schedule"
"""The workflow under which the scheduler keeps its records. They name runs, and whoever sees them starts those."""
PROBE = "cano migrate-store probe "
PROBLEMS = (Kind.HELD, Kind.DAMAGED, Kind.REFUSED, Kind.DIFFERENT)


@dataclass(slots=True)
class Tally:
    """What has become of the runs so far.

    Attributes:
        total: how many there are to look at.
        counts: how many have met with which end.
        transitions: lines of history written.
        signals: signals put for ids that no run has yet.
        problems: the runs that are not in the target as they are in the source, and why.
        present: the run that is being looked at.
    """

    total: int = 0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    transitions: int = 0
    signals: int = 0
    problems: list[Outcome] = field(default_factory=list)
    present: str = ""

    @property
    def done(self) -> int:
        """How many were looked at."""
        return sum(self.counts.values())

    def add(self, outcome: Outcome) -> None:
        """Count what has become of a run."""
        self.counts[outcome.kind] += 1
        self.transitions += outcome.transitions
        if outcome.kind in PROBLEMS:
            self.problems.append(outcome)


async def migrate(
    source: Place,
    target: Place,
    clock: Clock,
    tally: Tally,
    *,
    workflow: str | None,
    silence: float,
    dry: bool,
) -> None:
    """Copy all runs and signals, one after the other, and remove unfinished copies of runs that are gone.

    Args:
        source, target: two stores, open.
        clock: tells the time.
        tally: told what becomes of each.
        workflow: only the runs of this workflow, and those that they have started.
        silence: seconds after which whoever copies to the same target is taken for dead.
        dry: whether to find out only what would be done.

    Raises:
        StoreError: one of the stores fails.
    """
    copier = Copier(source, target, clock, silence=silence, dry=dry)
    await _each(copier.copy, in_order(await source.listed(), workflow), clock, tally, silence)
    halves = [each.run_id for each in await target.listed() if is_half(each) and workflow in (None, each.workflow)]
    await _each(copier.remove_half, halves, clock, tally, silence)
    if workflow is None:
        for run_id in await source.backend.missing_recipients():
            if not run_id.startswith(PROBE):
                await _copy_early(source, target, run_id, tally, dry)


async def _each(
    work: Callable[[str], Awaitable[Outcome]], waiting: list[str], clock: Clock, tally: Tally, silence: float
) -> None:
    """Do `work` for each run; where another migration is at it, when it is done with it, or dead."""
    tally.total += len(waiting)
    while waiting:
        busy = []
        for run_id in waiting:
            tally.present = run_id
            outcome = await work(run_id)
            if outcome.kind is Kind.BUSY:
                busy.append(run_id)  # its copy was begun by somebody else a moment ago: perhaps he is dead
            else:
                tally.add(outcome)
        if busy:
            await clock.sleep(min(1.0, silence / 4))
        waiting = busy


def in_order(records: Iterable[RunRecord], workflow: str | None = None) -> list[str]:
    """The ids of runs, the oldest first, but each after those that it has started, and schedules last.

    Whoever drives a parent, or looks after a schedule, starts what is missing of its runs.

    Args:
        records: the newest first.
        workflow: only the runs of this workflow, and those that they have started.
    """
    children: dict[str | None, list[str]] = {}
    chosen, schedules = list[str](), list[str]()
    for record in records:
        children.setdefault(record.parent, []).append(record.run_id)
        if workflow in (None, record.workflow):
            (schedules if record.workflow == SCHEDULES else chosen).append(record.run_id)
    ordered: dict[str, None] = {}
    begun: set[str] = set()
    stack = schedules + chosen
    while stack:
        run_id = stack[-1]
        if run_id not in begun:
            begun.add(run_id)
            stack += [child for child in children.get(run_id, ()) if child not in begun]
        else:
            ordered.setdefault(stack.pop())
    return list(ordered)


async def _copy_early(source: Place, target: Place, run_id: str, tally: Tally, dry: bool) -> None:
    """Copy the signals of an id that no run has yet."""
    try:
        wanted, found = await source.signals(run_id), await target.signals(run_id)
        problem = signals_obstacle(wanted, found)
        if problem is None and await target.record(run_id) is not None:
            problem = "the source has signals for it and no run, but there is a run of this id there"
        if problem is None and not dry:
            known = {signal.id for signal in found.waiting}
            for signal in wanted.waiting:
                if signal.id not in known:
                    payload = target.closed(f"the payload of the signal {signal.id!r}", signal.payload)
                    await target.backend.put_signal(run_id, signal._replace(payload=payload))
            found = await target.signals(run_id)
            tally.signals += len(found.waiting) - len(known)
            problem = next(iter(in_signals(wanted, found)), None)
    except SerializationError as error:
        problem = str(error)
    if problem is not None:
        tally.add(Outcome(run_id, Kind.REFUSED, problem))


async def are_one(source: StoreBackend, target: StoreBackend) -> bool:
    """Whether two backends are of one store, whatever their URLs say: what is sent to one is found in the other."""
    probe = f"{PROBE}{uuid.uuid4().hex}"
    if not target.capabilities.retention:
        return False  # the probe would stay for ever; and copying a store onto itself changes nothing
    for left in await target.missing_recipients():
        if left.startswith(PROBE):  # by a process that was killed just here
            await target.delete(left)
    await target.put_signal(probe, Signal("probe", "probe"))
    try:
        return bool((await source.signals(probe)).waiting)
    finally:
        await target.delete(probe)
