"""Executes a batch that the store keeps: reads its inputs, and executes a child run for each."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Never

from cano import (
    BatchOutcome,
    Cancelled,
    CanoError,
    ConfigurationError,
    Failed,
    InputsChangedError,
    RunCancelledError,
    RunExistsError,
    RunInterruptedError,
    RunResult,
    RunStatus,
    StepKilledError,
    Success,
    Task,
    TaskConfig,
    TransientStoreError,
    VersionMismatchError,
    Workflow,
    current_step,
)
from cano.engine.ports import Inputs, StoreFailed, reap, unpack_key
from cano.safe_text import safe_str

from cano_durability.batches.membership import SUFFIX, child_id, is_child
from cano_durability.batches.position import MANY, Position
from cano_durability.identity import Identity
from cano_durability.keys import BATCH
from cano_durability.recovery.groups import AT_ONCE
from cano_durability.recovery.leases import journal_of
from cano_durability.stored_runs import StoredRuns

OFTEN = 1.0
"""Seconds after which the position is stored, if a run has ended since."""
BREATH = 64
"""Inputs that are read before the event loop has its turn."""


class Feed:
    """A batch that executes here. It implements `cano.engine.ports.Feed`, which documents it."""

    def __init__(self, stored: StoredRuns, inputs: Inputs) -> None:
        if not stored.durable:
            problem = "a batch with an id needs a store that survives the process"
            raise ConfigurationError(f"{problem}; open one, or call execute_concurrent: Kernel(store='sqlite:///…')")
        self.error: BaseException | None = None
        self.flow: Workflow[Any] = Workflow("FEED", name=inputs.flow.name + SUFFIX, max_takeovers=None)
        self.flow.register("FEED", _Feeding(self, stored, inputs), config=TaskConfig.minimal()).add_exit_state("DONE")


class _Feeding(Task[str]):
    """The task of a batch's only state."""

    targets = ("DONE",)

    def __init__(self, feed: Feed, stored: StoredRuns, inputs: Inputs) -> None:
        super().__init__()
        self._given = feed, stored, inputs

    @property
    def name(self) -> str:
        return "batch"

    async def run(self, store: Any) -> str:
        """Execute the batch to its end."""
        try:
            status = await _Execution(*self._given).run()
        except Exception as error:  # noqa: BLE001  # the store or the workflow has failed, and not the batch
            await _interrupt(self._given[0], error)
        store["inputs"], store["ended_by"] = status.total_workflows, status.ended_by
        store["succeeded"], store["failed"], store["cancelled"] = status.completed, status.failed, status.cancelled
        return "DONE"


