"""`python -m tests.benchmarks.portable`: Cano as an adapter of hardbyte/postgresql-job-queue-benchmarking.

That harness compares job queues on PostgreSQL. It starts an adapter with settings in the environment, reads lines of
JSON from its stdout, and ends it by SIGTERM; its CONTRIBUTING_ADAPTERS.md has the protocol. This is the scenario
`long_horizon`: a producer that submits runs of one step at a steady rate, or up to a depth of the queue, and a worker
that executes them. `--manifest` prints the `adapter.json` that the harness needs in `cano-bench/`.

    DATABASE_URL=postgresql://bench:bench@localhost:15555/cano_bench SCENARIO=long_horizon PRODUCER_RATE=100 \\
        WORKER_COUNT=8 SAMPLE_EVERY_S=2 python -m tests.benchmarks.portable
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import psycopg
from cano import Kernel, Workflow

MANIFEST: dict[str, Any] = {
    "system": "cano",
    "db_name": "cano_bench",
    "event_tables": ["cano.runs", "cano.journal", "cano.snapshot", "cano.signals"],
    "event_indexes": ["cano.runs_queued", "cano.runs_running", "cano.runs_by_status", "cano.runs_to_wake"],
    "extensions": [],
    "family": "cano",
    "display_name": "Cano (Python)",
}
"""What the harness reads before it starts the adapter."""
WINDOW = 30.0
"""Seconds of which the percentiles are."""
TICK = 0.01
"""Seconds between two groups of runs that are submitted together."""
DEPTH = "SELECT count(*) FROM (SELECT 1 FROM cano.runs WHERE status IN ('enqueued', 'due') LIMIT 1000000) AS queued"


class Latencies:
    """The latencies of the last `WINDOW` seconds, to three significant figures, in bounded memory.

    Args:
        parts: into how many parts the window is divided; `turn` ends a part.
    """

    def __init__(self, parts: int) -> None:
        self._parts: deque[Counter[float]] = deque([Counter()], maxlen=max(parts, 1))

    def add(self, milliseconds: float) -> None:
        """Count a latency."""
        self._parts[-1][float(f"{max(milliseconds, 0.0):.3g}")] += 1

    def turn(self) -> None:
        """Begin the next part, and drop the oldest one if there are too many."""
        self._parts.append(Counter())

    def percentiles(self, *wanted: float) -> list[float]:
        """Return the latencies that these parts of all are not above; 0 if there are none."""
        counts: Counter[float] = sum(self._parts, Counter())
        total, found = counts.total(), list[float]()
        for part in wanted:
            left = math.ceil(part * total)
            for value in sorted(counts):
                left -= counts[value]
                if left <= 0:
                    found.append(value)
                    break
            else:
                found.append(0.0)
        return found


def now_text() -> str:
    """Return the time as the harness wants it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Adapter:
    """One producer and one worker, with the settings of an environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        def number(name: str, default: float) -> float:
            return float(environment.get(name) or default)

        self.url = environment["DATABASE_URL"]
        self.instance = int(number("BENCH_INSTANCE_ID", 0))
        self._depth_wanted = int(number("TARGET_DEPTH", 1000))
        self._rate = number("PRODUCER_RATE", 800) if environment.get("PRODUCER_MODE", "fixed") == "fixed" else None
        self._workers = int(number("WORKER_COUNT", 32))
        self._padding = "x" * max(int(number("JOB_PAYLOAD_BYTES", 256)) - 64, 0)
        self._work = number("JOB_WORK_MS", 1) / 1000
        self._every = number("SAMPLE_EVERY_S", 5)
        self._latencies = Latencies(math.ceil(WINDOW / self._every))
        self._submitted = self._completed = self._depth = 0
        self.flow: Workflow[str] = Workflow("WORK", name="bench job")
        self.flow.register("WORK", self._execute).add_exit_state("DONE")

    async def _execute(self, store: Any) -> str:
        self._latencies.add((time.time() - store["at"]) * 1000)
        if self._work:
            await asyncio.sleep(self._work)
        self._completed += 1
        return "DONE"

    def emit(self, record: Mapping[str, Any]) -> None:
        """Write one line."""
        print(json.dumps({**record, "instance_id": self.instance}), flush=True)

    async def run(self, stop: asyncio.Event) -> None:
        """Produce, execute and report until `stop` is set."""
        async with Kernel(store=self.url, grace=1) as producer, Kernel(store=self.url, grace=1) as worker:
            told = {name: MANIFEST[name] for name in ("system", "event_tables", "extensions")}
            database, release = urlsplit(self.url).path.lstrip("/"), version("cano")
            self.emit(
                {"kind": "descriptor", **told, "version": release, "schema_version": release, "db_name": database,
                 "started_at": now_text()}
            )  # fmt: skip
            await worker.recover(self.flow, concurrency=self._workers)
            work = [self._produce(producer), self._sample(), *([self._look()] if self.instance == 0 else [])]
            tasks = [asyncio.ensure_future(each) for each in (*work, stop.wait())]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._report(self._every)
            for task in done:
                task.result()

    async def _produce(self, kernel: Kernel) -> None:
        loop, credit = asyncio.get_running_loop(), 0.0
        before = loop.time()
        while True:
            await asyncio.sleep(TICK)
            now = loop.time()
            credit += (now - before) * (self._rate or 0)
            before = now
            count = int(credit) if self._rate is not None else max(self._depth_wanted - self._depth, 0)
            credit -= count if self._rate is not None else 0
            self._submitted += await kernel.submit_many(
                self.flow, ({"at": time.time(), "padding": self._padding} for _ in range(count))
            )
            self._depth += count  # until it is counted again

    async def _look(self) -> None:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
            while True:
                row = await (await connection.execute(DEPTH)).fetchone()
                self._depth = 0 if row is None else int(row[0])
                await asyncio.sleep(0.2)

    async def _sample(self) -> None:
        last = time.monotonic()
        while True:
            await asyncio.sleep(self._every - time.time() % self._every)  # as all other adapters do at that moment
            now = time.monotonic()
            self._report(max(now - last, 1e-3))
            last = now

    def _report(self, seconds: float) -> None:
        """Write a line for each metric of the time since the last report."""
        p50, p95, p99 = self._latencies.percentiles(0.5, 0.95, 0.99)
        self._latencies.turn()
        submitted, self._submitted = self._submitted, 0
        completed, self._completed = self._completed, 0
        found = [
            ("claim_p50_ms", p50, WINDOW), ("claim_p95_ms", p95, WINDOW), ("claim_p99_ms", p99, WINDOW),
            ("enqueue_rate", submitted / seconds, self._every), ("completion_rate", completed / seconds, self._every),
        ]  # fmt: skip
        if self.instance == 0:  # it reports what is not its own
            found += [("queue_depth", float(self._depth), 0.0), ("producer_target_rate", self._rate or 0.0, 0.0)]
        at = now_text()
        for metric, value, window in found:
            self.emit(
                {"t": at, "system": MANIFEST["system"], "kind": "adapter", "subject_kind": "adapter", "subject": "",
                 "metric": metric, "value": value, "window_s": window}
            )  # fmt: skip


async def main() -> None:
    """Be an adapter until SIGTERM or Ctrl-C."""
    scenario = os.environ.get("SCENARIO", "long_horizon")
    if scenario != "long_horizon":
        sys.exit(f"SCENARIO={scenario} is not one of this adapter's: long_horizon")
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    await Adapter(os.environ).run(stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifest", action="store_true", help="print adapter.json")
    if parser.parse_args().manifest:
        print(json.dumps(MANIFEST, indent=2))
    else:
        with suppress(KeyboardInterrupt):
            asyncio.run(main())
