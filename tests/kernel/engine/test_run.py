"""A run: its transitions, what tasks may return, `current_step()`, `on_exhausted`, and runs that never wait."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    NodeError,
    Progress,
    Retention,
    RetryExhaustedError,
    Run,
    RunCancelledError,
    RunInfo,
    RunResult,
    RunStatus,
    RunTimeoutError,
    Step,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    TransitionError,
    WaitStrategy,
    Workflow,
    current_step,
    hookimpl,
    sleep_until,
    task,
    wait_for,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

from tests.waiting import until


class State(Enum):
    """The states of some workflows here."""

    START = "start"
    WORK = "work"
    DONE = "done"


class Always:
    """A retry strategy that never gives up."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 0.0


class Attempts(Always):
    """A retry strategy that allows so many attempts."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 1.0 if attempt < self.attempts else None


class Steps:
    """An observer that notes the steps' events by name."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note it."""
        self.events.append(("started", step.seq, step.state, step.next_state))

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note it."""
        self.events.append(("finished", step.seq, step.state, step.next_state))

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note it."""
        self.events.append(("failed", step.seq, step.state, step.next_state))

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Note it."""
        self.events.append(("committed", step.seq, step.state, step.next_state))


class Runs:
    """An observer that notes how runs begin and end."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Note it."""
        self.events.append(("started", run.status, run.state, run.steps, run.error))

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Note it."""
        self.events.append(("finished", run.status, run.state, run.steps, run.error))


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task, in the state "start"."""
    return Workflow("start").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


def then(state: Any) -> Any:
    """A task that goes to `state`."""

    async def go(store: Any) -> Any:
        store.append("visited", current_step().state)
        return state

    return go


async def fail(store: Any) -> str:
    """A task that fails."""
    store["trace"] = True
    raise ValueError("broken")


# transitions


async def test_what_a_task_returns_is_the_next_state(kernel: Kernel) -> None:
    """States follow each other until an exit state; the result counts the transitions."""
    flow = Workflow("a").register("a", then("b")).register("b", then("c")).register("c", then("end"))

    result = await kernel.run(flow.add_exit_state("end"), run_id="r1")

    assert result == RunResult(run_id="r1", state="end", data={"visited": ["a", "b", "c"]}, steps=3)


async def test_loops(kernel: Kernel) -> None:
    """A state may follow itself, and an earlier one may come again."""

    async def count(store: Any) -> str:
        store["count"] = store.get("count", default=0) + 1
        return "check"

    async def check(store: Any) -> str:
        if store["count"] % 2:
            store["count"] += 1
            return "check"
        return "count" if store["count"] < 6 else "end"

    flow = Workflow("count").register("count", count).register("check", check).add_exit_state("end")

    result = await kernel.run(flow)

    assert (result.data, result.steps) == ({"count": 6}, 9)


async def test_states_are_compared_by_value(kernel: Kernel) -> None:
    """A state that is equal is the state, be it the same object or not."""
    flow: Workflow[Any] = Workflow(("step", 1))
    flow.register(("step", 1), lambda store: ("step", int("2")))
    flow.register(("step", 2), lambda store: "".join("end"))

    result = await kernel.run(flow.add_exit_state("end"))

    assert (result.state, result.steps) == ("end", 2)


async def test_a_task_may_return_different_states_in_turn(kernel: Kernel) -> None:
    """The engine remembers what a task returned last, and is not misled by it."""
    order = iter(["b", "c", "b", "b", "c", "end"])
    flow = Workflow("a").register("a", lambda store: next(order)).add_exit_state("end")
    flow.register("b", then("a")).register("c", then("a"))

    result = await kernel.run(flow)

    assert result.data["visited"] == ["b", "c", "b", "b", "c"]


async def test_many_steps(kernel: Kernel) -> None:
    """Thousands of steps without a pause are counted exactly."""

    async def count(store: Any) -> str:
        store["count"] += 1
        assert current_step().seq == store["count"]
        return "start" if store["count"] < 5000 else "end"

    result = await kernel.run(flow_of(count), {"count": 0})

    assert (result.data, result.steps) == ({"count": 5000}, 5000)


