"""Running a split: its branches side by side, the join's decision, and the merge of what they wrote."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from cano.engine.attempts import attempt_until_done, place, raise_failed
from cano.engine.step import Step, running
from cano.engine.strand import Strand
from cano.engine.teardown import reap
from cano.engine.view import Changes, StoreView
from cano.errors import (
    ConfigurationError,
    ConflictError,
    JoinError,
    MergeConflictError,
    SerializationError,
    StoreError,
    StoreUnavailableError,
    TransitionError,
)
from cano.model.known_types import functions_of, keys_used
from cano.model.split import HIDDEN, OUTCOME, BranchOutcome, BranchStatus, JoinConfig, SplitOutcome, check_branches
from cano.model.waiting import Pause, StoreFailed

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.run import Run

Reducer = Callable[[Any, Any], Any]
_SHOWN = 20  # branches named in an error message
_NO_RESULTS = frozenset({CoroutineType, Pause})


async def run_split(run: Run, bound: BoundState) -> Any:
    """Run the branches of `bound`, merge what they wrote into the run's view, and return the next state.

    Raises:
        JoinError: the join's condition is not met, or cannot be.
        MergeConflictError: branches wrote different values to one key.
        TaskError: the function that makes the branches, or a reducer, raised.
    """
    split = bound.split
    assert split is not None
    join, step = split.join, run.step
    try:
        targets = bound.branches if split.make is None else await _made(run, bound, split.make)
    except Exception as error:  # noqa: BLE001  # wrapped, like all that a user's code raises
        raise_failed(step, error)
    race = _Race(run, join)
    branches = [Branch(race, run, target, index) for index, target in enumerate(targets)]
    try:
        needed = join.strategy.needed(len(branches))
    except ConfigurationError as error:
        outcome = SplitOutcome(tuple(branch.outcome() for branch in branches))
        raise JoinError(str(error), outcome=outcome, **place(step)) from error
    met = await race.run(branches, needed)
    outcome = SplitOutcome(tuple(branch.outcome() for branch in branches), race.timed_out)
    if not met:
        raise _failure(run, join, outcome)
    written = [
        (branch.name, branch.view.changes())
        for branch in branches
        if branch.status is BranchStatus.OK and branch.view.touched
    ]
    try:
        merge(run.view, written, _reducers(join, targets))
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001  # a reducer raised
        raise_failed(step, error)
    step._hand_on(outcome=outcome)
    if run.journal is not None and run.journal.eager:
        run.journal.hidden[OUTCOME] = outcome.packed()
    return join.next_state


def _reducers(join: JoinConfig, branches: list[BoundState]) -> Callable[[str], Reducer | None]:
    """Finds the reducer of a key: the join's own, or that of a `Key` in the branches' code."""

    def find(key: str) -> Reducer | None:
        stated: Mapping[str, Reducer] = join.reducers  # type: ignore[assignment]  # a mapping once constructed
        if key in stated:
            return stated[key]
        used = (k for branch in branches for f in functions_of(branch.task or branch.function) for k in keys_used(f))
        return next((k.reducer for k in used if k.name == key and k.reducer is not None), None)

    return find


async def _made(run: Run, bound: BoundState, make: Callable[[Any], Any]) -> list[BoundState]:
    """The branches that a user's function makes of the store."""
    made = make(run.store)
    if inspect.isawaitable(made):
        made = await made
    return [bound.branch(run.kernel, task) for task in check_branches(made)]


class Branch(Strand):
    """One branch of a split, with a view of the store of its own."""

    __slots__ = ("bound", "error", "name", "race", "result", "status")

    def __init__(self, race: _Race, run: Run, bound: BoundState, index: int) -> None:
        Strand.__init__(self, run.kernel, run.plan, run.store if run.store is not run.view else run.view.detached())
        self.race = race
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

    async def execute(self) -> None:
        """Do the branch's work, with retries and limits of its own; note how it ended, and tell the race."""
        race = self.race
        if race.decided.done():
            return
        self.status = BranchStatus.CANCELLED
        self.enter()
        running.set(self.step)  # the task has a context of its own: there is nothing to reset
        plan = self.plan
        if plan.step_started:
            self.notify(plan.step_started, self.step)
        try:
            result = await self._work()
            if race.decided.done():
                raise asyncio.CancelledError  # it comes too late: it would have been cancelled
        except BaseException as error:  # noqa: BLE001  # what is no `Exception` goes on through the race
            self.rollback(self.bound, error)
            self.step._own().error = error.error if isinstance(error, StoreFailed) else error
            if plan.step_failed:
                self.notify(plan.step_failed, self.step)
            if isinstance(error, Exception):
                self.error = error
                self.status = BranchStatus.FAILED
            elif not isinstance(error, asyncio.CancelledError):
                race.abort(error)
        else:
            self.result = result
            self.status = BranchStatus.OK
            if plan.step_finished:
                self.notify(plan.step_finished, self.step)
        self.leave()
        race.ended(self)

    async def _work(self) -> Any:
        bound, run = self.bound, self.step._run
        if run.kept and (kept := run.kept.get(self._key)) is not None:
            try:
                result, (cleared, removed, changed, appended) = kept
                self.view.merge(Changes(cleared, frozenset(removed), changed, appended))
            except (AttributeError, TypeError, ValueError) as error:
                message = f"run {run.run_id} is damaged: what branch {self.name} has done makes no sense: {error!r}"
                raise SerializationError(message, key=self._key) from error
            return result
        if bound.fast:  # as in the step loop
            began = self.kernel.clock.monotonic() if bound.timed else None
            try:
                result = await bound.call(self.store)
            except Exception as error:  # noqa: BLE001
                result = await attempt_until_done(self, bound, error, began)
        else:
            result = await attempt_until_done(self, bound)
        if result.__class__ in _NO_RESULTS:
            raise self._refusal(result)
        if run.journal is not None and run.journal.eager and not self.race.decided.done():
            # a durable run keeps what a branch has done, so that a resumed split runs the unfinished ones only
            cleared, removed, changed, appended = self.view.changes()
            done = [result, (cleared, sorted(removed), dict(changed), dict(appended))]
            try:
                await run.journal.keep(self._key, done)
            except (ConflictError, StoreUnavailableError) as error:
                raise StoreFailed(error) from error
        return result

    @property
    def _key(self) -> str:
        return f"{HIDDEN}branch {self.step.seq} {self.name}"

    def _refusal(self, result: Any) -> TransitionError:
        """The error of a branch whose work is not done when it returns."""
        if inspect.iscoroutine(result):
            result.close()
            problem = "a coroutine: was an `await`, or `async def`, forgotten?"
        else:
            problem = f"{result!r}: a branch cannot wait; a state can, or a sub-workflow's"
        message = f"branch {self.name!r} of state {self.step.state} returned {problem}"
        return TransitionError(message, returned=result, **place(self.step))


