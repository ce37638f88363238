"""The counts of the benchmark of many workers do not depend on the machine, so that goals for them can be tests."""

from __future__ import annotations

import pytest

from tests.benchmarks.scale import LEASE, POLL, RUNS_EACH, SECONDS, contention, fairness, measured, takeover


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_workers_share_the_runs(kind: str) -> None:
    """Each run is executed once, at the next poll; no claim gets a run twice, and a worker claims twice in a poll."""
    found, _ = await measured(kind, contention, 10)
    assert found.refused == 0
    assert found.seconds <= 2 * POLL
    assert found.claims <= 2 * (SECONDS + 3) / RUNS_EACH
    assert found.lists <= 2 * (SECONDS + 3) / RUNS_EACH


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_runs_of_lost_workers_are_taken_over_at_once(kind: str) -> None:
    """All of them begin again within the lease and a poll, however many workers look for them at that moment."""
    seconds, _ = await measured(kind, takeover, 60)
    assert LEASE - LEASE / 5 < seconds <= LEASE + POLL


async def test_a_long_queue_does_not_delay_another_tenant() -> None:
    """In a store with queues, the second run that begins is the other tenant's."""
    before, _ = await measured("memory", fairness, 200)
    assert before == 1