async def test_events_of_each_step(clock: VirtualClock) -> None:
    """Started, finished, committed; the next state is known from `finished` on, and forgotten in the next step."""
    seen, nexts = Steps(), []

    async def look(store: Any) -> str:
        nexts.append(current_step().next_state)
        return "b" if current_step().seq == 1 else "end"

    flow = Workflow("a").register("a", look).register("b", look).add_exit_state("end")
    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        await kernel.run(flow)

    assert seen.events == [
        ("started", 1, "a", None),
        ("finished", 1, "a", "b"),
        ("committed", 1, "a", "b"),
        ("started", 2, "b", None),
        ("finished", 2, "b", "end"),
        ("committed", 2, "b", "end"),
    ]
    assert nexts == [None, None]


async def test_events_of_a_run(clock: VirtualClock) -> None:
    """A run is seen to begin and to end, with its status, the state it is in, and its transitions so far."""
    seen = Runs()
    good = Workflow("a").register("a", then("b")).register("b", then("end")).add_exit_state("end")
    bad = Workflow("a").register("a", then("b")).register("b", fail).add_exit_state("end")
    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        await kernel.run(good)
        with pytest.raises(TaskError) as caught:
            await kernel.run(bad)

    assert seen.events == [
        ("started", RunStatus.RUNNING, "a", 0, None),
        ("finished", RunStatus.SUCCEEDED, "end", 2, None),
        ("started", RunStatus.RUNNING, "a", 0, None),
        ("finished", RunStatus.FAILED, "b", 1, caught.value),
    ]


async def test_what_a_run_says_of_itself(clock: VirtualClock) -> None:
    """Its id, workflow and version, and no parent; it was not resumed."""
    runs: list[Run] = []

    class Keeps:
        @hookimpl
        def cano_run_started(self, run: Run) -> None:
            runs.append(run)

    flow = Workflow("a", name="orders", version="3").register("a", then("end")).add_exit_state("end")
    async with Kernel(discover=False, plugins=[Keeps()], clock=clock) as kernel:
        await kernel.run(flow, run_id="r1")
    [run] = runs

    assert (run.run_id, run.workflow, run.version, run.parent_id, run.resumed) == ("r1", "orders", "3", None, False)
    assert repr(run) == "<Run r1 of orders: succeeded in end>"


# what is no next state


@pytest.mark.parametrize("returned", ["nowhere", None, 5, [], {}, {"a"}, ["end"], State.DONE, object, b"end"])
@pytest.mark.parametrize("limits", [{}, {"timeout": 5}], ids=["fast", "limited"])
async def test_a_result_that_is_no_state(kernel: Kernel, returned: Any, limits: dict[str, float]) -> None:
    """It fails the run, hashable or not; it is not retried, leads to no `on_exhausted`, and nothing is kept."""
    attempts: list[int] = []

    async def lost(store: Any) -> Any:
        attempts.append(current_step().attempt)
        store["trace"] = True
        return returned

    store = MemoryStore()
    with pytest.raises(TransitionError, match="task 'lost' of state start returned") as caught:
        await kernel.run(flow_of(lost, retry=Always(), on_exhausted="end", **limits), store, run_id="r1")
    error = caught.value

    assert error.returned is returned
    assert sorted(error.allowed) == ["end", "start"]
    assert (error.run_id, error.workflow, error.state, error.attempt) == ("r1", "workflow", "start", 1)
    assert error.__notes__ == ["at run r1, workflow workflow, state start, attempt 1"]
    assert "it may return: end, start" in str(error)
    assert attempts == [1]
    assert len(store) == 0


