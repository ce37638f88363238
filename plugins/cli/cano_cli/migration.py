"""Copying the runs of one store into another. Each run follows the runs that its execution needs."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from cano import Clock, RunRecord, SerializationError, Signal, StoreBackend

from cano_cli.contents import LayeredStore, in_signals, signal_conflict
from cano_cli.copied_attributes import Reader, no_attributes
from cano_cli.copied_audit import Importer, copy_audit
from cano_cli.copying import Copier, Kind, Outcome, is_incomplete

SCHEDULES = "cano.schedule"
"""The workflow of the scheduler's records. A scheduler starts the runs that its record names, so runs come first."""
PROBE = "cano migrate-store probe "
"""Prefix of the run id to which `same_store` sends its signal."""
PROBLEMS = (Kind.HELD, Kind.CORRUPT, Kind.REFUSED, Kind.DIFFERENT)


@dataclass(slots=True)
class Tally:
    """The progress and the results of a migration.

    Attributes:
        total: the number of runs to process.
        counts: the number of runs for each result.
        transitions: the number of history entries written.
        signals: the number of signals copied for ids without a run.
        cut: the number of runs whose present state alone was copied, since the source has discarded old history.
        problems: the runs that were not copied, and why.
        current: the id of the run that is processed now.
    """

    total: int = 0
    counts: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(Kind, 0))
    transitions: int = 0
    signals: int = 0
    cut: int = 0
    problems: list[Outcome] = field(default_factory=list)
    current: str = ""

    @property
    def done(self) -> int:
        """The number of processed runs."""
        return sum(self.counts.values())

    def add(self, outcome: Outcome) -> None:
        """Count the result of one run."""
        self.counts[outcome.kind] += 1
        self.transitions += outcome.transitions
        self.cut += outcome.cut
        if outcome.kind in PROBLEMS:
            self.problems.append(outcome)


async def migrate(
    source: LayeredStore,
    target: LayeredStore,
    clock: Clock,
    tally: Tally,
    *,
    workflow: str | None,
    dead_after: float,
    importer: Importer,
    attributes: Reader = no_attributes,
    dry: bool,
) -> None:
    """Copy all runs and signals one after the other, then remove incomplete copies of runs that no longer exist.

    Args:
        source, target: two open stores.
        clock: the time source.
        tally: receives the progress and the results.
        workflow: copy only the runs of this workflow and their sub-workflows.
        dead_after: seconds of inactivity after which another copy to the target counts as dead.
        importer: makes the entries for the target's audit.
        attributes: reads the search attributes of runs.
        dry: whether only to report what would be done.

    Raises:
        StoreError: one of the stores failed.
    """
    copier = Copier(source, target, clock, dead_after=dead_after, importer=importer, attributes=attributes, dry=dry)
    chosen = copy_order(await source.runs(), workflow)
    await _each(copier.copy, chosen, clock, tally, dead_after)
    copies = await target.runs()
    incomplete = [each.run_id for each in copies if is_incomplete(each) and workflow in (None, each.workflow)]
    await _each(copier.remove_incomplete, incomplete, clock, tally, dead_after)
    if workflow is None:
        for run_id in await source.backend.missing_recipients():
            if not run_id.startswith(PROBE):
                await _copy_signals_without_run(source, target, run_id, tally, dry)
    if not dry:
        await copy_audit(source.backend, target.backend, None if workflow is None else {*chosen})


async def _each(
    work: Callable[[str], Awaitable[Outcome]], waiting: list[str], clock: Clock, tally: Tally, dead_after: float
) -> None:
    """Do `work` for each run. While another migration copies a run, wait until it finishes or counts as dead."""
    tally.total += len(waiting)
    while waiting:
        busy = []
        for run_id in waiting:
            tally.current = run_id
            outcome = await work(run_id)
            if outcome.kind is Kind.BUSY:
                busy.append(run_id)  # another migration, which may be dead, began to copy it
            else:
                tally.add(outcome)
        if busy:
            await clock.sleep(min(1.0, dead_after / 4))
        waiting = busy


def copy_order(records: Iterable[RunRecord], workflow: str | None = None) -> list[str]:
    """Return the ids of the runs, oldest first, but each after its sub-workflows, and schedules last.

    A parent starts its missing sub-workflows, and a scheduler starts its missing runs. So those must be copied first.

    Args:
        records: the runs, newest first.
        workflow: only the runs of this workflow and their sub-workflows.
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


async def _copy_signals_without_run(
    source: LayeredStore, target: LayeredStore, run_id: str, tally: Tally, dry: bool
) -> None:
    """Copy the signals of an id that has no run yet."""
    try:
        wanted, found = await source.signals(run_id), await target.signals(run_id)
        problem = signal_conflict(wanted, found)
        if problem is None and await target.record(run_id) is not None:
            problem = "SRC has signals for this id but no run; DST has a run"
        if problem is None and not dry:
            known = {signal.key for signal in found.waiting}
            for signal in wanted.waiting:
                if signal.key not in known:
                    payload = target.wrap_value(f"the payload of the signal {signal.id!r}", signal.payload)
                    await target.backend.put_signal(run_id, signal._replace(payload=payload))
            found = await target.signals(run_id)
            tally.signals += len(found.waiting) - len(known)
            problem = next(iter(in_signals(wanted, found)), None)
    except SerializationError as error:
        problem = str(error)
    if problem is not None:
        tally.add(Outcome(run_id, Kind.REFUSED, problem))


async def same_store(source: StoreBackend, target: StoreBackend) -> bool:
    """Return whether two backends access the same store: a signal put into `target` appears in `source`."""
    probe = f"{PROBE}{uuid.uuid4().hex}"
    if not target.capabilities.retention:
        return False  # the probe could not be deleted; and copying a store onto itself changes nothing
    for run_id in await target.missing_recipients():
        if run_id.startswith(PROBE):  # left by a process that was killed before the deletion below
            await target.delete(run_id)
    await target.put_signal(probe, Signal("probe", "probe"))
    try:
        return bool((await source.signals(probe)).waiting)
    finally:
        await target.delete(probe)
