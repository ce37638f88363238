"""The strategies in a kernel that discovers the plugin and never really sleeps."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

import pytest
from cano import Kernel, RetryExhaustedError, SystemClock, Task, TaskConfig, Workflow
from cano_retry import Chain, Fixed, RetryBudget

LONG = 5.0
"""Seconds. Longer sleeps are the kernel's own, not a strategy's, and end when the kernel closes."""


class State(Enum):
    """The states of the workflow."""

    CALL = "call"
    DONE = "done"


class Instant(SystemClock):
    """A clock that records the delays between attempts instead of sleeping."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Return at once."""
        if seconds >= LONG:
            await asyncio.Event().wait()
        self.slept.append(seconds)


class Flaky(Task[State]):
    """A task that fails a number of times, then succeeds."""

    def __init__(self, failures: int, config: TaskConfig | None = None) -> None:
        super().__init__(config=config)
        self.failures = failures
        self.attempts = 0

    async def run(self, store: Any) -> State:
        """Fail while there are failures left."""
        self.attempts += 1
        if self.attempts <= self.failures:
            raise OSError("down")
        return State.DONE


async def run(*tasks: Flaky) -> list[float]:
    """Run a workflow for each task, one after another; returns the pauses made."""
    clock = Instant()
    async with Kernel(clock=clock) as kernel:
        for task in tasks:
            await kernel.run(Workflow(State.CALL).register(State.CALL, task).add_exit_state(State.DONE))
    return clock.slept


async def test_default_is_three_retries() -> None:
    """A task without a config survives three failures, with growing pauses."""
    task = Flaky(3)
    first, second, third = await run(task)

    assert task.attempts == 4
    assert 0.09 <= first <= 0.11
    assert 0.18 <= second <= 0.22
    assert 0.36 <= third <= 0.44


async def test_four_failures_are_too_many() -> None:
    """The fourth failure is final, and the error has the number of attempts."""
    with pytest.raises(RetryExhaustedError) as caught:
        await run(Flaky(4))

    assert caught.value.attempts == 4
    assert isinstance(caught.value.__cause__, OSError)


async def test_strategy_by_name() -> None:
    """A config may name a strategy."""
    assert await run(Flaky(2, TaskConfig(retry="fixed"))) == [1.0, 1.0]


async def test_chain() -> None:
    """The kernel makes all retries of a chain."""
    strategy = Chain(Fixed(1, 0.5), Fixed(2, 4))

    assert await run(Flaky(3, TaskConfig(retry=strategy))) == [0.5, 4, 4]


async def test_shared_budget() -> None:
    """Workflows that share a budget share its tokens."""
    config = TaskConfig(retry=Fixed(3, 1, budget=RetryBudget(2, 0)))
    greedy, late = Flaky(2, config), Flaky(1, config)
    with pytest.raises(Exception, match="down"):
        await run(greedy, late)

    assert (greedy.attempts, late.attempts) == (3, 1)