async def test_a_forgotten_await_is_told_as_such(kernel: Kernel) -> None:
    """A coroutine in place of a state is closed, so that nothing warns, and the message says what it is."""

    async def helper() -> str:
        return "end"

    async def forgot(store: Any) -> Any:
        return helper()

    with pytest.raises(
        TransitionError, match=r"an awaitable \(is an `await`, or `async def`, missing\?\); it may return: end"
    ):
        await kernel.run(flow_of(forgot))


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (None, "None, which is not a state of the workflow (is a `return` missing?); it may"),
        ("edn", "'edn', which is not a state of the workflow (did you mean 'end'?); it may"),
        (wait_for("go", then="edn"), "wait_for with then='edn', which is not a state of the workflow (did you mean 'e"),
        (wait_for("go", then="end", timeout=1, on_timeout="C"), "wait_for with on_timeout='C', which is not a state"),
        (wait_for("go", then=None), "wait_for with then=None, which is not a state of the workflow; it may"),
        (sleep_until(0, then="C"), "sleep_until with then='C', which is not a state of the workflow; it may"),
    ],
)
async def test_a_mistake_is_told_as_such(kernel: Kernel, returned: Any, told: str) -> None:
    """The message says what is probably missing or meant, and where the task named the state."""
    with pytest.raises(TransitionError) as caught:
        await kernel.run(flow_of(lambda store: returned))
    assert f"of state start returned {told}" in str(caught.value)


async def test_a_plain_function_that_returns_a_coroutine(kernel: Kernel) -> None:
    """The coroutine of `lambda store: work(store)`, where `work` is async, is awaited."""
    assert (await kernel.run(flow_of(lambda store: then("end")(store)))).state == "end"


async def test_a_future_is_no_state(kernel: Kernel) -> None:
    """Any awaitable is told as such."""

    async def future(store: Any) -> Any:
        return asyncio.get_running_loop().create_future()

    with pytest.raises(TransitionError, match="an awaitable"):
        await kernel.run(flow_of(future))


async def test_a_wrong_result_after_a_retry(clock: VirtualClock) -> None:
    """A later attempt that returns no state fails the step like the first one would."""
    seen = Steps()

    async def lost(store: Any) -> Any:
        if current_step().attempt == 1:
            raise OSError
        return "nowhere"

    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        with pytest.raises(TransitionError) as caught:
            await kernel.run(flow_of(lost, retry=Always()))
    assert caught.value.attempt == 2
    assert [event[0] for event in seen.events] == ["started", "failed"]


async def test_a_wrong_result_of_a_node_or_thread(kernel: Kernel) -> None:
    """Where the result comes from makes no difference."""
    with pytest.raises(TransitionError):
        await kernel.run(flow_of(lambda store: "nowhere"))


# the running step


async def test_current_step_tells_where_it_is(kernel: Kernel) -> None:
    """Run, workflow, state, task, number and attempt, from step to step and from attempt to attempt."""
    seen: list[tuple[Any, ...]] = []

    async def look(store: Any) -> State:
        step = current_step()
        seen.append((step.run_id, step.workflow, step.version, step.state, step.task, step.seq, step.attempt))
        if step.attempt < 2:
            raise OSError
        return State.WORK if step.state is State.START else State.DONE

    flow = Workflow(State.START, name="looks", version="7", default_config=TaskConfig(retry=Always()))
    flow.register(State.START, look).register(State.WORK, task(look)).add_exit_state(State.DONE)

    await kernel.run(flow, run_id="r1")

    assert seen == [
        ("r1", "looks", "7", State.START, "look", 1, 1),
        ("r1", "looks", "7", State.START, "look", 1, 2),
        ("r1", "looks", "7", State.WORK, "look", 2, 1),
        ("r1", "looks", "7", State.WORK, "look", 2, 2),
    ]


async def test_what_most_steps_have_nothing_of(kernel: Kernel) -> None:
    """Everything else is None in a plain step."""
    step = await grab(kernel)

    assert [step.branch, step.phase, step.error, step.delay, step.deadline] == [None] * 5
    assert [step.payload, step.outcome, step.next_state, step.last_progress] == [None] * 4
    assert repr(step) == "<Step 1 of run r1: workflow in start, attempt 1>"


async def grab(kernel: Kernel) -> Step:
    """A step as it was in the task of a finished run of one step."""
    steps: list[Step] = []

    async def look(store: Any) -> str:
        steps.append(current_step())
        return "end"

    await kernel.run(flow_of(look), run_id="r1")
    return steps[0]


