"""The adapter speaks the harness's protocol, with a real PostgreSQL behind it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel

from tests.benchmarks.portable import DEPTH, MANIFEST, Adapter, Latencies
from tests.servers.postgres import PostgresServer

ROOT = Path(__file__).parents[2]
METRICS = {"claim_p50_ms", "claim_p95_ms", "claim_p99_ms", "enqueue_rate", "completion_rate", "queue_depth"}
"""What each sample must have."""


def test_latencies_have_percentiles_in_bounded_memory() -> None:
    """They are exact to three figures, and those of parts that have left the window do not count."""
    latencies = Latencies(2)
    assert latencies.percentiles(0.5) == [0]
    for number in range(1, 100_001):
        latencies.add(number / 100)
    assert latencies.percentiles(0.5, 0.95, 0.99, 1) == [500, 950, 990, 1000]
    assert sum(map(len, latencies._parts)) < 4000
    latencies.turn()
    latencies.add(3)
    assert latencies.percentiles(1) == [1000]
    latencies.turn()
    assert latencies.percentiles(0.5, 1) == [3, 3]


@pytest.mark.slow
async def test_the_depth_is_the_number_of_queued_runs(postgres: PostgresServer) -> None:
    """A producer that keeps the depth would otherwise submit without end."""
    database = postgres.new_database()
    adapter = Adapter({"DATABASE_URL": postgres.url(database)})
    async with Kernel(store=adapter.url) as kernel:
        await kernel.submit_many(adapter.flow, [{}] * 3)
    assert postgres.psql(DEPTH, database).strip() == "3"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fixed", "depth-target"])
def test_jobs_go_through_a_real_server(postgres: PostgresServer, mode: str) -> None:
    """A descriptor that is the manifest's, samples with every metric until jobs have been executed, and a clean end."""
    database = postgres.new_database()
    settings = {
        "DATABASE_URL": postgres.url(database), "SCENARIO": "long_horizon", "PRODUCER_MODE": mode,
        "PRODUCER_RATE": "50", "TARGET_DEPTH": "5", "WORKER_COUNT": "4", "JOB_WORK_MS": "1", "SAMPLE_EVERY_S": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.portable"], cwd=ROOT, text=True, stdout=subprocess.PIPE,
        env={**os.environ, **settings, "CANO_BLOCK": "otel,structlog"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        descriptor = json.loads(process.stdout.readline())
        samples: list[dict[str, Any]] = []
        while not {"completion_rate", "claim_p99_ms", "queue_depth"} <= {
            each["metric"] for each in samples if each["value"] > 0 or each["metric"] == "queue_depth"
        }:
            samples.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGTERM)
        samples += map(json.loads, process.communicate()[0].splitlines())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert process.returncode == 0
    assert (descriptor["kind"], descriptor["system"], descriptor["db_name"]) == ("descriptor", "cano", database)
    assert set(descriptor["event_tables"]) >= set(MANIFEST["event_tables"])
    assert {each["metric"] for each in samples} >= METRICS
    for each in samples:
        assert (each["kind"], each["subject_kind"], each["system"], each["instance_id"]) == (
            "adapter", "adapter", "cano", 0,
        )  # fmt: skip
    for name in (*MANIFEST["event_tables"], *MANIFEST["event_indexes"]):
        assert postgres.psql(f"SELECT to_regclass('{name}') IS NOT NULL", database).strip() == "t"
