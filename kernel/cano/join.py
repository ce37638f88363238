"""Running a split: its branches side by side, the join's decision, and the merge of what they wrote."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING, Any

from cano.attempts import attempt_until_done, place
from cano.errors import ConfigurationError, JoinError, MergeConflictError
from cano.split import HIDDEN, OUTCOME, BranchOutcome, BranchStatus, JoinConfig, SplitOutcome, SplitTask, check_branches
from cano.step import Step, running
from cano.strand import Strand
from cano.teardown import reap
from cano.view import Changes, StoreView

if TYPE_CHECKING:
    from cano.binding import BoundState
    from cano.run import Run

_SHOWN = 20  # branches named in an error message


async def run_split(run: Run, bound: BoundState) -> Any:
    """Run the branches of `bound`, merge what they wrote into the run's view, and return the next state.

    Raises:
        JoinError: the join's condition is not met, or cannot be.
        MergeConflictError: branches wrote different values to one key.
    """
    split = bound.split
    assert split is not None
    branches = [Branch(run, target, index) for index, target in enumerate(await _targets(run, bound, split))]
    try:
        needed = split.join.strategy.needed(len(branches))
    except ConfigurationError as error:
        raise JoinError(str(error), outcome=SplitOutcome(()), **place(run.step)) from error
    race = _Race(run, branches, split.join, needed)
    met = await race.run()
    outcome = SplitOutcome(tuple(branch.outcome() for branch in branches), race.timed_out)
    if not met:
        raise _failure(run, split.join, outcome)
    written = [(branch.name, branch.view.changes()) for branch in branches if branch.status is BranchStatus.OK]
    merge(run.view, written, split.join.reducers)  # type: ignore[arg-type]  # a mapping once constructed
    run.step._hand_on(outcome=outcome)
    if run.journal is not None and run.journal.eager:
        run.journal.hidden[OUTCOME] = outcome.packed()
    return split.join.next_state


async def _targets(run: Run, bound: BoundState, split: SplitTask) -> list[BoundState]:
    if split.make is None:
        return bound.branches
    made = split.make(run.store)
    if inspect.isawaitable(made):
        made = await made
    return [bound.branch(run.kernel, task) for task in check_branches(made)]


class Branch(Strand):
    """One branch of a split, with a view of the store of its own."""

    __slots__ = ("bound", "error", "name", "result", "status")

    def __init__(self, run: Run, bound: BoundState, index: int) -> None:
        super().__init__(run.kernel, run.plan, run.store if run.store is not run.view else run.view.detached())
        self.bound = bound
        self.name = f"{index}:{bound.task_name}"
        self.status = BranchStatus.NOT_STARTED
        self.result: Any = None
        self.error: BaseException | None = None
        self.step = Step(run, bound, self.name)
        self.step._seq = run.step._seq

    def outcome(self) -> BranchOutcome:
        """How it ended."""
        return BranchOutcome(self.name, self.status, self.result, self.error)

    async def execute(self) -> BranchStatus:
        """Do the branch's work, with retries and limits of its own; note, and return, how it ended."""
        self.status = BranchStatus.CANCELLED
        self.enter()
        running.set(self.step)  # the task has a context of its own: there is nothing to reset
        plan = self.plan
        if plan.step_started:
            self.notify(plan.step_started, self.step)
        try:
            if not self._restore():
                self.result = await attempt_until_done(self, self.bound)
                await self._keep()
        except BaseException as error:
            self.rollback(self.bound, error)
            self.step._own().error = error
            if plan.step_failed:
                self.notify(plan.step_failed, self.step)
            if not isinstance(error, Exception):
                raise
            self.error = error
            self.status = BranchStatus.FAILED
        else:
            self.status = BranchStatus.OK
            if plan.step_finished:
                self.notify(plan.step_finished, self.step)
        finally:
            self.leave()
        return self.status

    # a durable run keeps what a branch has done, so that a resumed split runs the unfinished ones only

    @property
    def _key(self) -> str:
        return f"{HIDDEN}branch {self.step.seq} {self.name}"

    def _restore(self) -> bool:
        kept = self.step.run.kept.get(self._key)
        if kept is not None:
            self.result, (cleared, removed, changed, appended) = kept
            self.view.merge(Changes(cleared, frozenset(removed), changed, appended))
        return kept is not None

    async def _keep(self) -> None:
        journal = self.step.run.journal
        if journal is not None and journal.eager:
            cleared, removed, changed, appended = self.view.changes()
            done = (cleared, sorted(removed), dict(changed), dict(appended))
            await journal.keep(self._key, [self.result, done])