def test_no_step_is_running_here() -> None:
    """Outside a task there is no step, and the error says so."""
    with pytest.raises(ConfigurationError, match="outside a step"):
        current_step()


async def test_no_step_is_left_behind(kernel: Kernel) -> None:
    """After a run, good or bad, there is no step in the caller's context."""
    await kernel.run(flow_of(then("end")))
    with pytest.raises(ConfigurationError):
        current_step()

    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail))
    with pytest.raises(ConfigurationError):
        current_step()


async def test_the_step_is_known_in_all_that_a_task_calls(kernel: Kernel) -> None:
    """In what it awaits, in asyncio tasks it makes, and in threads that are given its context."""

    async def helper() -> int:
        return current_step().seq

    async def work(store: Any) -> str:
        store["awaited"] = await helper()
        store["made"] = await asyncio.create_task(helper())
        store["thread"] = await asyncio.to_thread(lambda: current_step().seq)
        return "end"

    assert (await kernel.run(flow_of(work))).data == {"awaited": 1, "made": 1, "thread": 1}


async def test_runs_at_once_have_their_own_steps(kernel: Kernel) -> None:
    """Runs that take turns do not see each other's step."""

    async def work(store: Any) -> str:
        for _ in range(3):
            store.append("ids", current_step().run_id)
            await asyncio.sleep(0)
        return "end"

    flow = flow_of(work)
    results = await asyncio.gather(*(kernel.run(flow, run_id=f"r{number}") for number in range(3)))

    assert [result.data["ids"] for result in results] == [["r0"] * 3, ["r1"] * 3, ["r2"] * 3]


async def test_a_run_inside_a_task(kernel: Kernel) -> None:
    """A run awaited in a task has its own step; afterwards the task's own is back."""

    async def inner(store: Any) -> str:
        store["seen"] = current_step().run_id
        return "end"

    async def outer(store: Any) -> str:
        store["before"] = current_step().run_id
        store["inner"] = (await kernel.run(flow_of(inner), run_id="in")).data["seen"]
        store["after"] = current_step().run_id
        return "end"

    assert (await kernel.run(flow_of(outer), run_id="out")).data == {"before": "out", "inner": "in", "after": "out"}


async def test_idempotency_key(kernel: Kernel) -> None:
    """The same for all attempts of a step, in every run of that id; another for every other step and run."""
    keys: list[str] = []

    async def work(store: Any) -> str:
        step = current_step()
        keys.append(step.idempotency_key)
        if step.attempt < 3:
            raise OSError
        return "start" if step.seq < 2 else "end"

    flow = flow_of(work, retry=Always())
    await kernel.run(flow, run_id="r1")
    once = list(keys)
    await kernel.run(flow, run_id="r2")

    first, second = once[0], once[3]
    assert once == [first] * 3 + [second] * 3
    assert len({first, second, *keys[6:]}) == 4
    assert first.startswith("r1")
    assert keys[6].startswith("r2")


# progress


async def test_progress_is_shown_by_the_handle(kernel: Kernel) -> None:
    """What a task says of itself is in `status()`, and forgotten in the next step."""
    going, told = asyncio.Event(), asyncio.Event()

    async def work(store: Any) -> str:
        if current_step().seq == 2:
            told.set()
            await going.wait()
            return "end"
        current_step().progress(3, 10, "three of ten")
        assert current_step().last_progress == Progress(3, 10, "three of ten")
        told.set()
        await going.wait()
        return "start"

    handle = await kernel.start(flow_of(work), run_id="r1")
    await told.wait()

    assert handle.status() == RunInfo(
        run_id="r1",
        workflow="workflow",
        status=RunStatus.RUNNING,
        state="start",
        seq=1,
        attempt=1,
        progress=Progress(done=3, total=10, message="three of ten"),
        error=None,
        as_of=kernel.clock.time(),
    )
    told.clear()
    going.set()
    await told.wait()
    assert (handle.status().seq, handle.status().progress) == (2, None)
    await handle.result()


