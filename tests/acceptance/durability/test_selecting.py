"""Filters of lists, on each store, whatever it filters by itself."""

from __future__ import annotations

from typing import Any

import pytest
from cano import Commit, Kernel, RunRecord, RunStatus, StoreBackend
from cano.testing import VirtualClock
from cano_durability.selecting import listing

from tests.acceptance.durability.shared import ONLY

START = 1_800_000_000.0
ERRORS = [("TaskError", "ValueError: bad"), ("TaskError", "OSError"), ("JoinError", None)]


async def fill(backend: StoreBackend) -> list[RunRecord]:
    """Keep 40 runs, ten a status, in three states, which began a minute apart; return them newest first."""
    statuses = (RunStatus.FAILED, RunStatus.SUCCEEDED, RunStatus.PARKED, RunStatus.RUNNING)
    kept = []
    for number in range(40):
        run = RunRecord(
            f"r{number:02}", "trip" if number % 3 else "other", "1", "f", "A", created=START + 60 * number,
            updated=START + 60 * number, holder="h", expires=START + (9e6 if number % 8 == 3 else 0), token=1,
        )  # fmt: skip
        await backend.create(run)
        kind, cause = ERRORS[number // 4 % 3]
        status = statuses[number % 4]
        error = {"type": kind, "message": "m", "cause": cause} if status is RunStatus.FAILED else None
        commit = Commit(
            run_id=run.run_id, token=1, expected_seq=0, seq=1, state="ABC"[number % 5 % 3], status=status, error=error,
            at=START + 5000 - 60 * number,
        )  # fmt: skip
        await backend.commit(commit)
        status = RunStatus.INTERRUPTED if status is RunStatus.RUNNING and number % 8 != 3 else status
        kept.append(run._replace(seq=1, state=commit.state, status=status, error=error, updated=commit.at))
    return kept[::-1]


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"where": "state = B"}, lambda run: run.state == "B"),
    ({"state": "B", "status": "failed"}, lambda run: run.state == "B" and run.status is RunStatus.FAILED),
    ({"where": "error = ValueError"}, lambda run: run.error is not None and "Value" in str(run.error["cause"])),
    ({"where": "error = TaskError"}, lambda run: run.error is not None and run.error["type"] == "TaskError"),
    ({"error": "OSError", "state": "A"}, lambda run: "OSError" in str(run.error) and run.state == "A"),
    ({"where": "error = ValueError and status = parked"}, lambda run: False),
    ({"where": "created > 30m ago"}, lambda run: run.created > START + 1200),
    ({"where": "status = interrupted and state = C"},
     lambda run: run.status is RunStatus.INTERRUPTED and run.state == "C"),
    ({"where": "status = running and created > 50m ago", "workflow": "trip"},
     lambda run: run.status is RunStatus.RUNNING and run.created > START and run.workflow == "trip"),
    ({"created_after": START + 60, "created_before": START + 900, "updated_after": START + 4200},
     lambda run: START + 60 < run.created < START + 900 and run.updated > START + 4200),
    ({"where": "workflow = trip and status = failed and state = A and updated > 10m ago"},
     lambda run: (run.workflow, run.status, run.state) == ("trip", RunStatus.FAILED, "A")
     and run.updated > START + 2400),
]  # fmt: skip


async def test_filters_on_each_store(store: str | StoreBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of each kind, and the same as one that filters by little, give the same runs, also page after page."""
    monkeypatch.setattr(listing, "PAGE", 7)
    monkeypatch.setattr("cano.run_filter.PAGE", 3)
    async with Kernel(store=store, clock=VirtualClock(start=START + 3000), **ONLY) as kernel:
        backend = kernel.backend
        assert backend is not None
        every, honest = await fill(backend), backend.capabilities
        for changes in ({}, {"filters": False}, {"filters": False, "pages": False}):
            backend.capabilities = honest._replace(**changes)
            for given, wanted in FILTERS:
                expected = [run.run_id for run in every if wanted(run)]
                assert [run.run_id for run in await kernel.runs(**given)] == expected, (given, changes)
                assert [run.run_id for run in await kernel.runs(**given, limit=2)] == expected[:2], given
                assert [run.run_id async for run in kernel.runs(**given)] == expected, (given, changes)
                assert await kernel.runs(**given, limit=0) == []
