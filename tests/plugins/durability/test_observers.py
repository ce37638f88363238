"""What observers see of runs that are parked, go on, are retried late, or are taken over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import ConflictError, Run, Step, TaskConfig, Workflow, current_step, hookimpl, wait_for

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Watcher:
    """Notes every lifecycle hook in one line."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """A run begins."""
        self.seen.append("run resumed" if run.resumed else "run started")

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """A run is parked."""
        assert run.wait is not None
        self.seen.append(f"run parked: {run.wait.signal or 'time'}")

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """A run ends."""
        self.seen.append(f"run finished: {run.status.value}")

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """A step begins."""
        self.seen.append(f"{step.seq} {step.state} started, attempt {step.attempt}")

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """A step is tried again."""
        self.seen.append(f"{step.seq} retrying in {step.delay:g}")

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """A step is done."""
        self.seen.append(f"{step.seq} finished, next {step.next_state}")

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """A step has failed."""
        self.seen.append(f"{step.seq} failed: {type(step.error).__name__}")

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """A transition is in the store."""
        self.seen.append(f"{step.seq} committed, next {step.next_state}")


async def ask(store: Any) -> Any:
    """Wait."""
    return wait_for("go", then="work", timeout=100, on_timeout="end")


async def work(store: Any) -> str:
    """Work."""
    return "end"


def flow() -> Workflow[Any]:
    """A workflow that waits."""
    made: Workflow[Any] = Workflow("ask", name="flow").register("ask", ask)
    return made.register("work", work).add_exit_state("end")


async def test_parked_and_resumed(world: World) -> None:
    """A run that waits is started, parked, started again as resumed, and finished once."""
    watcher = Watcher()
    kernel = await world.kernel(plugins=[watcher])
    handle = await kernel.start(flow(), run_id="r")
    await world.settle()
    assert watcher.seen == [
        "run started",
        "1 ask started, attempt 1",
        "1 finished, next work",
        "1 committed, next work",
        "run parked: go",
    ]
    watcher.seen.clear()
    await kernel.signal("r", "go")
    await handle.result()
    assert watcher.seen == [
        "run resumed",
        "2 work started, attempt 1",
        "2 finished, next end",
        "2 committed, next end",
        "run finished: succeeded",
    ]


@pytest.mark.parametrize(
    ("on_timeout", "then"),
    [
        ("end", ["run finished: succeeded"]),
        (
            "work",
            ["3 work started, attempt 1", "3 finished, next end", "3 committed, next end", "run finished: succeeded"],
        ),
    ],
)
async def test_a_timeout(world: World, on_timeout: str, then: list[str]) -> None:
    """A timeout starts the run again; no step commits the transition to `on_timeout`, also to an exit state."""
    watcher = Watcher()
    kernel = await world.kernel(plugins=[watcher])
    flow = Workflow("ask", name="flow").register("work", work).add_exit_state("end")
    flow.register("ask", lambda store: wait_for("go", then="work", timeout=100, on_timeout=on_timeout))
    handle = await kernel.start(flow, run_id="r")
    await world.settle()
    watcher.seen.clear()
    await world.clock.advance(100)
    await handle.result()
    assert watcher.seen == ["run resumed", *then]


async def test_an_early_signal(world: World) -> None:
    """A run that need not wait is not parked; one whose signal came in that very moment is, and goes on at once."""
    for call in ("create", "commit"):
        watcher = Watcher()
        kernel = await world.kernel(plugins=[watcher])
        hold = world.faults(kernel).at_call(call, after=call == "create").hang()
        starting = asyncio.ensure_future(kernel.start(flow(), run_id=call))
        await hold.reached()
        await kernel.signal(call, "go")
        hold.release()
        await (await starting).result()
        parked = ["run parked: go", "run resumed"] if call == "commit" else []
        assert watcher.seen == [
            "run started",
            "1 ask started, attempt 1",
            "1 finished, next work",
            "1 committed, next work",
            *parked,
            "2 work started, attempt 1",
            "2 finished, next end",
            "2 committed, next end",
            "run finished: succeeded",
        ]


async def test_a_late_retry(world: World) -> None:
    """A step whose retry is parked has failed for now; it starts again with its next attempt."""

    class Later:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 100.0

    async def flaky(store: Any) -> str:
        if current_step().attempt < 2:
            raise ValueError
        return "end"

    watcher = Watcher()
    kernel = await world.kernel(plugins=[watcher])
    made = Workflow("x", name="x", default_config=TaskConfig(retry=Later())).register("x", flaky)
    handle = await kernel.start(made.add_exit_state("end"), run_id="r")
    await world.clock.advance(100)
    await handle.result()
    assert watcher.seen == [
        "run started",
        "1 x started, attempt 1",
        "1 retrying in 100",
        "1 failed: ValueError",
        "run parked: time",
        "run resumed",
        "1 x started, attempt 2",
        "1 finished, next end",
        "1 committed, next end",
        "run finished: succeeded",
    ]


async def test_taken_over(world: World) -> None:
    """Who takes a run over sees it resumed, in the step that was not committed; who lost it sees it interrupted."""
    loser, winner = Watcher(), Watcher()
    first, second = await world.kernel(plugins=[loser]), await world.kernel(plugins=[winner])
    handle = await first.start(flow(), run_id="r")
    await world.settle()
    fault = world.faults(first).at_call("commit", 2).hang()  # it is woken, and then in its second step
    await first.signal("r", "go")
    await fault.reached()
    world.faults(first).at_call("renew", None).hang()
    await world.lapse()
    (taken,) = await second.recover(flow())
    await taken.result()
    fault.release()
    with pytest.raises(ConflictError):
        await handle.result()
    assert loser.seen[-1] == "run finished: interrupted"
    assert winner.seen == [
        "run resumed",
        "2 work started, attempt 1",
        "2 finished, next end",
        "2 committed, next end",
        "run finished: succeeded",
    ]
