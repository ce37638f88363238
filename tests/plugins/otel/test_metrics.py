"""Metrics: what is counted and measured, under which labels."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cano import (
    Expect,
    Kernel,
    KeyValueStore,
    LateRun,
    Run,
    Step,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
    wait_for,
)
from cano_scheduler import Scheduler

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]
NAME = ("cicd.pipeline.name", "flow")


class Once:
    """A retry strategy: one retry, after two seconds."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 2.0 if attempt == 1 else None


def labels(**values: Any) -> tuple[tuple[str, Any], ...]:
    """Labels of the workflow "flow", sorted; a double underscore stands for a dot."""
    return tuple(sorted([NAME, *((key.replace("__", "."), value) for key, value in values.items())]))


async def test_runs_and_steps(make_kernel: MakeKernel, seen: Seen) -> None:
    """Every metric distinguishes a run that succeeds at its second attempt from one that fails."""
    flow = Workflow("a", name="flow").add_exit_state("done")
    tries = {"well": 0}

    @flow.on("a", config=TaskConfig(retry=Once()))
    async def a(store: KeyValueStore) -> str:
        if store["how"] == "badly":
            raise LookupError
        tries["well"] += 1
        if tries["well"] == 1:
            raise ValueError
        return "done"

    async with make_kernel() as kernel:
        await kernel.run(flow, {"how": "well"})
        with pytest.raises(TaskError):
            await kernel.run(flow, {"how": "badly"})

    executing = {"cicd__pipeline__run__state": "executing"}
    success, failure = {"cicd__pipeline__result": "success"}, {"cicd__pipeline__result": "failure"}
    lookup, state = {"error__type": "LookupError"}, {"cano__step__state": "a"}
    assert seen.metrics("cano.run.started") == {labels(cano__run__resumed=False): 2}
    assert seen.metrics("cano.run.finished") == {labels(**success): 1, labels(**failure): 1}
    assert seen.metrics("cicd.pipeline.run.errors") == {labels(**lookup): 1}
    assert seen.metrics("cicd.pipeline.run.active") == {labels(**executing): 0}
    assert seen.metrics("cicd.pipeline.run.duration") == {
        labels(**executing, **success, cano__run__status="succeeded"): (1, 2.0),
        labels(**executing, **failure, **lookup, cano__run__status="failed"): (1, 2.0),
    }
    assert seen.metrics("cano.step.duration") == {
        labels(**state, cicd__pipeline__task__run__result="success"): (1, 2.0),
        labels(**state, **lookup, cicd__pipeline__task__run__result="failure"): (1, 2.0),
    }
    assert seen.metrics("cano.step.attempts") == {labels(**state): 4}
    assert seen.metrics("cano.step.retries") == {
        labels(**state, error__type="ValueError"): 1,
        labels(**state, **lookup): 1,
    }
    assert seen.metrics("cano.commit.duration") == {labels(): (1, 0)}


async def test_in_flight(make_kernel: MakeKernel, seen: Seen) -> None:
    """Runs are counted as active while they are executed."""
    flow = Workflow("a", name="flow").add_exit_state("done")
    all_in, go_on = asyncio.Event(), asyncio.Event()
    inside = []

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        inside.append(1)
        if len(inside) == 3:
            all_in.set()
        await go_on.wait()
        return "done"

    async with make_kernel() as kernel:
        handles = [await kernel.start(flow) for _ in range(3)]
        await all_in.wait()
        during = seen.metrics("cicd.pipeline.run.active")
        go_on.set()
        for handle in handles:
            await handle.result()

    assert list(during.values()) == [3]
    assert list(seen.metrics("cicd.pipeline.run.active").values()) == [0]


