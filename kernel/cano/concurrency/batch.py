"""Batches: one workflow executed on many stores concurrently."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sized
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from cano.checks import Seconds, positive_seconds, whole, whole_or_none
from cano.data.store import KeyValueStore
from cano.engine.strand import NOT_FATAL
from cano.errors import ConfigurationError, RunCancelledError, WorkflowError
from cano.model.task import StateT
from cano.model.workflow import Workflow
from cano.protocols import Timer
from cano.runtime.frames import clear_locals
from cano.runtime.teardown import reap

if TYPE_CHECKING:
    from cano.concurrency.durable import DurableBatch
    from cano.kernel.kernel import Kernel


class WaitStrategy(NamedTuple):
    """The condition that ends a batch.

    Made by `forever()`, `quota(n)`, `duration(seconds)` and `quota_or_duration(n, seconds)`.

    Attributes:
        successes: number of successes that ends the batch; it also ends if that many are no longer possible. None for
            no quota.
        seconds: seconds after which the batch ends; None for no timeout.
    """

    successes: int | None = None
    seconds: float | None = None

    @classmethod
    def forever(cls) -> WaitStrategy:
        """Wait until every run has ended."""
        return cls()

    @classmethod
    def quota(cls, n: int) -> WaitStrategy:
        """Wait until `n` runs have succeeded; the others are then cancelled."""
        return cls(successes=whole("quota", n, 1))

    @classmethod
    def duration(cls, seconds: Seconds) -> WaitStrategy:
        """Wait `seconds`, a number or a timedelta, then cancel the runs that have not ended."""
        return cls(seconds=positive_seconds("duration", seconds))

    @classmethod
    def quota_or_duration(cls, n: int, seconds: Seconds) -> WaitStrategy:
        """Wait until `n` runs have succeeded, but at most `seconds`. Then cancel the others."""
        return cls(cls.quota(n).successes, cls.duration(seconds).seconds)


@dataclass(frozen=True, slots=True)
class Success(Generic[StateT]):
    """The result of a run that reached the exit state `state`."""

    state: StateT


@dataclass(frozen=True, slots=True)
class Failed:
    """The result of a run that failed with `error`."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The result of a run that was cancelled, or not started, because the batch ended first."""


WorkflowResult = Success[StateT] | Failed | Cancelled


class ConcurrentWorkflowStatus(NamedTuple):
    """The progress of a batch.

    Attributes:
        total_workflows: number of stores; for an iterator, of those read from it so far.
        completed: number of runs that have succeeded.
        failed: number of runs that have failed.
        cancelled: number of runs that were cancelled, or not started.
        duration: seconds since the batch began.
        ended_by: the condition that ended the batch: "all", "quota", "quota unreachable" or "duration"; None before
            its end.
    """

    total_workflows: int
    completed: int
    failed: int
    cancelled: int
    duration: float
    ended_by: str | None = None

    @property
    def running(self) -> int:
        """The number of runs that wait to be started, or are executing."""
        return self.total_workflows - self.completed - self.failed - self.cancelled

    @property
    def is_complete(self) -> bool:
        """Whether every run has a result."""
        return self.running == 0


BREATH = 64
TURN = 0.005
"""Stores, and seconds, after which a batch yields to the event loop, so that the runs that it started proceed."""

Progress = Callable[[ConcurrentWorkflowStatus], None]
Stores = Iterable[Any] | AsyncIterable[Any]


