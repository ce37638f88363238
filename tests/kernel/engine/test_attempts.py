"""How a step is attempted: retries, the phases of nodes, time limits. All of it in virtual time."""

from __future__ import annotations

import asyncio
import copy
import gc
import math
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    JoinError,
    Kernel,
    Node,
    NodeError,
    PluginError,
    RetryExhaustedError,
    RunTimeoutError,
    Step,
    StepTimeoutError,
    Task,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    hookimpl,
)
from cano.engine.attempts import BREATH
from cano.testing import VirtualClock
from cano_memory import MemoryStore


class Delays:
    """A retry strategy that waits as listed and then gives up. Notes what it was asked."""

    def __init__(self, *delays: Any) -> None:
        self.delays = delays
        self.asked: list[tuple[int, Exception, float]] = []

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        self.asked.append((attempt, error, elapsed))
        delay: float | None = self.delays[attempt - 1] if attempt <= len(self.delays) else None
        return delay


class Always:
    """A retry strategy that never gives up."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 0.0


class Flaky(Task[str]):
    """Fails a number of times, then succeeds. Notes when it was attempted."""

    def __init__(self, failures: int, clock: VirtualClock | None = None, lasts: float = 0) -> None:
        self.failures = failures
        self.errors: list[Exception] = []
        self.times: list[float] = []
        self.clock = clock
        self.lasts = lasts

    async def run(self, store: Any) -> str:
        """Fail while there are failures left."""
        if self.clock is not None:
            self.times.append(self.clock.monotonic())
            await self.clock.sleep(self.lasts)
        store.append("attempts", current_step().attempt)
        if len(self.errors) < self.failures:
            self.errors.append(OSError(f"failure {len(self.errors) + 1}"))
            raise self.errors[-1]
        return "end"


class Phases(Node[str, str, str]):
    """A node whose phases fail as often as told. Notes every call with its attempt."""

    def __init__(self, prep: int = 0, exec: int = 0, post: int = 0, fallback: Any = None) -> None:
        self.left = {"prep": prep, "exec": exec, "post": post}
        self.fallback = fallback
        self.calls: list[tuple[str, int]] = []
        self.errors: list[Exception] = []
        self.fell_back: list[tuple[str, Exception]] = []

    def called(self, phase: str) -> None:
        """Note the call, and fail while there are failures left for the phase."""
        self.calls.append((phase, current_step().attempt))
        if self.left[phase]:
            self.left[phase] -= 1
            self.errors.append(OSError(f"{phase} {len(self.errors) + 1}"))
            raise self.errors[-1]

    async def prep(self, store: Any) -> str:
        """Leave a trace, then fail or not."""
        store.append("trace", "prep")
        self.called("prep")
        return "prepared"

    async def exec(self, prepared: str) -> str:
        """Fail or not."""
        assert prepared == "prepared"
        self.called("exec")
        return "result"

    async def exec_fallback(self, prepared: str, error: Exception) -> str:
        """Note the call."""
        self.fell_back.append((prepared, error))
        if self.fallback is None:
            return await super().exec_fallback(prepared, error)
        if isinstance(self.fallback, Exception):
            raise self.fallback
        return str(self.fallback)

    async def post(self, store: Any, prepared: str, result: str) -> str:
        """Leave a trace, then fail or not."""
        store.append("trace", f"post {result}")
        self.called("post")
        return "end"


class Failures:
    """An observer that notes retries and failures."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note it."""
        self.events.append(("started", step.attempt, step.error, step.delay))

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Note it."""
        self.events.append(("retrying", step.attempt, step.error, step.delay))

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note it."""
        self.events.append(("finished", step.attempt, step.error, step.delay))

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note it."""
        self.events.append(("failed", step.attempt, step.error, step.delay))


def flow_of(work: Any, retry: Any = None, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start").register("start", work, config=TaskConfig(retry=retry, **config)).add_exit_state("end")


async def forever(*args: Any) -> Any:
    """Wait for what never comes."""
    await asyncio.Event().wait()


# retries


async def test_attempts_are_repeated_after_the_delays(kernel: Kernel, clock: VirtualClock) -> None:
    """Between attempts the strategy's seconds pass, and only those."""
    task = Flaky(3, clock)

    result = await kernel.run(flow_of(task, Delays(1, 2.5, 0)))

    assert result.state == "end"
    assert result.steps == 1
    assert task.times == [0, 1, 3.5, 3.5]
    assert result.data == {"attempts": [4]}