async def test_parked(make_kernel: MakeKernel, seen: Seen) -> None:
    """A parked run is counted as parked, not as active or finished."""
    flow = Workflow("a", name="flow").add_exit_state("done")
    parked = asyncio.Event()

    class Parked:
        @hookimpl(trylast=True)
        def cano_run_parked(self, run: Run) -> None:
            parked.set()

    @flow.on("a")
    async def a(store: KeyValueStore) -> Any:
        return wait_for("go", then="done")

    async with make_kernel(Parked()) as kernel:
        handle = await kernel.start(flow, run_id="r")
        await parked.wait()
        during = [seen.metrics(name) for name in ("cano.run.parked", "cicd.pipeline.run.active", "cano.run.finished")]
        await kernel.signal("r", "go")
        await handle.result()

    assert [list(metric.values()) for metric in during] == [[1], [0], []]
    assert seen.metrics("cano.run.finished") == {labels(cicd__pipeline__result="success"): 1}


async def test_late(make_kernel: MakeKernel, seen: Seen) -> None:
    """A late run is counted by its workflow, a late visit by its state, too."""
    gate = asyncio.Event()

    class Told:
        count = 0

        @hookimpl(trylast=True)
        def cano_run_late(self, late: LateRun) -> None:
            self.count += 1
            if self.count == 2:
                gate.set()

    flow = Workflow("a", name="flow", expect=Expect(within=0.01, step_within={"a": 0.01})).add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        await gate.wait()
        return "done"

    async with make_kernel(Told()) as kernel:
        await kernel.run(flow, run_id="r")

    counted = seen.metrics("cano.run.late")
    assert sorted((len(where), count) for where, count in counted.items()) == [(1, 1), (2, 1)]


async def test_observer_errors(make_kernel: MakeKernel, seen: Seen) -> None:
    """Exceptions of observers are counted by observer and fail no run."""

    class Broken:
        @hookimpl
        def cano_step_started(self, step: Step) -> None:
            raise RuntimeError

    flow = Workflow("a", name="flow").add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        return "done"

    async with make_kernel(Broken()) as kernel:
        for _ in range(3):
            assert (await kernel.run(flow)).state == "done"

    (((_, observer),), count) = next(iter(seen.metrics("cano.observer.errors").items()))
    assert observer.endswith("Broken.cano_step_started")
    assert count == 3


async def test_schedules(make_kernel: MakeKernel, seen: Seen) -> None:
    """With the scheduler, the lateness of its runs is measured by schedule."""
    flow = Workflow("a", name="flow").add_exit_state("done")
    ran = asyncio.Event()
    runs: list[str] = []

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        runs.append("a")
        if len(runs) == 3:
            ran.set()
        return "done"

    async with make_kernel("scheduler") as kernel:
        scheduler = Scheduler(kernel)
        first = datetime.fromtimestamp(kernel.clock.time(), UTC) + timedelta(seconds=5)
        scheduler.every("often", flow, 10.0, first=first)
        async with scheduler:
            await ran.wait()

    ((key, (count, _)),) = seen.metrics("cano.schedule.lateness").items()
    assert (dict(key), count >= 3) == ({"cano.schedule.id": "often", "cano.schedule.outcome": "fired"}, True)


async def test_times_that_passed_without_a_run(make_kernel: MakeKernel, seen: Seen) -> None:
    """Skipped due times are counted by schedule and reason, also if one tick covers several."""
    flow = Workflow("a", name="flow").add_exit_state("done")

    async with make_kernel("scheduler") as kernel:

        @flow.on("a")
        async def a(store: KeyValueStore) -> str:
            await kernel.clock.sleep(3.5)
            return "done"

        async with Scheduler(kernel).every("often", flow, 1, overlap="skip"):
            await kernel.clock.sleep(4.25)  # at 0 and 4 it runs
        counted = kernel.observer_errors

    assert counted == {}
    ((key, count),) = seen.metrics("cano.schedule.skipped").items()
    assert (dict(key), count) == ({"cano.schedule.id": "often", "cano.schedule.reason": "overlap"}, 3)


async def test_no_ids_in_labels(make_kernel: MakeKernel, seen: Seen) -> None:
    """The number of label sets does not grow with the number of runs."""
    flow = Workflow("a", name="flow").add_exit_state("done")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        return "done"

    async with make_kernel() as kernel:
        await asyncio.gather(*(kernel.run(flow, run_id=f"r{number}") for number in range(50)))

    for name in ("cano.run.started", "cicd.pipeline.run.duration", "cano.step.duration", "cano.commit.duration"):
        assert len(seen.metrics(name)) == 1
