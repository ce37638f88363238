"""Compares commits with plain redis-py commands, in one run on one server.

    python -m tests.plugins.redis.bench_redis [--rounds N] [--appendfsync always|everysec|no]

It starts a server. "by hand" is one awaited redis-py command for each step, as a program without a workflow library
would store its state: a HSET, or HSET and XADD in a MULTI, which also keeps the history.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from typing import Any

from cano_redis import RedisBackend

from tests.benchmarks.commits import RUNS, VALUE, Cano
from tests.servers.redis import RedisServer, start_redis


class ByHand:
    """Plain redis-py."""

    def __init__(self, server: RedisServer) -> None:
        from redis.asyncio import Redis

        self.client: Any = Redis(unix_socket_path=str(server.socket))
        self._seq = 0

    async def hset(self, count: int) -> float:
        """Return the seconds for each of `count` steps of one HSET."""
        begin = time.perf_counter()
        for _ in range(count):
            self._seq += 1
            await self.client.hset("by hand", mapping={"seq": self._seq, "state": "S1", "value": VALUE})
        return (time.perf_counter() - begin) / count

    async def multi(self, count: int) -> float:
        """Return the seconds for each of `count` steps of a HSET and a XADD in one transaction."""
        begin = time.perf_counter()
        for _ in range(count):
            self._seq += 1
            async with self.client.pipeline(transaction=True) as pipeline:
                pipeline.hset("by hand", mapping={"seq": self._seq, "state": "S1", "value": VALUE})
                pipeline.xadd("by hand, history", {"seq": self._seq, "state": "S1", "value": VALUE})
                await pipeline.execute()
        return (time.perf_counter() - begin) / count


async def measure(server: RedisServer, rounds: int) -> None:
    """Print a line for each round, and the medians."""
    raw, store = ByHand(server), RedisBackend(path=str(server.socket))
    await store.open()
    cano = Cano(store)
    for run_id in ("one", *(f"run {number}" for number in range(RUNS))):
        await cano.begin(run_id)
    await cano.many(5)
    await cano.one(100)
    await raw.hset(200)
    await raw.multi(200)

    print(f"{'HSET':>8} {'MULTI':>8} {'one run':>8} {'100 runs':>9}   steps in a second; ratios to HSET, to MULTI")
    ratios: list[tuple[float, ...]] = []
    for _ in range(rounds):
        hset, multi = await raw.hset(100), await raw.multi(100)
        one, many = await cano.one(100), await cano.many(20)
        hset, multi = (hset + await raw.hset(100)) / 2, (multi + await raw.multi(100)) / 2
        ratios.append((hset / one, hset / many, multi / one, multi / many))
        print(
            f"{1 / hset:8.0f} {1 / multi:8.0f} {1 / one:8.0f} {1 / many:9.0f}   "
            + " ".join(f"{ratio:6.2f}" for ratio in ratios[-1])
        )
    one, many, one_multi, many_multi = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(f"one run: {one:.2f} times the steps of HSET by hand, {one_multi:.2f} of MULTI (goal: at least 0.8)")
    print(f"{RUNS} runs: {many:.1f} times the steps of HSET by hand, {many_multi:.1f} of MULTI (goal: at least 4)")
    await store.close()
    await raw.client.aclose()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--appendfsync", choices=("always", "everysec", "no"), default="always")
    options = parser.parse_args()
    server = start_redis("--appendfsync", options.appendfsync)
    try:
        asyncio.run(measure(server, options.rounds))
    finally:
        server.throw_away()


if __name__ == "__main__":
    main()
