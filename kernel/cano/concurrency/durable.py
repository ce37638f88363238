"""Batches that a store keeps: killed and run again, they continue."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from cano.engine.ports import Inputs
from cano.errors import RunInterruptedError
from cano.model.result import RunResult
from cano.model.task import StateT
from cano.options import text
from cano.records import RunStatus
from cano.runtime.clock import SystemClock
from cano.runtime.teardown import reap

if TYPE_CHECKING:
    from cano.concurrency.batch import ConcurrentWorkflow, ConcurrentWorkflowStatus, WaitStrategy, WorkflowResult

MOST = 100
"""Runs at once, unless the batch says otherwise: without a limit, all inputs would be in memory."""

COUNTS = "inputs", "succeeded", "failed", "cancelled", "ended_by"
"""The data of a batch's run after its end, as of that moment."""


class BatchOutcome(NamedTuple):
    """The end of one run of a stored batch.

    Attributes:
        number: the place of its input, counted from 1.
        run_id: the run's id.
        result: the result.
        run: the run's data and number of steps, if it succeeded; otherwise None.
    """

    number: int
    run_id: str
    result: WorkflowResult[Any]
    run: RunResult | None


class DurableBatch(Generic[StateT]):
    """A batch in a store: `await` it for its status, or iterate over it with `async for` for the outcomes.

    Outcomes come in the order in which the runs end. A batch that continues has those of the runs that end from then
    on; one that was killed may repeat the last ones. Leaving the loop, or cancelling, interrupts the batch: run it
    again with the same id to continue.

    Attributes:
        run_id: the batch's id.
        status: its status after its end; None before. A failed run that was resumed since, and has succeeded, counts
            as succeeded.
    """

    def __init__(self, owner: ConcurrentWorkflow[StateT], inputs: Any, run_id: str, wait: WaitStrategy) -> None:
        self._owner, self._inputs, self._wait = owner, inputs, wait
        self.run_id = run_id
        self.status: ConcurrentWorkflowStatus | None = None

    def __await__(self) -> Generator[Any, None, ConcurrentWorkflowStatus]:
        return self._execute(None).__await__()

    async def __aiter__(self) -> AsyncIterator[BatchOutcome]:
        ready: deque[BatchOutcome] = deque()
        news, room = asyncio.Event(), asyncio.Event()

        async def deliver(outcome: BatchOutcome) -> None:
            ready.append(outcome)
            news.set()
            while len(ready) > (self._owner.limit or MOST):  # the loop's body is slower than the runs
                room.clear()
                await room.wait()

        work = asyncio.get_running_loop().create_task(self._execute(deliver))
        work.add_done_callback(lambda _: news.set())
        try:
            while True:
                news.clear()
                while ready:
                    yield ready.popleft()
                    room.set()
                if work.done():
                    break
                await news.wait()
        finally:
            await reap([work], SystemClock())
        work.result()

    async def _execute(self, deliver: Any) -> ConcurrentWorkflowStatus:
        from cano.concurrency.batch import ConcurrentWorkflowStatus, checked, each

        owner, run_id = self._owner, text("run_id", self.run_id)
        kernel, total = await checked(owner, self._inputs, self._wait)
        began = kernel.clock.monotonic()
        inputs = Inputs(
            owner.flow, partial(each, self._inputs), total, owner.limit or MOST, self._wait, deliver, owner.progress
        )
        feed = kernel.required_keeper("a batch with an id").feed(inputs)
        try:
            data = (await kernel.run(feed.flow, {}, run_id=run_id)).data
        except RunInterruptedError:
            if feed.error is not None:
                raise feed.error from None
            raise
        total, succeeded, failed, cancelled, ended_by = (data[name] for name in COUNTS)
        if failed:  # failed runs may have been resumed since; deleted runs count as failed
            now = await kernel.runs(parent=run_id, status=RunStatus.SUCCEEDED).count()
            resumed = min(max(now - succeeded, 0), failed)
            succeeded, failed = succeeded + resumed, failed - resumed
        seconds = kernel.clock.monotonic() - began
        self.status = ConcurrentWorkflowStatus(total, succeeded, failed, cancelled, seconds, ended_by)
        return self.status
