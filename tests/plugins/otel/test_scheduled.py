"""Runs of schedules: each is its own trace, names its schedule, and links to earlier segments as other runs do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cano import Kernel, KeyValueStore, SystemClock, Workflow
from cano_otel.traces import MAX_SCHEDULED, Traces
from cano_scheduler import Scheduler
from opentelemetry import trace

from tests.plugins.otel.conftest import Seen

MakeKernel = Callable[..., Kernel]


def flow_of(work: Callable[[KeyValueStore], Any], name: str = "due") -> Workflow[str]:
    """A workflow with one task."""
    return Workflow("work", name=name).add_exit_state("done").register("work", work)


async def at_once(store: KeyValueStore) -> str:
    return "done"


def schedule_of(span: Any) -> Any:
    """The schedule that a run's span names."""
    return (span.attributes or {}).get("cano.schedule.id")


def links(span: Any) -> list[tuple[Any, Any]]:
    """Return the kind and the target's span id of each link."""
    return [(link.attributes["cano.link"], link.context.span_id) for link in span.links]


async def test_each_run_is_a_trace_that_links_to_the_scheduler_s(make_kernel: MakeKernel, seen: Seen) -> None:
    """A due run links to the span in which the scheduler was started, instead of being its child."""
    async with make_kernel("scheduler") as kernel:
        with seen.tracers.get_tracer("mine").start_as_current_span("service") as service:
            async with Scheduler(kernel).every("tick", flow_of(at_once), 1) as scheduler:
                await kernel.clock.sleep(2.5)
                assert (await scheduler.status("tick")).fired == 3

    runs = seen.named("RUN due")
    assert [(span.parent, schedule_of(span)) for span in runs] == [(None, "tick")] * 3
    expected = [("caller", service.get_span_context().span_id)]
    assert [links(span) for span in runs] == [expected] * 3
    traces = {span.context.trace_id for span in [*runs, seen.one("service")] if span.context is not None}
    assert len(traces) == 4
    assert [span.kind for span in runs] == [trace.SpanKind.SERVER] * 3


async def test_no_link_outside_a_span(make_kernel: MakeKernel, seen: Seen) -> None:
    """If no span is current where the scheduler is started, which is usual, its runs have no links."""
    async with make_kernel("scheduler") as kernel, Scheduler(kernel).every("tick", flow_of(at_once), 1):
        await kernel.clock.sleep(0.5)

    run = seen.one("RUN due")
    assert (run.parent, list(run.links), schedule_of(run)) == (None, [], "tick")


async def test_a_triggered_run_is_a_child(make_kernel: MakeKernel, seen: Seen) -> None:
    """A run started by `trigger` is a child of the caller's span."""
    tracer = seen.tracers.get_tracer("mine")
    async with (
        make_kernel("scheduler") as kernel,
        Scheduler(kernel).every("tick", flow_of(at_once), 3600, first=3600) as scheduler,
    ):
        with tracer.start_as_current_span("request") as request:
            handle = await scheduler.trigger("tick")
            assert handle is not None
            await handle.result()

    run = seen.one("RUN due")
    assert run.parent is not None
    assert run.parent.span_id == request.get_span_context().span_id
    assert schedule_of(run) is None


async def test_a_run_of_a_schedule_is_resumed_by_another_kernel(
    make_kernel: MakeKernel, seen: Seen, tmp_path: Path
) -> None:
    """The stored traceparent links it to the segment that the schedule started."""
    entered, never = asyncio.Event(), [asyncio.Event()]

    async def first(store: KeyValueStore) -> str:
        return "wait"

    async def wait(store: KeyValueStore) -> str:
        entered.set()
        for event in never:
            await event.wait()
        return "done"

    flow = flow_of(first).register("wait", wait)
    url = f"sqlite:///{tmp_path}/runs.db"
    plugins = ("sqlite", "msgspec", "scheduler")
    async with make_kernel(*plugins, store=url, clock=SystemClock(), grace=0) as kernel:
        scheduler = Scheduler(kernel).every("tick", flow, 3600)
        await scheduler.start()
        await entered.wait()
        (tick,) = await scheduler.history("tick")
    await scheduler.stop(timeout=0)
    never.clear()
    async with make_kernel(*plugins, store=url, clock=SystemClock()) as kernel:
        assert tick.run_id is not None
        await kernel.resume(flow, tick.run_id)

    begun, resumed = seen.named("RUN due")
    assert begun.context is not None
    assert (begun.parent, schedule_of(begun), list(begun.links)) == (None, "tick", [])
    assert resumed.parent is None
    assert links(resumed) == [("earlier", begun.context.span_id)]


def test_runs_that_never_start_are_dropped(seen: Seen) -> None:
    """If due runs never start, the observer remembers a bounded number of them."""

    class Tick:
        nominal = object()
        schedule = "tick"

        def __init__(self, run_id: str) -> None:
            self.run_id = run_id

    traces = Traces(seen.tracers)
    for number in range(MAX_SCHEDULED + 10):
        traces.cano_schedule_fired(Tick(str(number)))

    assert len(traces._scheduled) == MAX_SCHEDULED
