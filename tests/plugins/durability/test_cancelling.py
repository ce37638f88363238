"""Cancelling a run that is ending for another reason: the request is not lost."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from cano import Kernel, RunStatus, Workflow, wait_for

from tests.plugins.durability.conftest import LEASE

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Cleaning:
    """A workflow whose step takes its time to clean up when it is cancelled.

    Attributes:
        began: set when its step has begun; cleaning: when it cleans up.
        clean: what it waits for then.
    """

    def __init__(self) -> None:
        self.began, self.cleaning, self.clean = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def work(self, store: Any) -> str:
        """Hang, and clean up."""
        self.began.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cleaning.set()
            while not self.clean.is_set():
                with suppress(asyncio.CancelledError):
                    await self.clean.wait()
        raise AssertionError

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        return Workflow("work", name="cleaning").register("work", self.work).add_exit_state("end")


@pytest.mark.parametrize("by", ["the kernel", "a handle"])
async def test_cancelling_a_run_that_is_being_interrupted(kernel: Kernel, world: World, by: str) -> None:
    """The request counts, though the caller of `run` has gone away first: no process resumes the run."""
    work = Cleaning()
    caller = asyncio.ensure_future(kernel.run(work.flow(), run_id="r"))
    await work.began.wait()
    handle = await kernel.start(work.flow(), run_id="r")
    caller.cancel()
    await work.cleaning.wait()
    cancelling = asyncio.ensure_future(kernel.cancel("r") if by == "the kernel" else handle.cancel())
    await world.settle()
    work.clean.set()
    await cancelling
    await asyncio.wait([caller])
    assert (await world.look("r")).status is RunStatus.CANCELLED


async def test_cancelling_where_the_run_was_lost(kernel: Kernel, world: World) -> None:
    """The request reaches the process that has taken the run over, though its old one has not left it yet."""
    work, again = Cleaning(), Cleaning()
    await kernel.start(work.flow(), run_id="r")
    await work.began.wait()
    world.faults(kernel).at_call("renew", None).hang()
    await world.lapse()
    await work.cleaning.wait()
    other = await world.kernel()
    await other.recover(again.flow())
    await again.began.wait()
    again.clean.set()
    assert "r" in kernel.active
    cancelling = asyncio.ensure_future(kernel.cancel("r"))
    await world.settle()
    work.clean.set()
    assert await cancelling
    await world.clock.advance(LEASE)
    assert (await world.look("r")).status is RunStatus.CANCELLED


@pytest.mark.parametrize("then", ["executes", "parks"])
async def test_cancelling_a_run_that_another_process_claims(kernel: Kernel, world: World, then: str) -> None:
    """The run was parked, and woken elsewhere, while its old process waits for the store: the request follows it."""
    began, gate = asyncio.Event(), asyncio.Event()

    async def ask(store: Any) -> Any:
        return wait_for("go", then="work")

    async def work(store: Any) -> Any:
        if then == "parks":
            return wait_for("more", then="end")
        began.set()
        await gate.wait()
        return "end"

    flow: Workflow[Any] = Workflow("ask", name="asking").register("ask", ask).register("work", work)
    flow.add_exit_state("end")
    other = await world.kernel()
    fault = world.faults(kernel).at_call("commit", after=True).hang()
    await kernel.start(flow, run_id="r")
    await fault.reached()
    await other.recover(flow)
    await other.signal("r", "go")
    await world.settle()
    assert (await world.look("r")).seq == (2 if then == "parks" else 1)
    assert await kernel.cancel("r")
    fault.release()
    await world.clock.advance(LEASE)
    assert (await world.look("r")).status is RunStatus.CANCELLED
