"""Attempts share nothing that changes: neither the store's view, nor what `prep` returned, nor the step's identity."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cano import Kernel, Node, Step, TaskConfig, Workflow, current_step
from cano.testing import VirtualClock
from cano_retry import Fixed

from tests.clocks import Passing


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel with the memory store, in virtual time."""
    async with Kernel(clock=VirtualClock()) as kernel:
        yield kernel


def two_steps(first: Any, second: Any, **config: Any) -> Workflow[str]:
    """A workflow of two tasks; `config` is the first one's."""
    flow = Workflow("A", name="two").add_exit_state("END")
    flow.register("A", first, config=TaskConfig(**config))
    return flow.register("B", second, config=TaskConfig.minimal())


@pytest.mark.parametrize("fails_by", ["timeout", "error"])
async def test_a_late_write_of_a_failed_attempt_is_lost(kernel: Kernel, fails_by: str) -> None:
    """A task that the attempt left behind writes while the next attempt, and then the next step, is under way."""
    go, written, kept = asyncio.Event(), asyncio.Event(), set()

    async def write_late(store: Any) -> None:
        await go.wait()
        store["price"] = store.get("price", default="none") + ", of the first attempt"
        written.set()

    async def ask(store: Any) -> str:
        if current_step().attempt == 1:
            kept.add(asyncio.ensure_future(write_late(store)))
            await asyncio.sleep(0)
            if fails_by == "error":
                raise ConnectionError
            await asyncio.Event().wait()
        store["price"] = "of the second attempt"
        return "B"

    async def follow(store: Any) -> str:
        go.set()
        await written.wait()
        store["seen"] = store["price"]
        return "END"

    result = await kernel.run(two_steps(ask, follow, retry=Fixed(1, 0), timeout=5), {}, run_id="x")
    assert result.data == {"price": "of the second attempt", "seen": "of the second attempt"}


class Pops(Node[str, Any, Any]):
    """Each phase empties its arguments, and fails at first in `failing`."""

    def __init__(self, failing: str, client: object) -> None:
        super().__init__()
        self.failing = failing
        self.client = client
        self.seen: list[Any] = []

    def change(self, phase: str, values: Any) -> None:
        """Note the list, and empty it."""
        numbers, client = values
        assert client is self.client
        self.seen.append((phase, list(numbers)))
        numbers.clear()
        if self.failing == phase and self.seen.count((phase, self.seen[-1][1])) == 1:
            raise ConnectionError

    async def prep(self, store: Any) -> Any:
        return [1, 2], self.client

    async def exec(self, prepared: Any) -> Any:
        self.change("exec", prepared)
        return [3], self.client

    async def post(self, store: Any, prepared: Any, result: Any) -> str:
        assert prepared[0] == []  # as `exec` left it
        self.change("post", result)
        return "END"


@pytest.mark.parametrize(
    ("failing", "seen"),
    [
        ("exec", [("exec", [1, 2]), ("exec", [1, 2]), ("post", [3])]),
        ("post", [("exec", [1, 2]), ("post", [3]), ("post", [3])]),
    ],
)
async def test_phases_get_their_arguments_unchanged(kernel: Kernel, failing: str, seen: Any) -> None:
    """What a failed attempt did to them reaches no other; a client in them is not copied."""
    node = Pops(failing, threading.Lock())
    flow = Workflow("A", default_config=TaskConfig(retry=Fixed(2, 0))).register("A", node).add_exit_state("END")
    await kernel.run(flow)
    assert node.seen == seen


async def test_a_fallback_gets_what_prep_returned(kernel: Kernel) -> None:
    """Also without retries: the fallback is a further attempt."""

    class Work(Pops):
        async def exec_fallback(self, prepared: Any, error: Exception) -> Any:
            self.seen.append(("fallback", list(prepared[0])))
            prepared[0].clear()
            return [4], self.client

    node = Work("exec", threading.Lock())
    flow = Workflow("A", default_config=TaskConfig.minimal()).register("A", node).add_exit_state("END")
    await kernel.run(flow)
    assert node.seen == [("exec", [1, 2]), ("fallback", [1, 2]), ("post", [4])]


