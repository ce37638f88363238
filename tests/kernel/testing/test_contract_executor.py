"""The contract of executors itself: each of its clauses fails on an executor that breaks it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cano import Call, CanoError, Executor, WorkerLostError
from cano.testing import ExecutorContract
from cano_process import ProcessExecutor
from cano_remote import FuturesExecutor

CLAUSES = sorted(name for name in dir(ExecutorContract) if name.startswith("test_"))
Submit = Callable[[Any, Call], Awaitable[Any]]


class Broken:
    """An executor with one lie.

    Args:
        executor: the honest one, which executes the calls.
        lie: executes a call with it, and lies.
    """

    remote = True

    def __init__(self, executor: Any, lie: Submit) -> None:
        self.executor, self.lie = executor, lie
        self.abandons, self.reports = executor.abandons, getattr(executor, "reports", False)
        self.seen: dict[bytes, Any] = {}

    async def submit(self, call: Call) -> Any:
        """Lie."""
        return await self.lie(self, call)

    async def honest(self, call: Call) -> Any:
        """Execute the call."""
        return await self.executor.submit(call)


class Closing(Broken):
    """An executor that can be closed."""

    async def close(self) -> None:
        """Close it."""
        await self.executor.close()


async def cuts(self: Any, call: Call) -> Any:
    """Lose all but a million bytes of an answer."""
    return (await self.honest(call))[:1_000_000]


async def swallows(self: Any, call: Call) -> Any:
    """Return nothing for a call that failed."""
    try:
        return await self.honest(call)
    except Exception as error:
        if "this call fails" not in str(error):
            raise
        return b""


async def mixes(self: Any, call: Call) -> Any:
    """Return the answer to the last call that has begun."""
    self.seen[b"last"] = call
    await asyncio.sleep(0)
    return await self.honest(self.seen[b"last"])


async def remembers(self: Any, call: Call) -> Any:
    """Return an answer that it has already."""
    key = call.function.__name__.encode() + call.args[0]
    if key not in self.seen or len(call.args[0]) < 6:
        self.seen[key] = await self.honest(call)
    return self.seen[key]


async def shields(self: Any, call: Call) -> Any:
    """Let a cancelled call execute."""
    executing = asyncio.ensure_future(self.honest(call))
    self.seen[call.run_id.encode()] = executing
    return await asyncio.shield(executing)


async def keeps_waiting(self: Any, call: Call) -> Any:
    """Wait for the end of a cancelled call, and return its answer."""
    executing = asyncio.ensure_future(self.honest(call))
    while not executing.done():
        try:
            await asyncio.shield(executing)
        except asyncio.CancelledError:
            (Path(call.args[0].decode()) / "go").touch()
    return executing.result()


async def hides_losses(self: Any, call: Call) -> Any:
    """Raise another error for a lost worker."""
    try:
        return await self.honest(call)
    except WorkerLostError as error:
        raise RuntimeError("something went wrong") from error


async def opens_again(self: Any, call: Call) -> Any:
    """Take calls after the end."""
    self.executor._closed = False
    return await self.honest(call)


async def forgets_changes(self: Any, call: Call) -> Any:
    """Execute a task's call in a way that loses what the task appended."""
    answer = await self.honest(call)
    return answer.replace(b"keys", b"kyes") if isinstance(answer, bytes) else answer


async def reports_twice(self: Any, call: Call) -> Any:
    """Deliver each report two times."""
    report = call.report
    return await self.honest(call._replace(report=report and (lambda data: (report(data), report(data)))))


async def swaps_reports(self: Any, call: Call) -> Any:
    """Deliver every second report before the first."""
    report: Any = call.report
    kept: list[bytes] = []

    def swap(data: bytes) -> None:
        kept.append(data)
        if len(kept) == 2:
            report(kept.pop())
            report(kept.pop())

    answer = await self.honest(call._replace(report=report and swap))
    for data in kept:
        report(data)
    return answer


IN_THREADS = {
    "test_it_returns_what_the_call_returns", "test_it_raises_what_the_call_raises",
    "test_each_caller_gets_its_own_answer", "test_equal_calls_are_executed_each",
    "test_a_workflow_has_the_results_that_it_has_in_process",
}  # fmt: skip
"""The clauses that need no processes, which take longer to start."""
LIES: dict[str, tuple[Submit, ...]] = {
    "test_it_returns_what_the_call_returns": (cuts,),
    "test_it_raises_what_the_call_raises": (swallows,),
    "test_each_caller_gets_its_own_answer": (mixes,),
    "test_equal_calls_are_executed_each": (remembers,),
    "test_reports_come_before_the_end": (reports_twice, swaps_reports),
    "test_a_cancelled_call_ends_at_once": (shields, keeps_waiting),
    "test_a_call_that_was_cancelled_in_time_never_begins": (shields,),
    "test_a_lost_worker_is_told_and_replaced": (hides_losses,),
    "test_a_closed_executor_is_unavailable": (opens_again,),
    "test_a_workflow_has_the_results_that_it_has_in_process": (forgets_changes,),
    "test_a_lost_worker_is_no_attempt": (hides_losses,),
}


def test_each_clause_has_a_lie() -> None:
    """No clause is left out."""
    assert sorted(LIES) == CLAUSES


@pytest.mark.parametrize(("name", "lie"), [(name, lie) for name, lies in LIES.items() for lie in lies])
def test_a_clause_finds_its_lie(name: str, lie: Submit, tmp_path: Path) -> None:
    """The clause fails on an executor that lies in one way."""

    class Case(ExecutorContract):
        patience = 100.0

        def make_executor(self) -> Executor:
            if name in IN_THREADS:
                return Broken(FuturesExecutor(ThreadPoolExecutor(2)), lie)
            return Closing(ProcessExecutor(2), lie)

    with pytest.raises((AssertionError, CanoError)):
        getattr(Case(), name)(tmp_path)


def test_an_executor_must_be_named() -> None:
    """A subclass that names none is told what to define."""
    with pytest.raises(NotImplementedError, match="ExecutorContract must name an executor"):
        ExecutorContract().make_executor()