async def test_what_the_strategy_is_told(kernel: Kernel, clock: VirtualClock) -> None:
    """It gets the attempt that failed, its error, and the seconds since the first attempt began."""
    task, strategy = Flaky(3, clock, lasts=10), Delays(1, 2, 4)
    await clock.sleep(100)

    await kernel.run(flow_of(task, strategy))

    assert strategy.asked == [(1, task.errors[0], 10), (2, task.errors[1], 21), (3, task.errors[2], 33)]


async def test_elapsed_is_counted_with_limits_too(kernel: Kernel, clock: VirtualClock) -> None:
    """A step with time limits tells its strategy the same."""
    task, strategy = Flaky(2, clock, lasts=10), Delays(1, 2)

    await kernel.run(flow_of(task, strategy, timeout=60, total_timeout=600))

    assert [(attempt, elapsed) for attempt, _, elapsed in strategy.asked] == [(1, 10), (2, 21)]


async def test_exhausted_retries(kernel: Kernel) -> None:
    """The last failure is the cause; the error knows how many attempts there were, and where."""
    task = Flaky(9)

    with pytest.raises(RetryExhaustedError, match="failed 4 times, the last time with OSError: failure 4") as caught:
        await kernel.run(flow_of(task, Delays(1, 1, 1)), run_id="r1")
    error = caught.value

    assert (error.attempts, error.attempt, error.phase) == (4, 4, None)
    assert error.__cause__ is task.errors[3]
    assert (error.run_id, error.workflow, error.state) == ("r1", "workflow", "start")
    assert error.__notes__ == ["at run r1, workflow workflow, state start, attempt 4"]


async def test_one_attempt_is_no_retry(kernel: Kernel) -> None:
    """Without retries the error is a plain `TaskError`: nothing was exhausted."""
    for retry in (None, Delays()):
        task = Flaky(1)
        with pytest.raises(TaskError, match="'Flaky' failed: OSError: failure 1") as caught:
            await kernel.run(flow_of(task, retry))
        assert type(caught.value) is TaskError
        assert caught.value.__cause__ is task.errors[0]


async def test_strategy_decides_by_error(kernel: Kernel) -> None:
    """A strategy that gives up on an error ends the step there."""

    class Picky(Delays):
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return None if "2" in str(error) else 0

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(Flaky(9), Picky()))
    assert caught.value.attempts == 2


async def test_each_step_has_its_own_budget(kernel: Kernel) -> None:
    """A strategy holds no state of a step: the next step, also of the same state, starts at attempt 1."""
    seen: list[tuple[int, int]] = []

    async def work(store: Any) -> str:
        step = current_step()
        seen.append((step.seq, step.attempt))
        if step.attempt < 3:
            raise OSError
        return "start" if step.seq < 3 else "end"

    await kernel.run(flow_of(work, Delays(1, 1)))

    assert seen == [(seq, attempt) for seq in (1, 2, 3) for attempt in (1, 2, 3)]


async def test_strategy_by_name(clock: VirtualClock) -> None:
    """A plugin answers names with strategies; the first one to answer wins."""

    class Named:
        @hookimpl
        def cano_retry_strategy(self, spec: str) -> Any:
            return Delays(7) if spec == "seven" else None

    task = Flaky(1, clock)
    async with Kernel(discover=False, plugins=[Named()], clock=clock) as kernel:
        await kernel.run(flow_of(task, "seven"))
        with pytest.raises(ConfigurationError, match="'eight'"):
            await kernel.run(flow_of(task, "eight"))

    assert task.times == [0, 7]


async def test_a_plugins_strategy_must_be_one(clock: VirtualClock) -> None:
    """A plugin that answers a name with something else is refused at bind, and named by what it answered."""

    class Named:
        @hookimpl
        def cano_retry_strategy(self, spec: str) -> Any:
            return "soon"

    async with Kernel(discover=False, plugins=[Named()], clock=clock) as kernel:
        with pytest.raises(PluginError, match="answered cano_retry_strategy with 'soon'"):
            await kernel.run(flow_of(Flaky(1), "seven"))


async def test_observers_see_every_attempt(clock: VirtualClock) -> None:
    """One `started`, a `retrying` with error and delay for each further attempt, and one end."""
    seen, task = Failures(), Flaky(2)
    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        await kernel.run(flow_of(task, Delays(1, 2)))

    assert seen.events == [
        ("started", 1, None, None),
        ("retrying", 1, task.errors[0], 1),
        ("retrying", 2, task.errors[1], 2),
        ("finished", 3, None, None),
    ]