async def test_nothing_is_copied_if_no_attempt_can_follow(kernel: Kernel) -> None:
    """Large values then cost nothing."""
    prepared, got = [1, 2], []

    class Work(Node[str, Any, Any]):
        async def prep(self, store: Any) -> Any:
            return prepared

        async def exec(self, given: Any) -> Any:
            got.append(given)
            return prepared

        async def post(self, store: Any, given: Any, result: Any) -> str:
            got.extend([given, result])
            return "END"

    flow = Workflow("A", default_config=TaskConfig.minimal()).register("A", Work()).add_exit_state("END")
    await kernel.run(flow)
    assert all(value is prepared for value in got)
    assert len(got) == 3


async def test_arguments_that_cannot_be_copied_are_shared(kernel: Kernel) -> None:
    """A list that contains itself, say."""
    loop: list[Any] = []
    loop.append(loop)

    class Work(Node[str, Any, Any]):
        async def prep(self, store: Any) -> Any:
            return loop

        async def exec(self, prepared: Any) -> Any:
            assert prepared is loop

        async def post(self, store: Any, prepared: Any, result: Any) -> str:
            return "END"

    flow = Workflow("A", default_config=TaskConfig(retry=Fixed(2, 0))).register("A", Work()).add_exit_state("END")
    assert (await kernel.run(flow)).state == "END"


async def test_the_step_keeps_its_identity(kernel: Kernel) -> None:
    """What `current_step()` returned names its own step and attempt, whatever the run does later."""
    steps: list[Step] = []

    async def charge(store: Any) -> str:
        steps.append(current_step())
        assert current_step() is steps[-1]
        current_step().progress(len(steps))
        if len(steps) == 1:
            raise ConnectionError
        steps[0].progress(99)  # an abandoned attempt does not report for its successor
        assert current_step().last_progress == (2, None, None)
        return "B"

    async def refund(store: Any) -> str:
        steps.append(current_step())
        return "END"

    await kernel.run(two_steps(charge, refund, retry=Fixed(1, 0)), {}, run_id="x")
    assert [(step.state, step.seq, step.attempt, step.idempotency_key) for step in steps] == [
        ("A", 1, 1, "x:1"),
        ("A", 1, 2, "x:1"),
        ("B", 2, 1, "x:2"),
    ]


async def test_a_thread_left_behind_keeps_its_step() -> None:
    """Even if it first asks when the next step is under way: charge and refund never share a key."""
    began, asked = asyncio.Event(), asyncio.Event()
    go = threading.Event()
    keys: list[str] = []
    loop, clock = asyncio.get_running_loop(), Passing()

    def charge(store: Any) -> str:
        loop.call_soon_threadsafe(began.set)
        go.wait()
        keys.append(current_step().idempotency_key)
        loop.call_soon_threadsafe(asked.set)
        return "B"

    async def refund(store: Any) -> str:
        go.set()
        await asked.wait()
        keys.append(current_step().idempotency_key)
        return "END"

    async with Kernel(clock=clock) as kernel:
        handle = await kernel.start(two_steps(charge, refund, timeout=5, on_exhausted="B"), {}, run_id="x")
        await began.wait()
        await clock.advance(5)
        await handle.result()
    assert keys == ["x:1", "x:2"]


async def test_an_observer_sees_the_progress(kernel: Kernel) -> None:
    """The identity that a task holds and the step of the run report as one."""
    entered, go = asyncio.Event(), asyncio.Event()

    async def work(store: Any) -> str:
        current_step().progress(1, 2, "half")
        entered.set()
        await go.wait()
        return "END"

    async def none(store: Any) -> str:
        return "END"

    handle = await kernel.start(two_steps(work, none), {})
    await entered.wait()
    assert handle.status().progress == (1, 2, "half")
    go.set()
    await handle.result()
