"""Splits at run time: the branches, the race that decides their join, and the join."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from cano.checks import time_limit
from cano.concurrency.merge import SHOWN, Reducer, merge
from cano.data.changes import Changes
from cano.data.store import Key
from cano.engine.attempts import attempt_until_done, failed_attempts, raise_failed, retry_key
from cano.engine.control import StoreFailed
from cano.engine.step import Step, location_of, running
from cano.engine.strand import Strand
from cano.errors import (
    ConfigurationError,
    JoinError,
    SerializationError,
    StoreError,
    TransientStoreError,
    TransitionError,
)
from cano.model.code_reading import functions_of, keys_used
from cano.model.split import BranchOutcome, BranchStatus, JoinConfig, SplitOutcome, SplitTask, check_branches
from cano.model.waiting import Pause
from cano.runtime.groups import taking_back
from cano.runtime.teardown import reap
from cano.safe_text import safe_repr, safe_str

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.ports import Host
    from cano.engine.run import Run

    NamedBranch = tuple[str, BoundState]

_NO_RESULTS = frozenset({CoroutineType, Pause})
OK, FAILED, CANCELLED, NOT_STARTED = BranchStatus  # Python code reads a member of an enum


class Split:
    """The work of a state whose task is a `SplitTask`: executes the branches and joins them.

    Args:
        state: the bound state.
        task: its task.
        kernel: the kernel that binds it.
    """

    def __init__(self, state: BoundState, task: SplitTask, kernel: Host) -> None:
        self._task = task
        self._branches = _bound(state, kernel, task.branches)

    async def __call__(self, run: Any, state: BoundState) -> Any:
        """Execute the branches, merge their changes into the run's view, and return the next state.

        Raises:
            JoinError: the join's condition is not met, or can never be met.
            MergeConflictError: branches wrote different values to one key.
            TaskError: the function that makes the branches, or a reducer, raised.
        """
        join, step = self._task.join, run.step
        try:
            targets = self._branches if self._task.make is None else await self._make(run, state, self._task.make)
        except Exception as error:  # noqa: BLE001  # wrapped, like every exception of a user's code
            raise_failed(step, error)
        race = Race(run, join)
        branches = [Branch(race, run, name, target) for name, target in targets]
        try:
            needed = join.strategy.needed(len(branches))
        except ConfigurationError as error:
            raise JoinError(str(error), outcome=_outcome(branches), **location_of(step)) from error
        met = await race.decide(branches, needed)
        outcome = _outcome(branches, race.timed_out)
        if not met:
            raise _failure(run, join, outcome)
        written = [
            (branch.name, branch.view.changes(), branch.view.reads or ())
            for branch in branches
            if branch.status is OK and branch.view.touched
        ]
        try:
            merge(run.view, written, _reducers(join, targets))
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # a reducer raised
            raise_failed(step, error)
        step.hand_on(outcome=outcome)
        if run.journal is not None and run.journal.commits_steps:
            run.journal.remember("outcome", outcome.packed())
        return join.next_state

    async def _make(self, run: Run, state: BoundState, make: Callable[[Any], Any]) -> list[NamedBranch]:
        """Call the user's function that returns the branches, and bind them."""
        made = make(run.store)
        if inspect.isawaitable(made):
            made = await made
        return _bound(state, run.kernel, check_branches(made))


def _bound(state: BoundState, kernel: Host, tasks: Iterable[Any]) -> list[NamedBranch]:
    """Bind the tasks of the branches, and name each branch by its position and its task."""
    bound = (state.bind_branch(kernel, task) for task in tasks)
    return [(f"{index}:{branch.task_name}", branch) for index, branch in enumerate(bound)]


def _outcome(branches: Iterable[Branch], timed_out: bool = False) -> SplitOutcome:
    # `tuple.__new__`, since the constructor of a named tuple is a Python function
    outcomes = [tuple.__new__(BranchOutcome, (one.name, one.status, one.result, one.error)) for one in branches]
    return SplitOutcome(tuple(outcomes), timed_out)