async def test_observers_see_the_last_failure(clock: VirtualClock) -> None:
    """`failed` has the error that the run fails with."""
    seen = Failures()
    async with Kernel(discover=False, plugins=[seen], clock=clock) as kernel:
        with pytest.raises(RetryExhaustedError) as caught:
            await kernel.run(flow_of(Flaky(9), Delays(1)))

    assert [event[:2] for event in seen.events] == [("started", 1), ("retrying", 1), ("failed", 2)]
    assert seen.events[-1][2] is caught.value


# what is wrong with a strategy


@pytest.mark.parametrize("answer", [-1, -0.001, math.nan, math.inf, "1", True, object(), [1], 1j])
async def test_a_strategy_that_returns_nonsense(kernel: Kernel, answer: Any) -> None:
    """A decider that is wrong fails the run loudly; what the task raised is not lost."""
    task = Flaky(9)

    with pytest.raises(PluginError, match="not seconds to wait or None") as caught:
        await kernel.run(flow_of(task, Delays(answer)))
    assert repr(answer) in str(caught.value)
    assert caught.value.__cause__ is task.errors[0]
    assert len(task.errors) == 1


async def test_a_strategy_that_raises(kernel: Kernel) -> None:
    """The same for one that raises: its own error is the cause, and the task's is the context of that."""
    problem = ZeroDivisionError("oops")

    class Broken(Delays):
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            raise problem

    task = Flaky(9)
    with pytest.raises(PluginError, match=r"raised ZeroDivisionError\('oops'\)") as caught:
        await kernel.run(flow_of(task, Broken()))
    assert caught.value.__cause__ is problem
    assert problem.__context__ is task.errors[0]
    assert len(task.errors) == 1


async def test_a_wrong_strategy_is_no_exhausted_retry(kernel: Kernel) -> None:
    """`on_exhausted` does not hide that a strategy is broken."""
    flow = flow_of(Flaky(9), Delays("soon"), on_exhausted="end")

    with pytest.raises(PluginError):
        await kernel.run(flow)


async def test_a_split_error_of_a_task_is_an_error_as_any_other(kernel: Kernel) -> None:
    """A task may raise a JoinError without an outcome of a split, for example one that it got from another run."""

    async def work(store: Any) -> str:
        raise JoinError("two of three are down")

    assert (await kernel.run(flow_of(work, on_exhausted="end"))).state == "end"


# exceptions that are never retried