class _Execution:
    """One execution of a batch, in the task of its step."""

    def __init__(self, feed: Feed, stored: StoredRuns, inputs: Inputs) -> None:
        self._feed = feed
        self._stored = stored
        self._inputs = inputs
        self._step = current_step()
        self._run = run = self._step.run
        self._kernel = run.kernel
        self._plan = self._kernel.bind(inputs.flow)
        self._values = stored.register(self._plan)
        self._position = Position(run.restored_values.get(BATCH), stored.now(), inputs.total)
        self._tasks: dict[int, asyncio.Task[BatchOutcome]] = {}
        self._exhausted = False
        self._broken_by: BaseException | None = None
        self._over, self._room = asyncio.Event(), asyncio.Event()
        self._saved = 0.0, 0, 0  # when, how many inputs were begun then, and how many runs were counted

    async def run(self) -> Any:
        """Execute the batch to its end, and return its status."""
        position, wait, clock = self._position, self._inputs.wait, self._kernel.clock
        if position.ended_by is None:
            await self._save()  # from now on the record shows that it is a batch
            timer, seconds = None, math.inf
            if wait.seconds is not None:
                seconds = position.began + wait.seconds - self._stored.now()
                timer = clock.call_at(clock.monotonic() + seconds, lambda: self._end("duration"))
            if seconds <= 0:
                self._end("duration")
            feeder = asyncio.create_task(self._read())
            feeder.add_done_callback(self._reading_ended)
            self._judge()
            try:
                await self._over.wait()
                if self._broken_by is not None:
                    if not isinstance(self._broken_by, InputsChangedError):  # its digests are not the batch's
                        with suppress(TransientStoreError):
                            await self._save()
                    raise self._broken_by
                await self._save()  # the batch is decided, whatever happens to this process
            except Exception as error:  # noqa: BLE001  # while the runs are executed, so that they are interrupted, too
                await _interrupt(self._feed, error)
            finally:
                if timer is not None:
                    timer.cancel()
                await reap([feeder], clock)
                await reap(list(self._tasks.values()), clock)
        if position.ended_by != "all":
            await self._find_begun()
        for number in sorted(position.unfinished):
            self._count(await self._delivered(await self._stopped(number)))
            position.unfinished.discard(number)
        if position.total is not None:
            position.cancelled += max(0, position.total - position.high)
        return position.status(self._stored.now())

    # reading

    async def _read(self) -> None:
        """Read the inputs, and start a run for each that has none, up to the limit at once."""
        position, digests, known = self._position, self._position.digests, self._position.high
        async with aclosing(self._inputs.read()) as inputs:
            async for item in inputs:
                if self._over.is_set():  # before it is added: the digests are of the inputs that were begun
                    return
                if digests.add(item, self._digest(item, digests.count + 1)):
                    await self._compare(digests.block, digests.count)
                number = digests.count
                if number > known or number in position.unfinished:
                    position.unfinished.discard(number)
                    position.high = max(position.high, number)
                    task = self._tasks[number] = asyncio.create_task(self._execute(number, item))
                    task.add_done_callback(partial(self._ended, number))
                    await self._save_sometimes()
                    while len(self._tasks) >= self._inputs.limit:
                        await self._wait()
                if number % BREATH == 0:
                    await asyncio.sleep(0)
        if digests.count < known:
            raise self._changed(digests.count + 1, known, "missing, which")
        self._exhausted = True
        while self._tasks:
            await self._wait()

    async def _wait(self) -> None:
        """Wait until a run has ended. Meanwhile the position is stored."""
        self._room.clear()
        at, *stored = self._saved
        changed = stored != [self._position.high, self._position.ended]
        timer = self._kernel.clock.call_at(at + OFTEN, self._room.set) if changed else None
        try:
            await self._room.wait()
        finally:
            if timer is not None:
                timer.cancel()
        await self._save_sometimes()

    def _digest(self, item: Any, number: int) -> bytes:
        """Return a digest of an input. Raises ConfigurationError if it is neither a mapping nor a Failed."""
        if isinstance(item, Failed):
            return b"failed " + safe_str(item.error).encode(errors="replace")
        if not isinstance(item, Mapping):
            raise ConfigurationError(
                f"input {number} must be a mapping, or a Failed, not of type {type(item).__name__}"
            )
        try:
            return self._values.digest(_named(item)) or b""
        except Exception:  # noqa: BLE001  # it cannot be stored, so that its run fails
            return b"not stored"

    async def _compare(self, items: Sequence[Any], last: int) -> None:
        """Compare inputs with the first data of their runs. Equal ones may have other digests: a set has no order.

        Raises:
            InputsChangedError: one differs, or its run was deleted.
        """
        first = last - len(items) + 1
        for number, item in enumerate(items, first):
            record = await self._stored.backend.load(run_id := self._id(number))
            if record is None or not is_child(self._stored, record, journal_of(self._run)):
                if isinstance(item, Failed):
                    continue
                raise self._changed(first, last)
            if isinstance(item, Failed):
                raise self._changed(number, number)
            view, journal = self._values.view(_named(item)), journal_of(self._run)
            try:
                await Identity(self._stored, self._plan, run_id, view, journal, "same-data", None).check(record)
            except RunExistsError as error:
                raise self._changed(number, number) from error

    def _changed(self, first: int, last: int, problem: str = "not what") -> InputsChangedError:
        places = f"input {first} is" if first == last else f"the inputs {first} to {last} are"
        remedy = "give it the same inputs in the same order, or start another batch with another id"
        message = f"{places} {problem} the batch {self._run.run_id!r} has read before; {remedy}"
        return InputsChangedError(message, first=first, last=last, run_id=self._run.run_id)

    def _reading_ended(self, feeder: asyncio.Task[None]) -> None:
        if not feeder.cancelled() and (error := feeder.exception()) is not None:
            self._break(error)
        self._judge()

    # executing

    async def _execute(self, number: int, item: Any) -> BatchOutcome:
        """Execute the run of an input, or wait for its end in another process."""
        run_id = self._id(number)
        if isinstance(item, Failed):
            return await self._delivered(BatchOutcome(number, run_id, item, None))
        try:
            result = await self._kernel.run_child(self._inputs.flow, item, self._step, run_id)
        except RunExistsError as error:
            if error.run_id != run_id:
                return await self._delivered(BatchOutcome(number, run_id, Failed(error), None))
            if await self._is_begun(number):
                raise self._changed(number, number) from error
            raise
        except StoreFailed as failed:
            if not isinstance(failed.error, StepKilledError):
                raise failed.error from None
            return await self._delivered(BatchOutcome(number, run_id, Failed(failed.error), None))
        except CanoError as error:
            return await self._delivered(_outcome(number, run_id, error))
        return await self._delivered(_outcome(number, run_id, result))

    async def _delivered(self, outcome: BatchOutcome) -> BatchOutcome:
        """Give an outcome to the caller, before it is counted: so that it gets each at least once."""
        if self._inputs.deliver is not None:
            await self._inputs.deliver(outcome)
        return outcome

    def _ended(self, number: int, task: asyncio.Task[BatchOutcome]) -> None:
        del self._tasks[number]
        self._room.set()
        if task.cancelled() or (error := task.exception()) is not None:
            self._position.unfinished.add(number)
            if not task.cancelled():
                assert error is not None
                self._break(error)
        else:
            self._count(task.result())
        self._judge()

    def _count(self, outcome: BatchOutcome) -> None:
        position, result = self._position, outcome.result
        if isinstance(result, Success):
            position.succeeded += 1
        elif isinstance(result, Failed):
            position.failed += 1
        else:
            position.cancelled += 1
        message = f"runs, {position.failed} failed" if position.failed else "runs"
        self._step.progress(position.ended, position.total, message)
        if self._inputs.progress is not None:
            try:
                self._inputs.progress(position.status(self._stored.now()))
            except Exception as error:  # noqa: BLE001  # an observer cannot stop the batch
                self._kernel.observer_failed(self._inputs.progress, error)

    # ending

    def _judge(self) -> None:
        position, quota = self._position, self._inputs.wait.successes
        if quota is not None and position.succeeded >= quota:
            self._end("quota")
        elif quota is not None and position.succeeded + self._possible() < quota:
            self._end("quota unreachable")
        elif self._exhausted and not self._tasks:
            self._end("all")

    def _possible(self) -> float:
        """Return how many runs may still succeed."""
        if self._position.total is not None:
            return self._position.total - self._position.ended
        return len(self._tasks) if self._exhausted else math.inf

    def _end(self, ended_by: str) -> None:
        if self._position.ended_by is None and self._broken_by is None:
            self._position.ended_by = ended_by
            self._over.set()

    def _break(self, error: BaseException) -> None:
        if self._position.ended_by is None and self._broken_by is None:
            self._broken_by = error
            self._over.set()

    async def _find_begun(self) -> None:
        """Find the runs that an earlier process began after it had stored its position, and that this one has not."""
        position = self._position
        last = position.begun if position.total is None else min(position.begun, position.total)
        for first in range(position.high + 1, last + 1, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, last + 1))
            begun = await asyncio.gather(*map(self._is_begun, numbers))
            for number in (number for number, is_begun in zip(numbers, begun, strict=True) if is_begun):
                position.unfinished.update(range(position.high + 1, number + 1))
                position.high = number

    async def _is_begun(self, number: int) -> bool:
        record = await self._stored.backend.load(self._id(number))
        return is_child(self._stored, record, journal_of(self._run))

    async def _stopped(self, number: int) -> BatchOutcome:
        """Cancel the run of an input, unless it has ended, and return its outcome."""
        run_id, keeper = self._id(number), self._kernel.required_keeper()
        if not await self._is_begun(number):
            return BatchOutcome(number, run_id, Cancelled(), None)
        await keeper.end_child(run_id, self._run)
        try:
            return _outcome(number, run_id, await keeper.settled(self._plan, run_id))
        except CanoError as error:
            return _outcome(number, run_id, error)

    # storing

    async def _save(self) -> None:
        self._saved = self._kernel.clock.monotonic(), self._position.high, self._position.ended
        await journal_of(self._run).save({BATCH: self._position.packed(self._tasks)})

    async def _save_sometimes(self) -> None:
        at, high, ended = self._saved
        position, now = self._position, self._kernel.clock.monotonic()
        changed = (high, ended) != (position.high, position.ended)
        if position.high - high >= MANY or (changed and now >= at + OFTEN):
            await self._save()

    def _id(self, number: int) -> str:
        return child_id(self._run.run_id, number)


async def _interrupt(feed: Feed, error: Exception) -> Never:
    """Interrupt the batch: the call that feeds it raises `error`, and the next one continues."""
    run = current_step().run
    if not (run.kernel.closed and isinstance(error, TransientStoreError)):  # then its end says that it was closed
        feed.error = error
    run.stop(RunStatus.INTERRUPTED)
    while True:
        await asyncio.Event().wait()  # until the cancellation arrives


def _named(item: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an input with the names of its keys."""
    return {unpack_key(key, None)[0]: value for key, value in item.items()}


def _outcome(number: int, run_id: str, end: RunResult | CanoError) -> BatchOutcome:
    """Return the outcome of a run that ended so. Raises the error if the run has not ended."""
    if isinstance(end, RunResult):
        return BatchOutcome(number, run_id, Success(end.state), end)
    if isinstance(end, RunCancelledError):
        return BatchOutcome(number, run_id, Cancelled(), None)
    if isinstance(end, RunInterruptedError | TransientStoreError | VersionMismatchError):
        raise end
    return BatchOutcome(number, run_id, Failed(end), None)
