"""Promises 1 and 3 for stores that are servers: one that is killed and started again loses and doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from cano import Kernel, RunHandle, Step, hookimpl

from tests.acceptance.durability.errand import STEPS, flow
from tests.servers.postgres import PostgresServer, start_postgres
from tests.servers.redis import RedisServer, start_redis

RUNS = 100


@pytest.fixture(params=[start_postgres, start_redis], ids=["postgres", "redis"])
def server(request: pytest.FixtureRequest) -> Iterator[PostgresServer | RedisServer]:
    """A server of the test's own."""
    start: Callable[[], PostgresServer | RedisServer] = request.param
    server = start()
    yield server
    server.throw_away()


class Gate:
    """Counts commits, and says when there are enough."""

    def __init__(self, enough: int) -> None:
        self.left = enough
        self.reached = asyncio.Event()

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        self.left -= 1
        if self.left == 0:
            self.reached.set()


async def test_the_server_is_killed_amid_a_hundred_runs(server: PostgresServer | RedisServer) -> None:
    """All runs end right, in the very process that lost its server; each transition is there once."""
    url, gate = server.new_url(), Gate(RUNS * STEPS // 3)
    async with Kernel(store=url, plugins=[gate]) as kernel:
        starting = [asyncio.ensure_future(kernel.start(flow, run_id=f"errand-{number}")) for number in range(RUNS)]
        await gate.reached.wait()
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        handles: list[RunHandle] = await asyncio.gather(*starting)
        results = [await handle.result() for handle in handles]

        assert [result.data for result in results] == [{"count": STEPS, "seqs": list(range(1, STEPS + 1))}] * RUNS
        for handle in handles:
            history = await kernel.history(handle.run_id)
            assert [line.seq for line in history] == list(range(STEPS + 1))
        assert await kernel.check() == []
