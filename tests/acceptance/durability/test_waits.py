"""Waits on every store of ours: answers that belong to their question, and waits that forks and resumed runs keep."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunRecord,
    RunResult,
    RunStatus,
    RunTimeoutError,
    Workflow,
    current_step,
    current_wait,
    wait_for,
)
from cano.testing import VirtualClock

tokens: list[str] = []


async def ask(store: Any) -> Any:
    """Ask, and wait for an answer that comes after the question."""
    tokens.append(current_wait().token)
    return wait_for("answer", then="NOTE", fresh=True)


async def note(store: Any) -> str:
    """Note the answer, and ask a second question."""
    store.append("answers", current_step().payload)
    return "ASK" if len(store["answers"]) < 2 else "DONE"


flow: Workflow[Any] = Workflow("ASK", name="interview").register("ASK", ask).register("NOTE", note)
flow.add_exit_state("DONE")


async def parked(kernel: Kernel, run_id: str, seq: int) -> RunRecord:
    """Return the run's record when it is parked after transition `seq`."""
    while True:
        (record,) = [run for run in await kernel.runs() if run.run_id == run_id]
        if (record.status, record.seq) == (RunStatus.PARKED, seq):
            return record
        if (run := kernel.active.get(run_id)) is not None:
            await run.ended()
        await asyncio.sleep(0)


async def answered(kernel: Kernel, running: Coroutine[Any, Any, RunResult], run_id: str, seq: int) -> RunResult:
    """Let a run continue, and answer its questions from transition `seq` on, each with a double click."""
    result = asyncio.ensure_future(running)
    for number in range(seq, 4, 2):
        record = await parked(kernel, run_id, number)
        assert record.wait_token == f"{run_id}:{number}"
        assert await kernel.signal(run_id, "answer", number, wait=record.wait_token)
        assert not await kernel.signal(run_id, "answer", "again", wait=record.wait_token)
    return await result


async def test_waits(url: str) -> None:
    """Double clicks answer one question each; a fork, and a run that timed out while it waited, wait again."""
    tokens.clear()
    clock = VirtualClock(auto=False)
    async with Kernel(store=url, clock=clock) as kernel:
        handle = await kernel.start(flow, run_id="r", timeout=20)
        await parked(kernel, "r", 1)
        await clock.advance(20)
        with pytest.raises(RunTimeoutError):
            await handle.result()
        forks = await asyncio.gather(*(kernel.fork("r", 1, "f") for _ in range(4)), return_exceptions=True)
        assert [fork for fork in forks if not isinstance(fork, ConfigurationError)] == ["f"]

        assert (await answered(kernel, kernel.resume(flow, "r"), "r", 1)).data == {"answers": [1, 3]}
        assert (await parked(kernel, "f", 1)).wait_token == "f:1"
        assert await kernel.fork("r", 3, "g") == "g"
        assert (await answered(kernel, kernel.run(flow, run_id="g"), "g", 3)).data == {"answers": [1, 3]}
        assert [entry.origin for entry in await kernel.history("g")] == [("r", 3), None]
        assert tokens == ["r:1", "r:3"]


async def once(store: Any) -> Any:
    """Ask for a while."""
    tokens.append(current_wait().token)
    return wait_for("answer", then="TAKE", timeout=10, on_timeout="LATE")


async def take(store: Any) -> str:
    """Take the answer."""
    store["answer"] = current_step().payload
    return "DONE"


short: Workflow[Any] = Workflow("ONCE", name="short").register("ONCE", once).register("TAKE", take)
short.add_exit_states(["DONE", "LATE"])


async def test_answers_at_the_end_of_their_wait(url: str) -> None:
    """Of answers with and without the token, and a timeout, one counts; the sender of a token's answer knows it."""
    clock, ends = VirtualClock(auto=False), set[str]()
    async with Kernel(store=url, clock=clock) as kernel:
        for number in range(12):
            run_id = f"r{number}"
            handle = await kernel.start(short, run_id=run_id)
            await parked(kernel, run_id, 1)
            with_token = [kernel.signal(run_id, "answer", n, wait=f"{run_id}:1", id=f"{n}") for n in range(3)]
            without = [kernel.signal(run_id, "answer", "any") for _ in range(number % 2)]
            order = [*with_token, *without][:: 1 if number % 3 else -1]
            timeout = [clock.advance(11)] if number > 1 else []
            *told, _ = await asyncio.gather(*timeout, *order, asyncio.sleep(0))
            result = await handle.result()
            accepted = [n for n in range(3) if await kernel.signal(run_id, "answer", n, wait=f"{run_id}:1", id=f"{n}")]
            assert told.count(True) == len(accepted) + len(without)
            if isinstance(result.data.get("answer"), int):
                assert accepted == [result.data["answer"]]
            else:
                assert accepted == []
            ends.add(result.state)
    assert "DONE" in ends