class Stop(BaseException):
    """A user's own exception that is no `Exception`."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Stop])
@pytest.mark.parametrize("limits", [{}, {"timeout": 5}, {"total_timeout": 5}], ids=["none", "timeout", "total"])
async def test_base_exceptions_are_never_retried(
    kernel: Kernel, kind: type[BaseException], limits: dict[str, float]
) -> None:
    """Whatever the strategy says, they end the run at once, as themselves, and leave no trace."""
    problem, attempts = kind("now"), []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        store["trace"] = True
        raise problem

    store = MemoryStore()
    with pytest.raises(kind) as caught:
        await kernel.run(flow_of(work, Always(), on_exhausted="end", **limits), store)
    assert caught.value is problem
    assert attempts == [1]
    assert len(store) == 0


@pytest.mark.parametrize("phase", ["prep", "exec", "post", "exec_fallback"])
async def test_base_exceptions_in_a_node_are_never_retried(kernel: Kernel, phase: str) -> None:
    """In every phase the same, the fallback included."""
    node, problem = Phases(exec=1 if phase == "exec_fallback" else 0), Stop()

    async def stop(*args: Any) -> Any:
        node.calls.append(("stop", 0))
        raise problem

    setattr(node, phase, stop)
    retry = Delays() if phase == "exec_fallback" else Always()
    with pytest.raises(Stop) as caught:
        await kernel.run(flow_of(node, retry))
    assert caught.value is problem
    assert node.calls.count(("stop", 0)) == 1


# nodes


async def test_a_node_has_one_budget_of_attempts(kernel: Kernel) -> None:
    """Failures of all phases count together, and each attempt goes on where the last one failed."""
    node = Phases(prep=1, exec=1, post=1)

    result = await kernel.run(flow_of(node, Delays(1, 1, 1)))

    assert result.state == "end"
    assert node.calls == [("prep", 1), ("prep", 2), ("exec", 2), ("exec", 3), ("post", 3), ("post", 4)]


@pytest.mark.parametrize(
    ("failures", "phase"),
    [
        ({"prep": 9}, "prep"),
        ({"exec": 9}, "exec"),
        ({"post": 9}, "post"),
        ({"prep": 3, "exec": 9}, "exec"),
        ({"prep": 1, "exec": 1, "post": 9}, "post"),
        ({"prep": 2, "exec": 9, "post": 9}, "exec"),
    ],
)
@pytest.mark.parametrize("limits", [{}, {"timeout": 5, "total_timeout": 500}], ids=["plain", "limits"])
async def test_three_retries_are_four_attempts_never_sixteen(
    kernel: Kernel, failures: dict[str, int], phase: str, limits: dict[str, float]
) -> None:
    """However the failures are spread over the phases, there are exactly four attempts."""
    node = Phases(**failures)

    with pytest.raises(RetryExhaustedError, match="failed 4 times") as caught:
        await kernel.run(flow_of(node, Delays(1, 1, 1), **limits))
    assert len(node.errors) == 4
    assert max(attempt for _, attempt in node.calls) == 4
    assert (caught.value.attempts, caught.value.phase) == (4, phase)
    assert caught.value.__cause__ is node.errors[-1]


@pytest.mark.parametrize("failures", [{"prep": 3}, {"exec": 3}, {"post": 3}, {"prep": 1, "exec": 1, "post": 1}])
async def test_a_phase_that_succeeded_is_never_run_again(kernel: Kernel, failures: dict[str, int]) -> None:
    """Each phase is called once more than it fails."""
    node = Phases(**failures)

    await kernel.run(flow_of(node, Delays(1, 1, 1)))

    calls = [phase for phase, _ in node.calls]
    assert {phase: calls.count(phase) for phase in ("prep", "exec", "post")} == {
        phase: failures.get(phase, 0) + 1 for phase in ("prep", "exec", "post")
    }


async def test_the_next_step_of_a_node_starts_afresh(kernel: Kernel) -> None:
    """Within the step a phase is not run again; in the next step it is, with a new budget."""

    class Twice(Phases):
        async def post(self, store: Any, prepared: str, result: str) -> str:
            await super().post(store, prepared, result)
            return "start" if current_step().seq == 1 else "end"

    node = Twice(exec=2)

    await kernel.run(flow_of(node, Delays(1, 1)))

    first, second = node.calls[:5], node.calls[5:]
    assert first == [("prep", 1), ("exec", 1), ("exec", 2), ("exec", 3), ("post", 3)]
    assert second == [("prep", 1), ("exec", 1), ("post", 1)]


@pytest.mark.parametrize("make", [dict, MemoryStore])
async def test_writes_of_a_finished_phase_are_kept(kernel: Kernel, make: Callable[[], Any]) -> None:
    """What `prep` wrote survives failed attempts of later phases; what failed attempts wrote does not."""
    store = make()

    await kernel.orchestrate(flow_of(Phases(prep=1, exec=1, post=1), Delays(1, 1, 1)), store)

    assert store["trace"] == ["prep", "post result"]


async def test_every_kind_of_write_in_prep_is_kept(kernel: Kernel) -> None:
    """Puts, removes, appends and changes in place are all there when `post` is attempted again, and only once."""

    class Writes(Node[str, None, None]):
        async def prep(self, store: Any) -> None:
            store["put"] = 1
            store.remove("old")
            store.append("list", "prep")
            store["nested"]["deep"].append("prep")

        async def exec(self, prepared: None) -> None:
            pass

        async def post(self, store: Any, prepared: None, result: None) -> str:
            seen.append(copy.deepcopy({key: store[key] for key in store}))
            store["put"] += 1
            store["old"] = "again"
            store.append("list", "post")
            store["nested"]["deep"].append("post")
            if current_step().attempt < 3:
                raise OSError
            return "end"

    seen: list[Any] = []
    data = {"old": 1, "list": ["first"], "nested": {"deep": []}}

    result = await kernel.run(flow_of(Writes(), Delays(1, 1)), data)

    assert seen == [{"put": 1, "list": ["first", "prep"], "nested": {"deep": ["prep"]}}] * 3
    assert result.data == {
        "put": 2,
        "old": "again",
        "list": ["first", "prep", "post"],
        "nested": {"deep": ["prep", "post"]},
    }


async def test_a_clear_in_prep_is_kept(kernel: Kernel) -> None:
    """Clearing everything is a write like any other."""

    class Clears(Phases):
        async def prep(self, store: Any) -> str:
            store.clear()
            return await super().prep(store)

    result = await kernel.run(flow_of(Clears(post=2), Delays(1, 1)), {"old": 1})

    assert result.data == {"trace": ["prep", "post result"]}


async def test_a_node_that_fails_for_good_leaves_nothing(kernel: Kernel) -> None:
    """The finished phases' writes are part of the step: they go with it."""
    store = MemoryStore({"kept": 1})

    with pytest.raises(RetryExhaustedError):
        await kernel.run(flow_of(Phases(post=9), Delays(1)), store)
    assert dict(store.live()) == {"kept": 1}