async def test_progress_without_a_total(kernel: Kernel) -> None:
    """How much there is to do need not be known."""

    async def work(store: Any) -> str:
        current_step().progress(0.5)
        store["said"] = current_step().last_progress
        return "end"

    assert (await kernel.run(flow_of(work))).data == {"said": Progress(0.5, None, None)}


async def test_progress_from_a_thread(kernel: Kernel) -> None:
    """A plain function tells it just the same."""
    told, going = threading.Event(), threading.Event()

    def work(store: Any) -> str:
        current_step().progress(1, 2)
        told.set()
        going.wait(60)
        return "end"

    handle = await kernel.start(flow_of(work))
    await asyncio.to_thread(told.wait, 60)

    assert handle.status().progress == Progress(1, 2, None)
    going.set()
    assert (await handle.result()).state == "end"


# on_exhausted


async def test_on_exhausted_leads_on_with_the_error(kernel: Kernel) -> None:
    """When a step has failed for good its run goes on there, with the error at hand and none of its writes."""
    errors: list[BaseException | None] = []

    async def rescue(store: Any) -> str:
        errors.append(current_step().error)
        store["rescued"] = True
        return "end"

    flow = flow_of(fail, retry=Attempts(3), on_exhausted="rescue").register("rescue", rescue)

    result = await kernel.run(flow, {"kept": 1})
    [error] = errors

    assert isinstance(error, RetryExhaustedError)
    assert (error.attempts, error.state) == (3, "start")
    assert isinstance(error.__cause__, ValueError)
    assert result.data == {"kept": 1, "rescued": True}
    assert (result.state, result.steps) == ("end", 2)


async def test_on_exhausted_shows_the_error_in_every_attempt(kernel: Kernel) -> None:
    """The state that it leads to may be attempted several times: each sees what led to it, not its own failure."""
    errors: list[BaseException | None] = []

    async def rescue(store: Any) -> str:
        errors.append(current_step().error)
        if current_step().attempt < 3:
            raise OSError("rescue failed")
        return "end"

    flow = flow_of(fail, on_exhausted="rescue").register("rescue", rescue, config=TaskConfig(retry=Attempts(3)))

    await kernel.run(flow)

    assert len(errors) == 3
    assert isinstance(errors[0], TaskError)
    assert errors[0].state == "start"
    assert errors[1] is errors[2] is errors[0]


async def test_on_exhausted_error_lasts_for_one_step(kernel: Kernel) -> None:
    """The state after the one that it led to knows nothing of it."""
    errors: list[BaseException | None] = []

    def look(state: str) -> Any:
        async def work(store: Any) -> str:
            errors.append(current_step().error)
            return state

        return work

    flow = flow_of(fail, on_exhausted="rescue").register("rescue", look("more")).register("more", look("end"))

    await kernel.run(flow)

    assert isinstance(errors[0], TaskError)
    assert errors[1] is None


async def test_on_exhausted_may_be_an_exit_state(kernel: Kernel) -> None:
    """Giving up can be the end, as a success of another kind."""
    flow = flow_of(fail, on_exhausted="gave up").add_exit_state("gave up")

    result = await kernel.run(flow)

    assert (result.state, result.steps, result.data) == ("gave up", 1, {})


async def test_on_exhausted_may_follow_on_exhausted(kernel: Kernel) -> None:
    """Each failure leads to the next place, with its own error."""

    async def second(store: Any) -> str:
        assert isinstance(current_step().error, TaskError)
        raise KeyError("second")

    async def third(store: Any) -> str:
        error = current_step().error
        assert error is not None
        store["cause"] = repr(error.__cause__)
        return "end"

    flow = flow_of(fail, on_exhausted="second").register("second", second, config=TaskConfig(on_exhausted="third"))

    result = await kernel.run(flow.register("third", third))

    assert (result.data, result.steps) == ({"cause": "KeyError('second')"}, 3)