class ConcurrentWorkflow(Generic[StateT]):
    """Executes one workflow on many stores concurrently.

    Args:
        flow: the workflow.
        limit: maximum number of runs at once; None for no limit.
        kernel: the kernel that executes the runs; by default the default kernel.
        progress: called with the status after the end of each run. Its exceptions do not stop the batch.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    def __init__(
        self,
        flow: Workflow[StateT],
        *,
        limit: int | None = None,
        kernel: Kernel | None = None,
        progress: Progress | None = None,
    ) -> None:
        if not isinstance(flow, Workflow):
            raise ConfigurationError(f"flow must be a Workflow, not {flow!r}")
        whole_or_none("limit", limit, 1)
        self.flow = flow
        self.limit = limit
        self.kernel = kernel
        self.progress = progress

    async def execute_concurrent(
        self, stores: Stores, wait: WaitStrategy | None = None
    ) -> tuple[list[WorkflowResult[StateT]], ConcurrentWorkflowStatus]:
        """Execute the workflow on every store. When the batch ends, cancel the remaining runs and await their end.

        Args:
            stores: one store per run, as for `Workflow.orchestrate`. An iterator, plain or async, is read only as fast
                as runs start; an exception in it ends the batch. An async generator is closed at the end.
            wait: the condition that ends the batch; by default, that every run has ended.

        Returns:
            The results in the order of the stores, and the status.

        Raises:
            ConfigurationError: an argument is of the wrong kind, or the quota is above the number of stores.
            ValidationError: the workflow's definition is wrong.
        """
        wait = WaitStrategy.forever() if wait is None else wait
        kernel, _ = await checked(self, stores, wait)
        batch = _Batch(self, kernel, stores, wait)
        await batch.run()
        return batch.results(), batch.status()

    def execute_durable(self, inputs: Stores, run_id: str, wait: WaitStrategy | None = None) -> DurableBatch[StateT]:
        """Return a batch in the kernel's store. `await` it for its status, or use `async for` for the outcomes.

            status = await ConcurrentWorkflow(flow, limit=50, kernel=kernel).execute_durable(rows(), "import-7")

        The batch is a run with that id, and executes a child run for each input. If its process is killed, the same
        call continues: runs that have ended are not repeated, and the others resume from their last commit. Memory is
        bounded by `limit`, which is 100 if there is none. A failed child can be resumed by itself; the same
        call then counts it as succeeded.

        Args:
            inputs: a mapping with the first data of each run, or a `Failed` for an input that cannot be read. They must
                be the same in each call; more may follow at the end. An iterator is read only as fast as runs start.
            run_id: the batch's id.
            wait: the condition that ends the batch, by default that every run has ended. Its seconds count from the
                first call, in wall-clock time. If the batch has ended, no more inputs are read.

        Raises:
            ConfigurationError: see `execute_concurrent`; or the store does not survive the process. Awaiting raises it.
            InputsChangedError: an input is not the one of an earlier call. The batch stays as it was.
            RunCancelledError: the batch was cancelled.
            RunExistsError: `run_id` belongs to another run.
            RunInterruptedError: the kernel was closed before.
        """
        from cano.concurrency.durable import DurableBatch

        return DurableBatch(self, inputs, run_id, WaitStrategy.forever() if wait is None else wait)


async def checked(owner: ConcurrentWorkflow[Any], stores: Any, wait: Any) -> tuple[Kernel, int | None]:
    """Return the open kernel of a batch, and the number of its stores, if it is known. Raises ConfigurationError."""
    from cano.kernel.default import default_kernel

    if not isinstance(wait, WaitStrategy):
        raise ConfigurationError(f"wait must be a WaitStrategy, such as WaitStrategy.forever(), not {wait!r}")
    if isinstance(stores, str | Mapping | KeyValueStore) or not isinstance(stores, Iterable | AsyncIterable):
        raise ConfigurationError(f"stores must be a list or an (async) iterator of stores, not {stores!r}")
    total = len(stores) if isinstance(stores, Sized) else None
    if total is not None and wait.successes is not None and wait.successes > total:
        raise ConfigurationError(f"a quota of {wait.successes} over {total} store(s) can never be met")
    kernel = owner.kernel or default_kernel()
    await kernel.open()
    if (problem := kernel.inactive("concurrency")) is not None:
        raise ConfigurationError(f"a batch needs the plugin 'concurrency', which is {problem}")
    kernel.bind(owner.flow)
    return kernel, total


class _Batch:
    """One call of `execute_concurrent`."""

    def __init__(self, owner: ConcurrentWorkflow[Any], kernel: Kernel, stores: Stores, wait: WaitStrategy) -> None:
        self._owner = owner
        self._kernel = kernel
        self._stores = stores
        self._wait = wait
        self._began = kernel.clock.monotonic()
        self._total = len(stores) if isinstance(stores, Sized) else None
        self._results: dict[int, WorkflowResult[Any]] = {}
        self._tasks: dict[asyncio.Task[Any], int] = {}
        self._pulled = 0
        self._exhausted = False
        self._completed = self._failed = self._cancelled = 0
        self._ended_by: str | None = None
        self._broken_by: BaseException | None = None
        self._over = asyncio.Event()

    async def run(self) -> None:
        clock = self._kernel.clock
        timer: Timer | None = None
        if self._wait.seconds is not None:
            timer = clock.call_at(self._began + self._wait.seconds, self._time_is_over)
        feeder = asyncio.get_running_loop().create_task(self._feed())
        feeder.add_done_callback(self._feeding_ended)
        try:
            await self._over.wait()
        finally:
            if timer is not None:
                timer.cancel()
            await reap([feeder, *self._tasks], clock)
        if self._broken_by is not None:
            raise self._broken_by

    async def _feed(self) -> None:
        """Read the stores and start a run for each, up to the limit at once."""
        limit = self._owner.limit or math.inf
        orchestrate, flow, ended = self._kernel.orchestrate, self._owner.flow, self._run_ended
        room = self._room = asyncio.Event()
        loop = asyncio.get_running_loop()
        turn = loop.time() + TURN
        async with aclosing(each(self._stores)) as stores:
            async for store in stores:
                task = loop.create_task(orchestrate(flow, store))
                self._tasks[task] = self._pulled
                self._pulled += 1
                task.add_done_callback(ended)
                while len(self._tasks) >= limit:
                    room.clear()
                    await room.wait()
                if self._pulled % BREATH == 0 or loop.time() >= turn:
                    await asyncio.sleep(0)
                    if self._ended_by is not None:
                        return
                    turn = loop.time() + TURN
        self._exhausted = True

    def _feeding_ended(self, feeder: asyncio.Task[None]) -> None:
        error = _error_of(feeder)
        if error is not None and self._ended_by is None:
            self._broken_by = error  # raised by the iterator
            self._over.set()
        self._judge()

    def _run_ended(self, task: asyncio.Task[Any]) -> None:
        index = self._tasks.pop(task)
        self._room.set()
        error = _error_of(task)
        if error is None:
            self._results[index] = Success(task.result())
            self._completed += 1
        elif isinstance(error, asyncio.CancelledError | RunCancelledError):
            self._results[index] = Cancelled()
            self._cancelled += 1
        elif isinstance(error, Exception):
            if self._total is None:
                clear_locals(error)
            self._results[index] = Failed(error)
            self._failed += 1
        else:
            self._broken_by = self._broken_by or error  # it ends the batch, which raises it
            self._over.set()
            return
        self._judge()
        if self._owner.progress is not None:
            try:
                self._owner.progress(self.status())
            except NOT_FATAL as error:
                self._kernel.observer_failed(self._owner.progress, error)

    def _judge(self) -> None:
        if self._ended_by is not None:
            return
        quota = self._wait.successes
        if quota is not None and self._completed >= quota:
            self._ended_by = "quota"
        elif quota is not None and self._completed + self._possible() < quota:
            self._ended_by = "quota unreachable"
        elif self._exhausted and not self._tasks:
            self._ended_by = "all"
        if self._ended_by is not None:
            self._over.set()

    def _possible(self) -> float:
        """Return how many runs may still succeed."""
        if self._total is not None:
            return self._total - self._completed - self._failed - self._cancelled
        return len(self._tasks) if self._exhausted else math.inf

    def _time_is_over(self) -> None:
        if self._ended_by is None:
            self._ended_by = "duration"
            self._over.set()

    def results(self) -> list[WorkflowResult[Any]]:
        total = self._pulled if self._total is None else max(self._total, self._pulled)
        return [self._results.get(index, Cancelled()) for index in range(total)]

    def status(self) -> ConcurrentWorkflowStatus:
        total = self._pulled if self._total is None else max(self._total, self._pulled)
        never_begun = total - self._pulled if self._ended_by is not None and not self._tasks else 0
        return ConcurrentWorkflowStatus(
            total,
            self._completed,
            self._failed,
            self._cancelled + never_begun,
            self._kernel.clock.monotonic() - self._began,
            self._ended_by,
        )


def _error_of(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what a finished task raised. A CancelledError stands for a cancellation only if the task was cancelled."""
    if not task.cancelled():
        return task.exception()
    if task.cancelling():
        return asyncio.CancelledError()
    return WorkflowError("CancelledError was raised, although nothing cancelled the batch or its run")


async def each(stores: Stores) -> AsyncGenerator[Any, None]:
    """Yield the stores of an iterable or an async iterable. An async generator is closed at the end."""
    if isinstance(stores, AsyncIterable):
        try:
            async for store in stores:
                yield store
        finally:
            if isinstance(stores, AsyncGenerator):
                await stores.aclose()  # now, rather than later by the garbage collector
    else:
        for store in stores:
            yield store