# the fallback


async def test_fallback_after_the_last_attempt_of_exec(kernel: Kernel) -> None:
    """Called once, with what `prep` returned and the last error; `post` goes on with what it returns."""
    node = Phases(exec=9, fallback="instead")

    result = await kernel.run(flow_of(node, Delays(1, 1)))

    assert result.data == {"trace": ["prep", "post instead"]}
    assert [phase for phase, _ in node.calls] == ["prep", "exec", "exec", "exec", "post"]
    assert node.fell_back == [("prepared", node.errors[2])]


async def test_fallback_without_retries(kernel: Kernel) -> None:
    """The first failure is the last one then."""
    node = Phases(exec=9, fallback="instead")

    assert (await kernel.run(flow_of(node))).data == {"trace": ["prep", "post instead"]}
    assert node.fell_back == [("prepared", node.errors[0])]


@pytest.mark.parametrize("phase", ["prep", "post"])
async def test_fallback_is_for_exec_alone(kernel: Kernel, phase: str) -> None:
    """Failures of the other phases do not ask it."""
    node = Phases(**{phase: 9}, fallback="instead")

    with pytest.raises(RetryExhaustedError):
        await kernel.run(flow_of(node, Delays(1)))
    assert node.fell_back == []


async def test_fallback_is_not_needed_when_exec_succeeds(kernel: Kernel) -> None:
    """An attempt that succeeds in time makes it superfluous."""
    node = Phases(exec=2, fallback="instead")

    assert (await kernel.run(flow_of(node, Delays(1, 1)))).data == {"trace": ["prep", "post result"]}
    assert node.fell_back == []


async def test_fallback_that_raises(kernel: Kernel) -> None:
    """What it raises is the cause, in the phase `exec`; its failure is final, whatever the strategy says."""
    problem = KeyError("mine")
    node = Phases(exec=9, fallback=problem)

    class Once(Delays):
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return None if isinstance(error, OSError) else 1

    with pytest.raises(NodeError, match="failed in exec: KeyError") as caught:
        await kernel.run(flow_of(node, Once()))
    assert caught.value.__cause__ is problem
    assert caught.value.phase == "exec"
    assert len(node.fell_back) == 1


async def test_default_fallback_leaves_the_error_as_it_was(kernel: Kernel) -> None:
    """Without a fallback of its own, the cause is what `exec` raised."""
    node = Phases(exec=9)

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(node, Delays(1)))
    assert caught.value.__cause__ is node.errors[1]
    assert caught.value.attempts == 2


async def test_post_after_the_fallback_is_attempted_out_of_the_same_budget(kernel: Kernel) -> None:
    """When `exec` used the budget up, `post` has one attempt; its failure does not ask the fallback again."""
    node = Phases(exec=2, post=9, fallback="instead")

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(node, Delays(1)))
    assert node.calls == [("prep", 1), ("exec", 1), ("exec", 2), ("post", 2)]
    assert (caught.value.attempts, caught.value.phase) == (2, "post")
    assert len(node.fell_back) == 1


async def test_post_after_the_fallback_may_have_attempts_left(kernel: Kernel) -> None:
    """When the strategy gave `exec` up early, `post` has the rest of the budget."""

    class Early(Delays):
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return None if "exec" in str(error) or attempt == 3 else 1

    node = Phases(exec=1, post=2, fallback="instead")

    result = await kernel.run(flow_of(node, Early()))

    assert result.data == {"trace": ["prep", "post instead"]}
    assert node.calls == [("prep", 1), ("exec", 1), ("post", 1), ("post", 2), ("post", 3)]
    assert len(node.fell_back) == 1


async def test_fallback_after_a_timeout(kernel: Kernel) -> None:
    """An attempt of `exec` that took too long is a failure like others: the fallback gets the timeout."""

    class Hangs(Phases):
        async def exec(self, prepared: str) -> str:
            return str(await forever())

    node = Hangs(fallback="instead")

    result = await kernel.run(flow_of(node, timeout=5))

    assert result.data == {"trace": ["prep", "post instead"]}
    assert isinstance(node.fell_back[0][1], StepTimeoutError)


