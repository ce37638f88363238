"""Log lines of runs that are parked and resumed by another kernel."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from cano import Kernel, KeyValueStore, Run, Workflow, hookimpl, wait_for
from cano_structlog import LogSettings, RunLog
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()


class Parked:
    """Records the bound context when a run is parked."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.bound: dict[str, Any] = {}

    @hookimpl(trylast=True)
    def cano_run_parked(self, run: Run) -> None:
        self.bound = structlog.contextvars.get_contextvars()
        self.event.set()


async def test_a_run_that_waits_and_goes_on(tmp_path: Path) -> None:
    """The run is logged as parked with its wait, then as resumed under the same id; step numbers continue."""
    flow = Workflow("ask", name="ask").add_exit_state("done")

    @flow.on("ask")
    async def ask(store: KeyValueStore) -> Any:
        return wait_for("answer", then="heard")

    @flow.on("heard")
    async def heard(store: KeyValueStore) -> str:
        structlog.get_logger().info("mine")
        return "done"

    parked = Parked()
    steps = {"step.started": "info", "step.finished": "info", "transition.committed": "info"}

    def kernel(*more: Any) -> Kernel:
        log = RunLog(LogSettings(levels=steps))
        return Kernel(
            store=f"sqlite:///{tmp_path}/runs.db", discover=False, plugins=["sqlite", "msgspec", log, *more], grace=0
        )

    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        async with kernel(parked) as k:
            await k.start(flow, run_id="r")
            await parked.event.wait()
        async with kernel() as k:
            await k.signal("r", "answer")
            await k.resume(flow, "r")

    assert {line["run_id"] for line in lines} == {"r"}
    assert parked.bound == {}
    assert [(line["event"].removeprefix("cano."), line.get("state"), line.get("seq")) for line in lines] == [
        ("run.started", "ask", None),
        ("step.started", "ask", 1),
        ("step.finished", "ask", 1),
        ("transition.committed", "ask", 1),
        ("run.parked", None, None),
        ("run.started", "heard", None),
        ("step.started", "heard", 2),
        ("mine", "heard", 2),
        ("step.finished", "heard", 2),
        ("transition.committed", "heard", 2),
        ("run.finished", "done", 2),
    ]
    waits, goes_on = lines[4], lines[5]
    assert (waits["signal"], waits["until"], waits["duration_ms"] >= 0) == ("answer", None, True)
    assert [line.get("resumed") for line in lines if line["event"] == "cano.run.started"] == [None, True]
    assert goes_on["log_level"] == "info"
