"""Runs and signals that are stored in the transaction of a user's connection: with what it does, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from cano import Kernel, RunStatus, Workflow, task, wait_for

from tests.acceptance.durability.connections import CREATE, KINDS, ask, connected
from tests.acceptance.durability.shared import ONLY


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of a store of each kind that joins transactions, with a table of orders in its database."""
    url = url_of(request.param)

    async def make() -> None:
        async with Kernel(store=url, **ONLY):
            pass

    asyncio.run(make())
    ask(url, CREATE)
    return url


def orders(url: str) -> list[str]:
    """The orders that are committed."""
    return [what for (what,) in ask(url, "SELECT what FROM orders")]


async def send(store: Any) -> str:
    """A step."""
    return "end"


async def wait(store: Any) -> Any:
    """Wait for a signal."""
    return wait_for("go", then="end")


flow = Workflow("send", name="shipment").add_exit_state("end").register("send", task(send))
waiting = Workflow("wait", name="approval").add_exit_state("end").register("wait", task(wait))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_row_and_run_are_both_there_or_neither(url: str, kind: str, end: str) -> None:
    """With each library, and whether the row or the run comes first."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url, kind) as user:
        for number in range(2):
            if number == 0:
                await user.order()
            await kernel.submit(flow, {"n": number}, run_id=f"r{number}", connection=user.given)
            if number == 1:
                await user.order()
            assert len(await kernel.runs()) == (number if end == "commit" else 0)
            await user.end(end)
        made = sorted([run.run_id, run.status] for run in await kernel.runs())
        if end == "rollback":
            assert (made, orders(url)) == ([], [])
            return
        assert made == [["r0", RunStatus.QUEUED], ["r1", RunStatus.QUEUED]]
        assert orders(url) == ["lamp", "lamp"]
        result = await kernel.run(flow, run_id="r1")
        assert (result.state, dict(result.data)) == ("end", {"n": 1})