@pytest.mark.parametrize(
    ("limits", "total"), [({"timeout": 5}, False), ({"total_timeout": 5}, True)], ids=["timeout", "total"]
)
async def test_fallback_is_under_the_limits_too(
    kernel: Kernel, clock: VirtualClock, limits: dict[str, float], total: bool
) -> None:
    """A fallback that hangs is stopped like an attempt."""

    class Hangs(Phases):
        async def exec_fallback(self, prepared: str, error: Exception) -> str:
            return str(await forever())

    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(Hangs(exec=9), **limits))
    assert (caught.value.timeout, caught.value.total) == (5, total)
    assert clock.monotonic() == 5


# time limits


async def test_attempt_timeout(kernel: Kernel, clock: VirtualClock) -> None:
    """An attempt that takes too long is cancelled at its limit; the error says which limit it was."""
    with pytest.raises(StepTimeoutError, match="attempt 1 of task 'forever' took longer than 5 s") as caught:
        await kernel.run(flow_of(forever, timeout=5), run_id="r1")
    error = caught.value

    assert clock.monotonic() == 5
    assert isinstance(error, TimeoutError)
    assert (error.timeout, error.total, error.abandoned) == (5, False, False)
    assert (error.run_id, error.state, error.attempt) == ("r1", "start", 1)


async def test_attempt_in_time(kernel: Kernel, clock: VirtualClock) -> None:
    """A limit that is not reached changes nothing."""
    task = Flaky(1, clock, lasts=4)

    result = await kernel.run(flow_of(task, Delays(10), timeout=5, total_timeout=60))

    assert result.data == {"attempts": [2]}
    assert clock.monotonic() == 18


async def test_each_attempt_has_the_whole_timeout(kernel: Kernel, clock: VirtualClock) -> None:
    """A timed-out attempt is retried, and starts with the full time again; the last one is the cause."""
    cancelled: list[float] = []

    async def work(store: Any) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(clock.monotonic())
        return "end"

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(work, Delays(1, 2), timeout=5))
    assert cancelled == [5, 11, 18]
    assert caught.value.attempts == 3
    assert isinstance(caught.value.__cause__, StepTimeoutError)
    assert caught.value.__cause__.attempt == 3


async def test_success_after_a_timeout(kernel: Kernel) -> None:
    """The attempt after a timed-out one may succeed, and its writes alone are kept."""

    async def work(store: Any) -> str:
        store.append("attempts", current_step().attempt)
        if current_step().attempt < 3:
            await forever()
        return "end"

    result = await kernel.run(flow_of(work, Delays(1, 1), timeout=5))

    assert (result.state, result.data) == ("end", {"attempts": [3]})


async def test_total_timeout_covers_attempts_and_waits(kernel: Kernel, clock: VirtualClock) -> None:
    """It is counted from the first attempt's begin, and cuts the attempt that is under way."""
    task = Flaky(9, clock, lasts=10)

    with pytest.raises(StepTimeoutError, match="'Flaky' took longer than 25 s, retries included") as caught:
        await kernel.run(flow_of(task, Delays(5, 5, 5, 5), total_timeout=25))
    assert task.times == [0, 15]
    assert clock.monotonic() == 25
    assert (caught.value.timeout, caught.value.total, caught.value.attempt) == (25, True, 2)


async def test_total_timeout_does_not_wait_for_an_attempt_that_comes_too_late(
    kernel: Kernel, clock: VirtualClock
) -> None:
    """Where the next attempt would begin after the limit, the step ends at once; the last failure is the cause."""
    task = Flaky(9, clock, lasts=10)

    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(task, Delays(5, 50), total_timeout=60))
    assert clock.monotonic() == 25
    assert caught.value.total
    assert caught.value.__cause__ is task.errors[1]


async def test_total_timeout_is_never_retried(kernel: Kernel, clock: VirtualClock) -> None:
    """It is the end of the step, whatever the strategy says."""
    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        await asyncio.Event().wait()
        return "end"

    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(work, Always(), total_timeout=5))
    assert (attempts, caught.value.total, clock.monotonic()) == ([1], True, 5)