class _Race:
    """Starts branches, as many at a time as allowed, until the join can be decided; then ends the rest."""

    def __init__(self, run: Run, join: JoinConfig) -> None:
        self.timed_out = False
        self.decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._run = run
        self._join = join
        self._patient = join.strategy.kind == "partial"
        self._branches: list[Branch] = []
        self._needed = 0
        self._broken_by: BaseException | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started = self._ended = self._ok = 0

    async def run(self, branches: list[Branch], needed: int) -> bool:
        """Whether as many branches as needed have succeeded."""
        clock = self._run.kernel.clock
        self._branches, self._needed = branches, needed
        timer = None
        if self._join.timeout is not None:
            timer = clock.call_at(clock.monotonic() + self._join.timeout, self._time_is_over)
        try:
            self._judge()
            self._start()
            met = await self.decided
        finally:
            if timer is not None:
                timer.cancel()
            if not self.decided.done():
                self.decided.cancel()
            self._branches = []  # each of them refers to the race
            await reap(self._tasks, clock)
        if self._broken_by is not None:
            raise self._broken_by
        return met

    def _start(self) -> None:
        limit = self._join.limit or len(self._branches)
        while self._started - self._ended < limit and self._started < len(self._branches) and not self.decided.done():
            task = asyncio.get_running_loop().create_task(self._branches[self._started].execute())
            self._started += 1
            self._tasks.append(task)

    def ended(self, branch: Branch) -> None:
        """Count a branch that has ended, decide if that decides, and let the next one begin."""
        self._ended += 1
        self._ok += branch.status is BranchStatus.OK
        self._judge()
        if self._started < len(self._branches):
            self._start()

    def abort(self, error: BaseException) -> None:
        """End the split with what a branch raised that is no `Exception`."""
        if not self.decided.done():
            self._broken_by = error
            self.decided.set_result(False)

    def _judge(self) -> None:
        if self.decided.done():
            return
        pending = len(self._branches) - self._ended
        if self._ok + pending < self._needed:
            self.decided.set_result(False)
        elif self._ok >= self._needed and not (self._patient and pending):
            self.decided.set_result(True)

    def _time_is_over(self) -> None:
        if not self.decided.done():
            self.timed_out = True
            self.decided.set_result(self._ok >= self._needed)


def _failure(run: Run, join: JoinConfig, outcome: SplitOutcome) -> JoinError:
    shown = sorted(outcome.branches, key=lambda branch: branch.error is None)[:_SHOWN]  # the failed ones first
    lines = [
        f"\n  - {branch.name}: {branch.status.value}" + (f" ({branch.error})" if branch.error is not None else "")
        for branch in shown
    ]
    if len(outcome.branches) > _SHOWN:
        lines.append(f"\n  … and {len(outcome.branches) - _SHOWN} more")
    error = JoinError(
        f"join {join.strategy} was not met: {outcome}" + "".join(lines), outcome=outcome, **place(run.step)
    )
    error.__cause__ = next(iter(outcome.errors), None)
    return error


def merge(view: StoreView, written: list[tuple[str, Changes]], reducer_of: Callable[[str], Reducer | None]) -> None:
    """Write what several branches did into one view.

    Raises:
        MergeConflictError: two of them did different things to one key that has no reducer.
    """
    puts: dict[str, dict[str, Any]] = {}
    removals: dict[str, list[str]] = {}
    appends: dict[str, list[Any]] = {}
    there = frozenset(view.keys())
    for name, changes in written:
        gone = there if changes.cleared else changes.removed & there
        replaced = {key: items for key, items in changes.appended.items() if key in gone}  # by a list of its own
        for key, value in {**changes.changed, **replaced}.items():
            puts.setdefault(key, {})[name] = value
        for key in sorted(gone.difference(changes.changed, replaced)):
            removals.setdefault(key, []).append(name)
        for key, items in changes.appended.items():
            if key not in replaced:
                appends.setdefault(key, []).extend(items)
    for key, values in puts.items():
        first = next(iter(values.values()))
        reducer = reducer_of(key) if len(values) > 1 else None
        different = reducer is None and any(not _alike(value, first) for value in values.values())
        if key in removals or key in appends or different:
            raise _conflict(key, values, removals.get(key, []), appends.get(key))
        view.put(key, first if reducer is None else reduce(reducer, values.values()))
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
