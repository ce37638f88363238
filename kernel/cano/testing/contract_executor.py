"""The contract of executors as a test class: the promises of every `Executor` with `remote = True`, one test for each.

    class TestMyExecutor(ExecutorContract):
        def make_executor(self):
            return MyExecutor("scheduler:8786")

cano-remote and cano-msgspec must be installed, here and where the calls are executed.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from cano.executors import Call, Executor, ExecutorUnavailableError, WorkerLostError
from cano.kernel.kernel import Kernel
from cano.testing import executor_calls
from cano.testing.executor_calls import EXECUTOR, word_count

TEXT = "the quick brown fox jumps over a lazy dog"
MANY = 50
_numbers = itertools.count(1)
ContractT = TypeVar("ContractT", bound="ExecutorContract")


def clause(test: Callable[[ContractT, Executor, Path], Awaitable[None]]) -> Callable[[ContractT, Path], None]:
    """Make a plain pytest test from an async one that takes an open executor and an empty folder."""

    async def within(contract: ContractT, folder: Path) -> None:
        async with asyncio.timeout(contract.patience), contract.opened() as executor:
            await test(contract, executor, folder)

    @functools.wraps(test)
    def run(self: ContractT, tmp_path: Path) -> None:
        asyncio.run(within(self, tmp_path))

    del run.__dict__["__wrapped__"]  # pytest would take the original's arguments for fixtures
    return run


def call_of(function: Callable[..., bytes], data: bytes | Path = b"", priority: int = 0) -> Call:
    """Return a call of one of the functions of `executor_calls`, as the kernel makes them."""
    number = next(_numbers)
    argument = os.fsencode(data) if isinstance(data, Path) else data
    return Call(function, (argument,), f"run-{number}", "STATE", 1, 1, f"run-{number}:1", None, None, {}, priority)


async def appears(path: Path) -> None:
    """Wait for a file that a call makes."""
    while not path.exists():  # noqa: ASYNC110, ASYNC240  # another process makes it
        await asyncio.sleep(0.005)


async def _raised(executor: Executor, function: Callable[[bytes], bytes]) -> Exception:
    """Return what a call raises."""
    try:
        await executor.submit(call_of(function))
    except Exception as error:  # noqa: BLE001  # the clause looks at it
        return error
    raise AssertionError(f"the call of {function.__name__} raised nothing")


class ExecutorContract:
    """The promises of every remote executor. A subclass names the executor to test: see `make_executor`.

    Attributes:
        patience: seconds after which a clause fails: an executor that hangs is broken.
        places: how many calls the executor executes at once.
        loses_workers: whether calls are executed by processes of which one can be killed without harm to the others.
    """

    patience = 60.0
    places = 2
    loses_workers = True

    def make_executor(self) -> Executor:
        """Return a new executor, not yet opened, which executes `places` calls at once."""
        raise NotImplementedError(f"{type(self).__name__} must name an executor: def make_executor(self) -> Executor")

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Executor]:
        """Provide an executor, which is open in the `with` block."""
        executor: Any = self.make_executor()
        if hasattr(executor, "open"):
            await executor.open()
        try:
            yield executor
        finally:
            if hasattr(executor, "close"):
                await executor.close()

    # calls

    @clause
    async def test_it_returns_what_the_call_returns(self, executor: Executor, folder: Path) -> None:
        """Bytes come back as they are: none, a few, and five million of them."""
        for data in (b"", b"\0\xff\n", os.urandom(5_000_000)):
            assert await executor.submit(call_of(executor_calls.echo, data)) == data

    @clause
    async def test_it_raises_what_the_call_raises(self, executor: Executor, folder: Path) -> None:
        """An exception arrives with its text, and the executor takes further calls."""
        raised = await _raised(executor, executor_calls.fail)
        assert isinstance(raised, Exception)
        assert not isinstance(raised, WorkerLostError | ExecutorUnavailableError)
        assert "this call fails" in str(raised)
        assert await executor.submit(call_of(executor_calls.echo, b"after")) == b"after"

    @clause
    async def test_each_caller_gets_its_own_answer(self, executor: Executor, folder: Path) -> None:
        """Of many calls at once, each returns what belongs to it."""
        sent = [str(number).encode() for number in range(MANY)]
        assert await asyncio.gather(*(executor.submit(call_of(executor_calls.echo, data)) for data in sent)) == sent

    @clause
    async def test_equal_calls_are_executed_each(self, executor: Executor, folder: Path) -> None:
        """No result is taken from another call, even one with the same function and argument."""
        path = folder / "noted"
        await asyncio.gather(*(executor.submit(call_of(executor_calls.note, path)) for _ in range(3)))
        call = call_of(executor_calls.note, path)
        for _ in range(2):  # another attempt after an answer was lost, say
            await executor.submit(call)
        assert len(path.read_text(encoding="utf-8").splitlines()) == 5

    @clause
    async def test_reports_come_before_the_end(self, executor: Executor, folder: Path) -> None:
        """If the executor has a channel for reports, a call's reports arrive in order while it executes, each once."""
        if not getattr(executor, "reports", False):
            return
        reports: list[bytes] = []
        loop, came = asyncio.get_running_loop(), asyncio.Event()

        def report(data: bytes) -> None:
            reports.append(data)
            if len(reports) == executor_calls.REPORTS:
                loop.call_soon_threadsafe(came.set)

        telling = asyncio.ensure_future(executor.submit(call_of(executor_calls.tell, folder)._replace(report=report)))
        await came.wait()
        assert not telling.done()
        (folder / "go").touch()
        assert await telling == b"told"
        assert reports == [b"%d" % number for number in range(executor_calls.REPORTS)] + [b"\0" * 100_000]

    # cancelling

    @clause
    async def test_a_cancelled_call_ends_at_once(self, executor: Executor, folder: Path) -> None:
        """`submit` raises CancelledError. Unless the executor abandons calls, nothing executes it any more."""
        held = asyncio.ensure_future(executor.submit(call_of(executor_calls.hold, folder)))
        await appears(folder / "began")
        held.cancel()
        await asyncio.wait([held])
        assert held.cancelled()
        (folder / "go").touch()
        assert await executor.submit(call_of(executor_calls.echo, b"after")) == b"after"
        if not getattr(executor, "abandons", False):
            other = folder / "other"
            other.mkdir()
            (other / "go").touch()
            await executor.submit(call_of(executor_calls.hold, other))  # as long as the first one would have taken
            assert not (folder / "done").exists()

    @clause
    async def test_a_call_that_was_cancelled_in_time_never_begins(self, executor: Executor, folder: Path) -> None:
        """A call that waits for a place, and is cancelled, is dropped, unless the executor abandons calls."""
        if getattr(executor, "abandons", False):
            return
        folders = [folder / str(number) for number in range(self.places)]
        for each in folders:
            each.mkdir()
        holding = [asyncio.ensure_future(executor.submit(call_of(executor_calls.hold, each))) for each in folders]
        for each in folders:
            await appears(each / "began")
        waiting = asyncio.ensure_future(executor.submit(call_of(executor_calls.note, folder / "noted")))
        last = asyncio.ensure_future(executor.submit(call_of(executor_calls.echo, b"last")))
        await asyncio.sleep(0.05)  # for it to be in the queue; it proves nothing if it is not
        waiting.cancel()
        await asyncio.wait([waiting])
        for each in folders:
            (each / "go").touch()
        assert [*await asyncio.gather(*holding), await last] == [b"done"] * self.places + [b"last"]
        assert waiting.cancelled()
        # with each place in use, nothing that began before is still executing
        await asyncio.gather(*(executor.submit(call_of(executor_calls.hold, each)) for each in folders))
        assert not (folder / "noted").exists()

    # workers and the executor's life

    @clause
    async def test_a_lost_worker_is_told_and_replaced(self, executor: Executor, folder: Path) -> None:
        """A call whose process is killed ends in WorkerLostError, and the executor executes the next ones."""
        if not self.loses_workers:
            return
        raised = await _raised(executor, executor_calls.die)
        assert isinstance(raised, WorkerLostError)
        sent = [str(number).encode() for number in range(self.places * 2)]
        assert await asyncio.gather(*(executor.submit(call_of(executor_calls.echo, data)) for data in sent)) == sent

    def test_a_closed_executor_is_unavailable(self, tmp_path: Path) -> None:
        """A call after the end raises ExecutorUnavailableError, and does not wait."""

        async def use() -> None:
            async with asyncio.timeout(self.patience):
                async with self.opened() as executor:
                    await executor.submit(call_of(executor_calls.echo))
                raised = await _raised(executor, executor_calls.echo)
                assert isinstance(raised, ExecutorUnavailableError)

        asyncio.run(use())

    # with a kernel

    @clause
    async def test_a_workflow_has_the_results_that_it_has_in_process(self, executor: Executor, folder: Path) -> None:
        """A node, a split and a task change the data as they do in the process of their run."""
        data = {"text": TEXT, "folder": str(folder), "kills": False}
        here, there = word_count(), word_count()
        async with Kernel(executor={EXECUTOR: InProcess()}) as kernel:
            expected = await kernel.run(here, data, run_id="one")
        (folder / "killed").unlink()
        async with Kernel(executor={EXECUTOR: executor}) as kernel:
            assert await kernel.run(there, data, run_id="one") == expected

    @clause
    async def test_a_lost_worker_is_no_attempt(self, executor: Executor, folder: Path) -> None:
        """A task that kills its worker once succeeds in its first attempt, without any retry."""
        if not self.loses_workers:
            return
        async with Kernel(executor={EXECUTOR: executor}) as kernel:
            result = await kernel.run(word_count(), {"text": TEXT, "folder": str(folder), "kills": True})
        assert result.data["attempt"] == 1


class InProcess:
    """An executor that executes calls in the process of their run."""

    async def submit(self, call: Call) -> Any:
        """See `Executor.submit`."""
        return await call()