@pytest.mark.parametrize(
    ("limits", "run_timeout", "expected", "at"),
    [
        ({"timeout": 2, "total_timeout": 3}, 4, (StepTimeoutError, 2, False), 2),
        ({"timeout": 3, "total_timeout": 2}, 4, (StepTimeoutError, 2, True), 2),
        ({"timeout": 3, "total_timeout": 4}, 2, (RunTimeoutError, 2, None), 2),
        ({"total_timeout": 4}, 2, (RunTimeoutError, 2, None), 2),
        ({}, 2, (RunTimeoutError, 2, None), 2),
        ({"timeout": 2}, None, (StepTimeoutError, 2, False), 2),
    ],
)
async def test_the_soonest_limit_counts(
    kernel: Kernel,
    clock: VirtualClock,
    limits: dict[str, float],
    run_timeout: float | None,
    expected: tuple[type[Exception], float, bool | None],
    at: float,
) -> None:
    """Of all limits in force the one that is reached first is the one that is reported."""
    kind, seconds, total = expected

    with pytest.raises(kind) as caught:
        await kernel.run(flow_of(forever, **limits), timeout=run_timeout)
    error: Any = caught.value

    assert error.timeout == seconds
    assert getattr(error, "total", None) is total
    assert clock.monotonic() == at


async def test_run_timeout_over_several_steps(kernel: Kernel, clock: VirtualClock) -> None:
    """The run's limit goes on while attempts with limits of their own come and go."""

    async def work(store: Any) -> str:
        store["count"] = store.get("count", default=0) + 1
        await clock.sleep(2)
        return "start"

    store = MemoryStore()
    with pytest.raises(RunTimeoutError):
        await kernel.run(flow_of(work, timeout=3), store, timeout=7)
    assert clock.monotonic() == 7
    assert store["count"] == 3


async def test_run_timeout_while_waiting_for_the_next_attempt(kernel: Kernel, clock: VirtualClock) -> None:
    """A wait between attempts is cut by it as well."""
    task = Flaky(9, clock)

    with pytest.raises(RunTimeoutError):
        await kernel.run(flow_of(task, Delays(100), timeout=1), timeout=7)
    assert (clock.monotonic(), task.times) == (7, [0])


async def test_step_tells_its_deadline(kernel: Kernel, clock: VirtualClock) -> None:
    """`current_step().deadline` is the time at which this attempt will be stopped."""
    seen: list[float | None] = []

    async def work(store: Any) -> str:
        seen.append(current_step().deadline)
        if current_step().attempt == 1:
            raise OSError
        return "end"

    await kernel.run(flow_of(work, Delays(1)))
    await kernel.run(flow_of(work, Delays(1)), timeout=20)
    await clock.sleep(98)
    assert clock.monotonic() == 100
    await kernel.run(flow_of(work, Delays(1), timeout=5))
    await kernel.run(flow_of(work, Delays(1), timeout=5, total_timeout=3))

    assert seen == [None, None, 21, 21, 105, 106, 104, 104]


# tasks that resist


async def test_swallowed_cancellation_has_still_timed_out(kernel: Kernel) -> None:
    """A task that catches its cancellation and returns a state has timed out all the same; nothing of it is kept."""

    async def stubborn(store: Any) -> str:
        store["early"] = 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            store["late"] = 1
        return "end"

    store = MemoryStore()
    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(stubborn, timeout=5), store)
    assert caught.value.timeout == 5
    assert len(store) == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_swallowed_cancellation_is_retried_like_any_timeout(kernel: Kernel) -> None:
    """The next attempt starts with a clean task: no cancellation is left over."""

    async def stubborn(store: Any) -> str:
        store.append("attempts", current_step().attempt)
        if current_step().attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "end"
        await asyncio.sleep(0)
        return "end"

    result = await kernel.run(flow_of(stubborn, Delays(1), timeout=5))

    assert result.data == {"attempts": [2]}


async def test_a_task_that_goes_on_waiting_is_cancelled_again(kernel: Kernel, clock: VirtualClock) -> None:
    """A clean-up that hangs is cancelled again, until it ends."""
    cancelled: list[float] = []

    async def stubborn(store: Any) -> str:
        for _ in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(clock.monotonic())
        return "end"

    with pytest.raises(StepTimeoutError):
        await kernel.run(flow_of(stubborn, timeout=5))
    assert cancelled == [5, 6, 7]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_what_a_task_makes_of_its_cancellation_is_the_cause(kernel: Kernel) -> None:
    """An error raised in the clean-up of a timed-out attempt is kept as the cause of the timeout."""
    problem = ValueError("in clean-up")

    async def work(store: Any) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            raise problem
        return "end"

    with pytest.raises(StepTimeoutError) as caught:
        await kernel.run(flow_of(work, timeout=5))
    assert caught.value.__cause__ is problem