@pytest.mark.parametrize("limits", [{"timeout": 5}, {"total_timeout": 5}], ids=["timeout", "total"])
async def test_on_exhausted_after_a_timeout(kernel: Kernel, limits: dict[str, float]) -> None:
    """A step that took too long has failed for good too."""

    async def hang(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    async def rescue(store: Any) -> str:
        assert isinstance(current_step().error, StepTimeoutError)
        return "end"

    flow = flow_of(hang, on_exhausted="rescue", **limits).register("rescue", rescue)

    assert (await kernel.run(flow)).steps == 2


async def test_on_exhausted_after_a_split(kernel: Kernel) -> None:
    """A join that is not met leads there as well."""

    async def rescue(store: Any) -> str:
        assert isinstance(current_step().error, JoinError)
        return "end"

    flow = Workflow("start").register("rescue", rescue).add_exit_state("end")
    flow.register_split(
        "start", [fail, fail], JoinConfig(JoinStrategy.all(), "end"), config=TaskConfig(on_exhausted="rescue")
    )

    assert (await kernel.run(flow)).steps == 2


async def test_on_exhausted_is_a_failed_step_to_observers(clock: VirtualClock) -> None:
    """The step is seen to fail, the transition to be committed all the same."""
    seen = Steps()
    flow = flow_of(fail, on_exhausted="end")
    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        await kernel.run(flow)

    assert seen.events == [
        ("started", 1, "start", None),
        ("failed", 1, "start", None),
        ("committed", 1, "start", "end"),
    ]


async def test_on_exhausted_is_not_for_cancelled_runs(kernel: Kernel) -> None:
    """A run that is cancelled or out of time ends; it does not go on elsewhere."""
    started = asyncio.Event()

    async def hang(store: Any) -> str:
        started.set()
        await asyncio.Event().wait()
        return "end"

    flow = flow_of(hang, on_exhausted="end")
    handle = await kernel.start(flow)
    await started.wait()
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()
    with pytest.raises(RunTimeoutError):
        await kernel.run(flow, timeout=5)


# limits of a run


async def test_run_timeout(kernel: Kernel, clock: VirtualClock) -> None:
    """A run that takes too long ends with an error that says how long that was, and where it stood."""

    async def tick(store: Any) -> str:
        store["ticks"] = store.get("ticks", default=0) + 1
        await clock.sleep(2)
        return "start"

    store = MemoryStore()
    with pytest.raises(RunTimeoutError, match="run r1 took longer than 5 s; it was in state start") as caught:
        await kernel.run(flow_of(tick), store, run_id="r1", timeout=5)
    error = caught.value

    assert isinstance(error, TimeoutError)
    assert (error.timeout, error.run_id, error.state) == (5, "r1", "start")
    assert clock.monotonic() == 5
    assert store["ticks"] == 2


async def test_a_timedelta_is_a_timeout(kernel: Kernel, clock: VirtualClock) -> None:
    """Each timeout may be a timedelta; errors have it in seconds."""

    async def forever(store: Any) -> str:
        await clock.sleep(1000)
        return "end"

    limit = timedelta(minutes=1.5)
    for config, timeout in (({"timeout": limit}, None), ({"total_timeout": limit}, None), ({}, limit)):
        with pytest.raises((StepTimeoutError, RunTimeoutError), match="90 s") as caught:
            await kernel.run(flow_of(forever, **config), timeout=timeout)
        assert caught.value.timeout == 90.0  # type: ignore[attr-defined]  # both have it
    split = Workflow("start").register_split("start", [forever], JoinConfig(JoinStrategy.all(), "end", timeout=limit))
    with pytest.raises(JoinError, match="timed out"):
        await kernel.run(split.add_exit_state("end"))

    assert clock.monotonic() == 4 * 90
    assert [Retention(max_age=limit).expired(1, age) for age in (90, 91)] == [False, True]
    with pytest.raises(ConfigurationError, match="timeout must be a positive number of seconds"):
        TaskConfig(timeout=timedelta(0))


async def test_the_kernels_durations_may_be_timedeltas() -> None:
    """The lease, the poll and the grace of a kernel, the duration of a batch, and a closing kernel's grace."""
    minute = timedelta(minutes=1)
    async with Kernel(discover=False, lease=minute, poll=minute, grace=minute) as kernel:
        assert (kernel.lease, kernel.poll, kernel.grace) == (60.0, 60.0, 60.0)
        assert WaitStrategy.quota_or_duration(1, minute) == WaitStrategy.quota_or_duration(1, 60)
        await kernel.close(minute)
    for wrong in ({"lease": timedelta(0)}, {"poll": -minute}, {"grace": -minute}):
        with pytest.raises(ConfigurationError, match="seconds"):
            Kernel(discover=False, **wrong)  # type: ignore[arg-type]  # each is a duration


async def test_run_in_time(kernel: Kernel, clock: VirtualClock) -> None:
    """A limit that is not reached changes nothing, also long after the run."""
    result = await kernel.run(flow_of(then("end")), timeout=5)
    await clock.sleep(10)

    assert result.state == "end"


async def test_run_timeout_that_the_task_swallows(kernel: Kernel, clock: VirtualClock) -> None:
    """A run does not go on to its next step after its time, whatever a task makes of the cancellation."""
    states: list[str] = []

    async def stubborn(store: Any) -> str:
        states.append(current_step().state)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "next" if current_step().state == "start" else "end"

    flow = flow_of(stubborn).register("next", stubborn)

    with pytest.raises(RunTimeoutError):
        await kernel.run(flow, timeout=5)
    assert states == ["start"]
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_run_timeout_that_the_last_task_swallows(kernel: Kernel) -> None:
    """A run that reached its exit state too late has timed out too."""

    async def stubborn(store: Any) -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "end"

    with pytest.raises(RunTimeoutError):
        await kernel.run(flow_of(stubborn), timeout=5)


@pytest.mark.parametrize("seconds", [0, -1, "5", True, float("nan")])
async def test_run_timeout_that_is_no_time(kernel: Kernel, seconds: Any) -> None:
    """Only a positive number of seconds is a limit, for `run` and for `start`."""
    for method in (kernel.run, kernel.start):
        with pytest.raises(ConfigurationError, match="timeout must be a positive number of seconds or None"):
            await method(flow_of(then("end")), timeout=seconds)


async def test_runs_cancelled_by_others_work_with_asyncio_timeout(kernel: Kernel) -> None:
    """A caller's own `asyncio.timeout` around a run works as around anything else."""
    events: list[str] = []

    async def hang(store: Any) -> str:
        scope.reschedule(asyncio.get_running_loop().time())
        events.append("began")
        try:
            await asyncio.Event().wait()
        finally:
            events.append("ended")
        return "end"

    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(None) as scope:
            await kernel.run(flow_of(hang, retry=Always(), timeout=50), timeout=100)
    assert type(caught.value) is TimeoutError
    assert events == ["began", "ended"]
    assert kernel.active == {}


# runs that never wait


async def spin(store: Any) -> str:
    """A task that never suspends and always comes again."""
    store["count"] = store.get("count", default=0) + 1
    return "start"


async def test_a_run_that_never_waits_lets_others_run(kernel: Kernel) -> None:
    """Every so many steps the event loop turns."""
    turns = 0
    over = False

    async def count_turns() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    async def spin_a_while(store: Any) -> str:
        store["count"] += 1
        return "start" if store["count"] < 5000 else "end"

    other = asyncio.create_task(count_turns())
    await kernel.run(flow_of(spin_a_while), {"count": 0})
    over = True
    await other

    assert 3 <= turns <= 10


async def test_a_run_that_never_waits_can_be_cancelled(kernel: Kernel) -> None:
    """Cancelling takes effect at the next turn; the run stands where its last commit left it."""
    store = MemoryStore()
    handle = await kernel.start(flow_of(spin), store)
    await until(lambda: handle.status().seq >= 2000)
    await handle.cancel()
    status = handle.status()

    with pytest.raises(RunCancelledError):
        await handle.result()
    assert status.status is RunStatus.CANCELLED
    assert status.state == "start"
    assert store["count"] == status.seq - 1


async def test_a_run_that_never_waits_can_be_cancelled_by_its_task(kernel: Kernel) -> None:
    """The same for a caller that is cancelled."""
    store = MemoryStore()
    running = asyncio.create_task(kernel.run(flow_of(spin), store))
    await until(lambda: "count" in store)
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert store["count"] >= 1
    assert kernel.active == {}


async def test_a_run_that_never_waits_is_stopped_by_its_timeout() -> None:
    """In real time, since virtual time waits for everybody to be idle."""
    store = MemoryStore()
    async with Kernel(discover=False, grace=0) as kernel:
        with pytest.raises(RunTimeoutError):
            await kernel.run(flow_of(spin), store, timeout=0.01)
    assert store["count"] >= 1


async def test_a_loop_between_states_that_never_waits_ends_where_it_stands(clock: VirtualClock) -> None:
    """A run that is stopped between two steps is in the state that comes next, and has made every transition."""
    runs: list[tuple[Any, ...]] = []

    class Keeps:
        @hookimpl
        def cano_run_finished(self, run: Run) -> None:
            runs.append((run.state, run.steps))

    async def count(store: Any) -> str:
        store["count"] = store.get("count", default=0) + 1
        return "ab"[store["count"] % 2]

    store = MemoryStore()
    flow = Workflow("a").register("a", count).register("b", count).add_exit_state("end")
    async with Kernel(discover=False, plugins=[Keeps()], clock=clock) as kernel:
        handle = await kernel.start(flow, store)
        await until(lambda: "count" in store)
        await handle.cancel()

    assert runs == [("ab"[store["count"] % 2], store["count"])]


async def test_a_failing_step_that_is_retried_at_once_can_be_cancelled(kernel: Kernel) -> None:
    """Attempts without any delay do not block the event loop."""

    async def broken(store: Any) -> str:
        raise OSError

    handle = await kernel.start(flow_of(broken, retry=Always()))
    await until(lambda: handle.status().attempt >= 10)
    await handle.cancel()

    with pytest.raises(RunCancelledError):
        await handle.result()


# errors


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_users_exception_is_the_cause_untouched(kernel: Kernel, kind: str) -> None:
    """It is the very object; what was known of it, its own cause and notes, still is."""
    root = OSError("root")
    problem = ValueError("broken")
    problem.add_note("mine")

    def boom() -> str:
        raise problem from root

    async def work(store: Any) -> str:
        return boom()

    with pytest.raises(TaskError) as caught:
        await kernel.run(flow_of(work if kind == "async" else lambda store: boom()), run_id="r1")
    error = caught.value

    assert error.__cause__ is problem
    assert problem.__cause__ is root
    assert problem.__notes__ == ["mine"]
    assert str(error) == f"task {'work' if kind == 'async' else '<lambda>'!r} failed: ValueError: broken"
    assert (error.run_id, error.workflow, error.state, error.attempt) == ("r1", "workflow", "start", 1)
    assert error.__notes__ == ["at run r1, workflow workflow, state start, attempt 1"]


async def test_an_exception_without_a_message(kernel: Kernel) -> None:
    """Its class is all there is to say."""

    async def work(store: Any) -> str:
        raise KeyError

    with pytest.raises(TaskError, match="'work' failed: KeyError\n"):
        await kernel.run(flow_of(work))


async def test_errors_of_the_store_are_the_tasks_own(kernel: Kernel) -> None:
    """A missing key is an exception of the task like any other."""

    async def work(store: Any) -> str:
        return str(store["missing"])

    with pytest.raises(TaskError) as caught:
        await kernel.run(flow_of(work))
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_failing_run_inside_a_task_is_wrapped(kernel: Kernel) -> None:
    """The outer error is about the outer run; the inner one is its cause."""

    async def outer(store: Any) -> str:
        await kernel.run(flow_of(fail), run_id="inner")
        return "end"

    with pytest.raises(TaskError) as caught:
        await kernel.run(flow_of(outer), run_id="outer")
    cause = caught.value.__cause__
    assert caught.value.run_id == "outer"
    assert isinstance(cause, TaskError)
    assert not isinstance(cause, NodeError)
    assert cause.run_id == "inner"