def _reducers(join: JoinConfig, branches: list[NamedBranch]) -> Callable[[str], Reducer | None]:
    """Return a function that finds the reducer of a key: the join's own, or that of a `Key` in the branches' code."""

    def find(key: str) -> Reducer | None:
        stated: Mapping[str, Reducer] = join.reducers  # type: ignore[assignment]  # a mapping once constructed
        if key in stated:
            return stated[key]
        used = (k for _, branch in branches for f in functions_of(branch.task or branch.function) for k in keys_used(f))
        return next((k.reducer for k in used if isinstance(k, Key) and k.name == key and k.reducer is not None), None)

    return find


class Branch(Strand):
    """One branch of a split, with its own view of the store."""

    __slots__ = ("bound", "error", "name", "race", "result", "status")

    def __init__(self, race: Race, run: Run, name: str, bound: BoundState) -> None:
        view = run.view
        Strand.__init__(self, run.kernel, run.plan, run.store if run.store is not view else view.detached(set()))
        self.race = race
        self.bound = bound
        self.name = name
        self.status = NOT_STARTED
        self.result: Any = None
        self.error: BaseException | None = None
        self.step = Step(run, bound, name, race.seq)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Execute the branch in a new asyncio task."""
        self._task = loop.create_task(self.execute())

    async def execute(self) -> None:
        """Execute the branch's task, with its own retries and timeouts, and report its end to the race."""
        race = self.race
        if race.decided.done():
            return
        self.status = CANCELLED
        if self._task is None:  # an eager task begins before `create_task` returns
            self.enter()
        running.set(self.step)  # the task has a context of its own: there is nothing to reset
        plan = self.plan
        if plan.step_started:
            self.notify(plan.step_started, self.step)
        try:
            work = self._work()
            result = await (work if self.bound.hot[0] is not None and race.journal is None else taking_back(work))
            if race.decided.done():
                raise asyncio.CancelledError  # too late: the race would have cancelled it
        except BaseException as raised:  # noqa: BLE001  # the race raises one that is not an `Exception`
            error = raised if race.decided.done() else self.as_failure(raised)
            self.rollback(self.bound, error)
            self.step.fail(error.error if isinstance(error, StoreFailed) else error)
            if plan.step_failed:
                self.notify(plan.step_failed, self.step)
            if isinstance(error, Exception):
                self.error = error
                self.status = FAILED
            elif not isinstance(error, asyncio.CancelledError):
                race.abort(error)
        else:
            self.result = result
            self.status = OK
            if plan.step_finished:
                self.notify(plan.step_finished, self.step)
        if self.watch is not None:
            self.leave()
        race.ended(self.status)

    def _check_lease(self) -> None:
        if (journal := self.race.journal) is not None:
            try:
                journal.check_lease()
            except TransientStoreError as error:  # the branch has not failed, and neither has the run
                raise StoreFailed(error) from error

    async def wait_to_retry(self, delay: float) -> None:
        """See `Strand.wait_to_retry`."""
        await Strand.wait_to_retry(self, delay)
        self._check_lease()

    async def _work(self) -> Any:
        bound, run, journal = self.bound, self.race.run, self.race.journal
        if journal is not None:
            self._check_lease()
        if run.restored_values:
            try:
                if (saved := run.restored_values.get(self._key)) is not None:
                    result, changes, *derived = saved
                    self.view.merge(Changes.unpacked(changes))
                    self.view.reads.update(*derived)  # type: ignore[union-attr]  # a branch's view records them
                    return result
                if (saved := run.restored_values.get(retry_key(self.step))) is not None:
                    detail = self.step._ensure_detail()
                    failed, detail.began = failed_attempts(saved, self.kernel.clock)
                    detail.attempt = failed + 1
            except (AttributeError, TypeError, ValueError) as error:
                problem = f"the stored result of branch {self.name} cannot be read: {safe_repr(error)}"
                message = f"run {run.run_id} is corrupt: {problem}"
                raise SerializationError(message, key=self._key) from error
        if bound.fast:  # as in the step loop
            began, rest = self.kernel.clock.monotonic() if bound.timed else None, None
            try:
                result = await bound.call(self.store)
            except (Exception, asyncio.CancelledError) as error:
                if not isinstance(failure := self.as_failure(error), Exception):
                    raise
                rest = attempt_until_done(self, bound, failure, began)
                del failure  # its traceback holds this frame
            if rest is not None:  # outside, so that later errors do not drag this one along as their context
                result = await rest
        else:
            result = await attempt_until_done(self, bound)
        if result.__class__ in _NO_RESULTS:
            raise self._refusal(result)
        if journal is not None and journal.commits_steps and not self.race.decided.done():
            # a durable run saves each finished branch, so that a resumed split executes only the others
            changes = self.view.changes()
            derived = sorted(changes.changed.keys() & (self.view.reads or ()))
            try:
                await journal.save({self._key: [result, changes.packed(), derived]})
            except TransientStoreError as error:
                raise StoreFailed(error) from error
        return result

    @property
    def _key(self) -> str:
        return f"branch {self.step.seq} {self.name}"

    def _refusal(self, result: Any) -> TransitionError:
        """Return the error of a branch that returned a coroutine or a wait."""
        if inspect.iscoroutine(result):
            result.close()
            problem = "a coroutine (is an `await`, or `async def`, missing?)"
        else:
            problem = f"{safe_repr(result)}: a branch cannot wait; wait in a state, or in a sub-workflow's state"
        message = f"branch {self.name!r} of state {safe_str(self.step.state)} returned {problem}"
        return TransitionError(message, returned=result, **location_of(self.step))