async def test_a_clean_up_in_time_is_awaited(kernel: Kernel, clock: VirtualClock) -> None:
    """A cancelled task may take its time to close what it has open."""
    closed: list[float] = []

    async def work(store: Any) -> str:
        try:
            await asyncio.Event().wait()
        finally:
            await clock.sleep(0.5)
            closed.append(clock.monotonic())
        return "end"

    with pytest.raises(StepTimeoutError):
        await kernel.run(flow_of(work, timeout=5))
    assert closed == [5.5]


async def test_run_timeout_is_not_retried_whatever_the_task_makes_of_it(kernel: Kernel) -> None:
    """A task that turns the cancellation into an error of its own does not get another attempt."""
    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectionError("lost") from None
        return "end"

    for limits in ({}, {"timeout": 50}):
        attempts.clear()
        with pytest.raises(RunTimeoutError):
            await kernel.run(flow_of(work, Always(), on_exhausted="end", **limits), timeout=5)
        assert attempts == [1]


async def test_a_users_own_timeout_is_an_error_like_others(kernel: Kernel) -> None:
    """`asyncio.timeout` inside a task is the task's business: a failure, retried as such."""

    async def work(store: Any) -> str:
        if current_step().attempt == 1:
            async with asyncio.timeout(0):
                await asyncio.sleep(0)
                await asyncio.Event().wait()
        return "end"

    for limits in ({}, {"timeout": 50}):
        strategy = Delays(1)
        assert (await kernel.run(flow_of(work, strategy, **limits))).state == "end"
        assert [type(error) for _, error, _ in strategy.asked] == [TimeoutError]


async def test_timeouts_of_another_run_are_errors_like_others(kernel: Kernel) -> None:
    """A task that awaits a run which timed out has failed: it is retried, and the timeout is its cause."""
    inner = flow_of(forever, total_timeout=1)
    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(current_step().attempt)
        await kernel.run(inner, run_id=f"inner {len(attempts)}")
        return "end"

    with pytest.raises(RetryExhaustedError) as caught:
        await kernel.run(flow_of(work, Delays(1)), run_id="outer")
    cause = caught.value.__cause__
    assert attempts == [1, 2]
    assert caught.value.run_id == "outer"
    assert isinstance(cause, StepTimeoutError)
    assert cause.run_id == "inner 2"

    with pytest.raises(TaskError) as single:
        await kernel.run(flow_of(work), run_id="single")
    assert single.value.run_id == "single"
    assert isinstance(single.value.__cause__, StepTimeoutError)


@pytest.mark.parametrize("seconds", [[0.5, 1, 1.5], [3, 3, 3], [1]])
async def test_many_runs_at_once_each_have_their_own_limits(
    kernel: Kernel, clock: VirtualClock, seconds: Sequence[float]
) -> None:
    """Timers of runs do not get into each other's way."""
    ended: list[tuple[float, float]] = []

    async def one(limit: float) -> None:
        with pytest.raises(StepTimeoutError):
            await kernel.run(flow_of(forever, timeout=limit))
        ended.append((limit, clock.monotonic()))

    await asyncio.gather(*map(one, seconds))

    assert ended == [(limit, limit) for limit in sorted(seconds)]


async def test_attempts_without_a_delay_let_others_proceed(kernel: Kernel) -> None:
    """A task that always fails at once, and is retried at once, does not occupy the event loop."""
    attempts, begun, others = 0, asyncio.Event(), asyncio.Event()

    async def work(store: Any) -> str:
        nonlocal attempts
        attempts += 1
        begun.set()
        if attempts < 1000 and not others.is_set():
            raise OSError
        return "end"

    run = asyncio.create_task(kernel.run(flow_of(work, Always())))
    await begun.wait()
    others.set()
    await run

    assert attempts <= 2 * BREATH


async def test_a_failed_attempt_keeps_no_error_alive(kernel: Kernel) -> None:
    """The errors of failed attempts, with their frames, are freed with the step, not by the garbage collector."""

    class Failure(Exception):
        """Unlike those that are built in, it can be referred to weakly."""

    errors: list[weakref.ref[Failure]] = []

    async def work(store: Any) -> str:
        if len(errors) < 3:
            error = Failure()
            errors.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error
        return "end"

    gc.collect()
    gc.disable()
    try:
        await kernel.run(flow_of(work, Always()))
        assert [error() for error in errors] == [None] * 3
    finally:
        gc.enable()