class _Race:
    """Starts branches, as many at a time as allowed, until the join can be decided; then ends the rest."""

    def __init__(self, run: Run, branches: list[Branch], join: JoinConfig, needed: int) -> None:
        self.timed_out = False
        self._run = run
        self._branches = branches
        self._waiting = iter(branches)
        self._needed = needed
        self._limit = join.limit or len(branches)
        self._patient = join.strategy.kind == "partial"
        self._timeout = join.timeout
        self._tasks: set[asyncio.Task[BranchStatus]] = set()
        self._ended = self._ok = 0
        self._decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    async def run(self) -> bool:
        """Whether the join's condition was met."""
        clock = self._run.kernel.clock
        timer = None
        if self._timeout is not None:
            timer = clock.call_at(clock.monotonic() + self._timeout, self._time_is_over)
        try:
            self._judge()
            self._start()
            return await self._decided
        finally:
            if timer is not None:
                timer.cancel()
            if not self._decided.done():
                self._decided.cancel()
            await reap(list(self._tasks), clock)

    def _start(self) -> None:
        while len(self._tasks) < self._limit and not self._decided.done():
            branch = next(self._waiting, None)
            if branch is None:
                return
            task = asyncio.get_running_loop().create_task(branch.execute())
            self._tasks.add(task)
            task.add_done_callback(self._branch_ended)

    def _branch_ended(self, task: asyncio.Task[BranchStatus]) -> None:
        self._tasks.discard(task)
        self._ended += 1
        if not task.cancelled() and task.exception() is None and task.result() is BranchStatus.OK:
            self._ok += 1
        self._judge()
        self._start()

    def _judge(self) -> None:
        if self._decided.done():
            return
        pending = len(self._branches) - self._ended
        if self._ok + pending < self._needed:
            self._decided.set_result(False)
        elif self._ok >= self._needed and not (self._patient and pending):
            self._decided.set_result(True)

    def _time_is_over(self) -> None:
        if not self._decided.done():
            self.timed_out = True
            self._decided.set_result(self._ok >= self._needed)


def _failure(run: Run, join: JoinConfig, outcome: SplitOutcome) -> JoinError:
    lines = [
        f"\n  - {branch.name}: {branch.status.value}" + (f" ({branch.error})" if branch.error is not None else "")
        for branch in outcome.branches[:_SHOWN]
    ]
    if len(outcome.branches) > _SHOWN:
        lines.append(f"\n  … and {len(outcome.branches) - _SHOWN} more")
    error = JoinError(
        f"join {join.strategy} was not met: {outcome}" + "".join(lines), outcome=outcome, **place(run.step)
    )
    error.__cause__ = next(iter(outcome.errors), None)
    return error


def merge(
    view: StoreView, written: list[tuple[str, Changes]], reducers: Mapping[str, Callable[[Any, Any], Any]]
) -> None:
    """Write what several branches did into one view.

    Raises:
        MergeConflictError: two of them did different things to one key that has no reducer.
    """
    puts: dict[str, dict[str, Any]] = {}
    removals: dict[str, list[str]] = {}
    appends: dict[str, list[Any]] = {}
    for name, changes in written:
        for key in changes.removed.union(view.keys() if changes.cleared else ()):
            if key not in changes.changed:
                removals.setdefault(key, []).append(name)
        for key, value in changes.changed.items():
            puts.setdefault(key, {})[name] = value
        for key, items in changes.appended.items():
            appends.setdefault(key, []).extend(items)
    for key, values in puts.items():
        different = [value for value in values.values() if not _alike(value, next(iter(values.values())))]
        if key in removals or key in appends or (different and key not in reducers):
            raise _conflict(key, values, removals.get(key, []), appends.get(key))
        view.put(key, reduce(reducers[key], values.values()) if key in reducers else next(iter(values.values())))
    for key, names in removals.items():
        if key in appends:
            raise _conflict(key, {}, names, appends[key])
        view.remove(key)
    for key, items in appends.items():
        for item in items:
            view.append(key, item)


def _conflict(key: str, values: Mapping[str, Any], removers: list[str], appended: Any) -> MergeConflictError:
    did = {**values, **dict.fromkeys(removers, "(removed)")}
    if appended is not None:
        did["(appended by others)"] = appended
    shown = "; ".join(f"{name} wrote {value!r:.80}" for name, value in list(did.items())[:_SHOWN])
    return MergeConflictError(
        f"branches wrote different values to key {key!r}: {shown}. Give the key a reducer, or let them append",
        key=key,
        values=did,
    )


def _alike(one: Any, other: Any) -> bool:
    try:
        return one is other or (type(one) is type(other) and bool(one == other))
    except Exception:  # noqa: BLE001  # a user's __eq__ may raise; then the values count as different
        return False