class Race:
    """Starts branches, up to the join's limit at a time, until the join is decided; then cancels the rest.

    Attributes:
        run, journal, seq: the run, its entries in the store, and the number of its step.
        decided: whether the join's condition is met, once that is certain.
        timed_out: whether the join's timeout has decided it.
    """

    def __init__(self, run: Run, join: JoinConfig) -> None:
        self.run, self.journal, self.seq = run, run.journal, run.step.seq
        self.timed_out = False
        self.decided: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._join = join
        self._patient = join.strategy.kind == "partial"
        self._waiting: Iterator[Branch] = iter(())
        self._pending = self._needed = self._ok = 0
        self._broken_by: BaseException | None = None

    async def decide(self, branches: list[Branch], needed: int) -> bool:
        """Execute the branches; return whether at least `needed` of them have succeeded."""
        clock, loop = self.run.kernel.clock, self.decided.get_loop()
        self._waiting, self._pending, self._needed = iter(branches), len(branches), needed
        timer = None
        if (timeout := time_limit("timeout", self._join.timeout)) is not None:
            timer = clock.call_at(clock.monotonic() + timeout, self._time_is_over)
        try:
            self._judge()
            for branch in islice(self._waiting, self._join.limit):
                branch.start(loop)
            met = await self.decided
        finally:
            if timer is not None:
                timer.cancel()
            if not self.decided.done():
                self.decided.cancel()
            self._waiting = iter(())  # each of them refers to the race
            await reap([task for branch in branches if (task := branch._task) is not None], clock)
        if self._broken_by is not None:
            raise self._broken_by
        return met

    def ended(self, status: BranchStatus) -> None:
        """Count a branch that has ended, decide the join if it can be decided, and start the next branch."""
        self._pending -= 1
        self._ok += status is OK
        self._judge()
        if (branch := next(self._waiting, None)) is not None and not self.decided.done():
            branch.start(self.decided.get_loop())

    def abort(self, error: BaseException) -> None:
        """Abort the split because a branch raised a `BaseException`, such as KeyboardInterrupt."""
        if not self.decided.done():
            self._broken_by = error
            self.decided.set_result(False)

    def _judge(self) -> None:
        if self.decided.done():
            return
        if self._ok + self._pending < self._needed:
            self.decided.set_result(False)
        elif self._ok >= self._needed and not (self._patient and self._pending):
            self.decided.set_result(True)

    def _time_is_over(self) -> None:
        if not self.decided.done():
            self.timed_out = True
            self.decided.set_result(self._ok >= self._needed)


def _failure(run: Run, join: JoinConfig, outcome: SplitOutcome) -> JoinError:
    shown = sorted(outcome.branches, key=lambda branch: branch.error is None)[:SHOWN]  # the failed ones first
    lines = [
        f"\n  - {branch.name}: {branch.status.value}" + ("" if branch.error is None else f" ({safe_str(branch.error)})")
        for branch in shown
    ]
    if len(outcome.branches) > SHOWN:
        lines.append(f"\n  … and {len(outcome.branches) - SHOWN} more")
    error = JoinError(
        f"join {join.strategy} was not met: {outcome}" + "".join(lines), outcome=outcome, **location_of(run.step)
    )
    error.__cause__ = next(iter(outcome.errors), None)
    return error
