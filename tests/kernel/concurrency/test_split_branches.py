"""The branches of a split: what they may be, how they are attempted, and who hears of it."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from cano import (
    BranchStatus,
    ConfigurationError,
    FunctionTask,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Node,
    NodeError,
    RetryExhaustedError,
    RunTimeoutError,
    SplitOutcome,
    Step,
    StepTimeoutError,
    Task,
    TaskConfig,
    TaskError,
    TransitionError,
    Workflow,
    current_step,
    hookimpl,
    task,
    wait_for,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore

ALL, ANY, PARTIAL = JoinStrategy.all(), JoinStrategy.any(), JoinStrategy.partial(0)


class Retries:
    """Another attempt after a second, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return 1 if attempt <= self.times else None


class Events:
    """An observer that notes what it is told, with branch and attempt."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, int]] = []

    def note(self, what: str, step: Step) -> None:
        """One more."""
        assert current_step().idempotency_key == step.idempotency_key
        self.seen.append((what, step.branch, step.attempt))

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """See the hook."""
        self.note("started", step)

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """See the hook."""
        self.note("retrying", step)

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """See the hook."""
        self.note("finished", step)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """See the hook."""
        self.note("failed", step)

    def of(self, branch: str | None) -> list[tuple[str, int]]:
        """What was said of one branch; None is the split itself."""
        return [(what, attempt) for what, of, attempt in self.seen if of == branch]

    def counted(self) -> Counter[tuple[str | None, str]]:
        """How often each branch was started, and ended."""
        names = {"started": "started", "finished": "ended", "failed": "ended"}
        return Counter((branch, names[what]) for what, branch, _ in self.seen if what in names)


@pytest.fixture
def events() -> Events:
    """An observer."""
    return Events()


@pytest.fixture
async def watched(clock: VirtualClock, events: Events) -> AsyncIterator[Kernel]:
    """A kernel with that observer, which has seen exactly one end for each start when the test ends."""
    async with Kernel(discover=False, plugins=[events], clock=clock, grace=0) as kernel:
        yield kernel
        assert kernel.active == {}
    counted = events.counted()
    assert {(branch, "ended"): times for (branch, what), times in counted.items() if what == "started"} == {
        (branch, what): times for (branch, what), times in counted.items() if what == "ended"
    }
    assert kernel.observer_errors == {}


def split(
    branches: Any,
    strategy: JoinStrategy = ALL,
    *,
    outcomes: list[SplitOutcome] | None = None,
    config: TaskConfig | None = None,
    default: TaskConfig | None = None,
    **join: Any,
) -> Workflow[str]:
    """A workflow of a split and a state after it, which notes the outcome."""

    async def after(store: Any) -> str:
        if outcomes is not None:
            outcomes.append(current_step().outcome)
        return "end"

    flow = Workflow("split", name="work", default_config=default)
    flow.register_split("split", branches, JoinConfig(strategy, "after", **join), config=config)
    return flow.register("after", after, config=TaskConfig.minimal()).add_exit_states(["end", "given up"])


async def outcome_of(kernel: Kernel, branches: Any, strategy: JoinStrategy = ALL, **join: Any) -> SplitOutcome:
    """Run a split that succeeds; how it ended."""
    outcomes: list[SplitOutcome] = []
    await kernel.run(split(branches, strategy, outcomes=outcomes, **join))
    return outcomes[0]


# what may be a branch


class Square(Task[int]):
    """A task with an argument."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    async def run(self, store: Any) -> int:
        """Its square."""
        return self.number**2


class Length(Node[int, str, int]):
    """A node: each phase does its part."""

    async def prep(self, store: Any) -> str:
        """Read."""
        return str(store["text"])

    async def exec(self, prepared: str) -> int:
        """Count."""
        return len(prepared)

    async def post(self, store: Any, prepared: str, result: int) -> int:
        """Write."""
        store["length"] = result
        return result


async def shout(word: str, store: Any) -> str:
    """A function of more than the store."""
    return f"{word}, {store['text']}!"


@task
async def decorated(store: Any) -> str:
    """A function task."""
    return "decorated"


def plain(store: Any) -> str:
    """A function that runs in a thread."""
    assert threading.current_thread() is not threading.main_thread()
    return f"plain {current_step().branch}"


async def test_a_branch_may_be_any_kind_of_task(kernel: Kernel) -> None:
    """Tasks, nodes, decorated, async and plain functions, partials, all in one split."""

    class Called:
        async def __call__(self, store: Any) -> str:
            return "called"

    branches = [Square(7), Length(), partial(shout, "hey"), decorated, plain, FunctionTask(plain), Called()]
    outcomes: list[SplitOutcome] = []
    result = await kernel.run(split(branches, outcomes=outcomes), {"text": "you"})

    assert outcomes[0].results == [49, 3, "hey, you!", "decorated", "plain 4:plain", "plain 5:plain", "called"]
    assert [branch.name for branch in outcomes[0].branches] == [
        "0:Square",
        "1:Length",
        "2:shout",
        "3:decorated",
        "4:plain",
        "5:plain",
        "6:Called",
    ]
    assert result.data == {"text": "you", "length": 3}


async def test_one_task_may_be_several_branches(kernel: Kernel) -> None:
    """They are told apart by their position."""
    seen: list[str | None] = []

    async def work(store: Any) -> int:
        seen.append(current_step().branch)
        return len(seen)

    assert (await outcome_of(kernel, [work] * 3)).results == [1, 2, 3]
    assert seen == ["0:work", "1:work", "2:work"]


async def test_branches_made_at_run_time(kernel: Kernel) -> None:
    """A function of the store says what they are: a map over items whose number nobody knew before."""
    outcomes: list[SplitOutcome] = []
    flow = split(lambda store: [Square(n) for n in store["items"]], outcomes=outcomes)

    for items in ([], [3], list(range(100))):
        await kernel.run(flow, {"items": items})
        assert outcomes.pop().results == [n**2 for n in items]


async def test_branches_made_by_a_coroutine_function(kernel: Kernel, clock: VirtualClock) -> None:
    """The maker may wait for what it needs; any iterable of tasks will do."""

    async def make(store: Any) -> Any:
        await clock.sleep(5)
        return (partial(shout, word) for word in store["words"])

    outcomes: list[SplitOutcome] = []
    await kernel.run(split(make, outcomes=outcomes), {"words": ["hey", "ho"], "text": "you"})

    assert outcomes[0].results == ["hey, you!", "ho, you!"]
    assert clock.monotonic() == 5


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_maker_that_raises(watched: Kernel, asynchronous: bool) -> None:
    """The run fails as with any task: the user's exception is the cause of an error that knows the place."""
    problem = LookupError("no items")

    def make(store: Any) -> Any:
        store["half"] = True
        raise problem

    async def make_later(store: Any) -> Any:
        make(store)

    store = MemoryStore()
    with pytest.raises(TaskError, match="failed: LookupError: no items") as caught:
        await watched.run(split(make_later if asynchronous else make), store, run_id="r1")
    assert caught.value.__cause__ is problem
    assert (caught.value.run_id, caught.value.state) == ("r1", "split")
    assert len(store) == 0


@pytest.mark.parametrize(
    "made",
    [None, 5, "work", [5], {"a": plain}, [plain, None], plain],
    ids=["None", "number", "text", "number in a list", "function in a dict", "None in a list", "function"],
)
async def test_a_maker_that_makes_nonsense(kernel: Kernel, made: Any) -> None:
    """The same for what is no list of tasks."""
    with pytest.raises(TaskError, match="branch") as caught:
        await kernel.run(split(lambda store: made))
    assert isinstance(caught.value.__cause__, ConfigurationError)


async def test_what_the_maker_writes(kernel: Kernel) -> None:
    """It is committed with the split, as what the split itself did."""

    def make(store: Any) -> Any:
        store["width"] = 3
        return [Square(n) for n in range(3)]

    assert (await kernel.run(split(make))).data == {"width": 3}


async def test_a_forgotten_await_is_found(kernel: Kernel) -> None:
    """An async function that returns a coroutine has done nothing: the branch has failed, and says why."""

    async def forgets(store: Any) -> Any:
        return shout("hey", store)

    with pytest.raises(JoinError, match="is an `await`, or `async def`, missing") as caught:
        await kernel.run(split([forgets, decorated]))
    assert isinstance(caught.value.__cause__, TransitionError)


async def test_a_branch_cannot_wait_for_a_signal(kernel: Kernel) -> None:
    """It is an error rather than a wait that nobody minds."""

    async def work(store: Any) -> Any:
        return wait_for("approved", then="end")

    with pytest.raises(JoinError, match="a branch cannot wait") as caught:
        await kernel.run(split([work]))
    assert caught.value.outcome.branches[0].status is BranchStatus.FAILED


async def test_any_result_will_do(kernel: Kernel) -> None:
    """What a branch returns is no state: None, lists, states and errors are all kept as they are."""
    results: list[Any] = [None, [1], "after", "no state", ValueError("a value")]

    def branch(result: Any) -> Callable[[Any], Any]:
        async def work(store: Any) -> Any:
            return result

        return work

    assert (await outcome_of(kernel, [branch(result) for result in results])).results == results


async def test_a_split_runs_only_in_a_workflow() -> None:
    """Calling its task directly says so."""
    flow = split([decorated])

    with pytest.raises(ConfigurationError, match="a split cannot be called"):
        await flow.tasks["split"].task.run({})


# retries


@pytest.mark.parametrize("how", ["own", "split", "default"])
async def test_retries_are_per_branch(watched: Kernel, clock: VirtualClock, events: Events, how: str) -> None:
    """Of 10 branches with item 7 failing twice there are 12 calls, never 30."""
    calls: list[int] = []
    config = TaskConfig(retry=Retries(3))

    class Item(Task[int]):
        def __init__(self, number: int) -> None:
            super().__init__(config if how == "own" else None)
            self.number = number

        async def run(self, store: Any) -> int:
            calls.append(self.number)
            store.append("attempts", (self.number, current_step().attempt))
            if self.number == 7 and current_step().attempt < 3:
                raise OSError("hiccup")
            return self.number

    flow = split(
        lambda store: [Item(number) for number in range(10)],
        config=config if how == "split" else None,
        default=config if how == "default" else None,
    )
    result = await watched.run(flow)

    assert Counter(calls) == {number: 3 if number == 7 else 1 for number in range(10)}
    assert len(calls) == 12
    # what the failed attempts wrote is gone
    assert result.data == {"attempts": [(number, 3 if number == 7 else 1) for number in range(10)]}
    assert clock.monotonic() == 2
    assert events.of("7:Item") == [("started", 1), ("retrying", 1), ("retrying", 2), ("finished", 3)]
    assert events.of("6:Item") == [("started", 1), ("finished", 1)]


async def test_a_branch_that_exhausts_its_retries(watched: Kernel, clock: VirtualClock, events: Events) -> None:
    """It fails alone, with the error that a state's task would fail with."""

    async def bad(store: Any) -> None:
        raise OSError(f"attempt {current_step().attempt}")

    outcome = await outcome_of(watched, [bad, decorated], PARTIAL, config=TaskConfig(retry=Retries(2)))

    error = outcome.branches[0].error
    assert isinstance(error, RetryExhaustedError)
    assert (error.attempts, repr(error.__cause__)) == (3, "OSError('attempt 3')")
    assert outcome.branches[1].status is BranchStatus.OK
    assert events.of("0:bad") == [("started", 1), ("retrying", 1), ("retrying", 2), ("failed", 3)]


async def test_a_node_as_a_branch_repeats_only_its_failed_phase(watched: Kernel) -> None:
    """Three phases, one budget, as in a state of its own."""
    calls: list[str] = []

    class Fetch(Node[None, str, str]):
        async def prep(self, store: Any) -> str:
            calls.append("prep")
            store["prepared"] = True
            return "x"

        async def exec(self, prepared: str) -> str:
            calls.append("exec")
            if calls.count("exec") < 3:
                raise OSError
            return prepared * 2

        async def post(self, store: Any, prepared: str, result: str) -> None:
            calls.append("post")
            store["result"] = result

    result = await watched.run(split([Fetch()], config=TaskConfig(retry=Retries(5))))

    assert calls == ["prep", "exec", "exec", "exec", "post"]
    assert result.data == {"prepared": True, "result": "xx"}


async def test_a_node_that_fails_says_in_which_phase(watched: Kernel) -> None:
    """The branch's error is a `NodeError`."""

    class Bad(Length):
        async def exec(self, prepared: str) -> int:
            raise OSError

    with pytest.raises(JoinError) as caught:
        await watched.run(split([Bad()], config=TaskConfig.minimal()), {"text": ""})
    error = caught.value.outcome.branches[0].error
    assert isinstance(error, NodeError)
    assert error.phase == "exec"


async def test_retries_end_with_the_split(watched: Kernel, clock: VirtualClock, events: Events) -> None:
    """A loser that waits for its next attempt is not attempted again."""

    async def bad(store: Any) -> None:
        raise OSError

    async def good(store: Any) -> None:
        await clock.sleep(2.5)

    outcome = await outcome_of(watched, [bad, good], ANY, config=TaskConfig(retry=Retries(100)))

    assert outcome.branches[0].status is BranchStatus.CANCELLED
    assert events.of("0:bad") == [("started", 1), ("retrying", 1), ("retrying", 2), ("retrying", 3), ("failed", 3)]
    assert clock.monotonic() == 2.5


# time limits of branches


async def test_a_branch_has_time_limits_of_its_own(watched: Kernel, clock: VirtualClock, events: Events) -> None:
    """Attempts are timed one by one, in each branch for itself, and retried."""
    times: dict[int, list[float]] = {0: [], 1: [], 2: []}

    def branch(number: int, lasts: list[float]) -> Callable[[Any], Any]:
        async def work(store: Any) -> int:
            times[number].append(clock.monotonic())
            assert current_step().deadline == clock.monotonic() + 5
            await clock.sleep(lasts[current_step().attempt - 1])
            return number

        return work

    branches = [branch(0, [3]), branch(1, [9, 2]), branch(2, [9, 9, 9])]
    outcome = await outcome_of(watched, branches, PARTIAL, config=TaskConfig(retry=Retries(2), timeout=5))

    assert times == {0: [0], 1: [0, 6], 2: [0, 6, 12]}
    assert outcome.results == [0, 1]
    error = outcome.branches[2].error
    assert isinstance(error, RetryExhaustedError)
    assert isinstance(error.__cause__, StepTimeoutError)
    assert clock.monotonic() == 17


async def test_a_branch_has_a_total_timeout(watched: Kernel, clock: VirtualClock) -> None:
    """Its retries and pauses count, those of the others do not."""

    async def work(store: Any) -> None:
        await clock.sleep(3)
        raise OSError

    outcome = await outcome_of(
        watched, [work, decorated], PARTIAL, config=TaskConfig(retry=Retries(100), total_timeout=10)
    )

    error = outcome.branches[0].error
    assert isinstance(error, StepTimeoutError)
    assert error.total
    assert clock.monotonic() == 10
    assert outcome.branches[1].status is BranchStatus.OK


async def test_a_branch_that_swallows_its_timeout(watched: Kernel, clock: VirtualClock) -> None:
    """It has timed out all the same."""

    async def work(store: Any) -> str:
        store["trace"] = True
        try:
            await clock.sleep(100)
        except asyncio.CancelledError:
            return "fine"
        return "done"

    store = MemoryStore()
    flow = split([work], config=TaskConfig(timeout=5))
    with pytest.raises(JoinError) as caught:
        await watched.run(flow, store)
    assert isinstance(caught.value.outcome.branches[0].error, StepTimeoutError)
    assert len(store) == 0


# limits


@pytest.mark.parametrize("limit", [1, 2, 5, 50])
@pytest.mark.parametrize("dynamic", [False, True])
async def test_the_measured_peak_is_the_limit(kernel: Kernel, clock: VirtualClock, limit: int, dynamic: bool) -> None:
    """Never more, and never fewer while there is work; everything is done, in the order of the branches."""
    now = peak = 0
    begun: list[int] = []

    def branch(number: int) -> Callable[[Any], Any]:
        async def work(store: Any) -> int:
            nonlocal now, peak
            now += 1
            begun.append(number)
            peak = max(peak, now)
            await clock.sleep(1 + number % 3)
            now -= 1
            return number

        return work

    branches = [branch(number) for number in range(120)]
    outcome = await outcome_of(kernel, (lambda store: branches) if dynamic else branches, limit=limit)

    assert peak == limit
    assert begun == outcome.results == list(range(120))


async def test_a_limit_of_one_is_a_sequence(kernel: Kernel, clock: VirtualClock) -> None:
    """The branches' times add up."""

    async def work(store: Any) -> None:
        await clock.sleep(2)

    for limit, seconds in ((1, 10), (2, 6), (None, 2), (100, 2)):
        began = clock.monotonic()
        await outcome_of(kernel, [work] * 5, limit=limit)
        assert clock.monotonic() - began == seconds


async def test_waiting_branches_are_not_started_when_it_is_decided(watched: Kernel, clock: VirtualClock) -> None:
    """Nor are they heard of."""

    async def work(store: Any) -> None:
        await clock.sleep(1)

    outcome = await outcome_of(watched, [work] * 6, JoinStrategy.quorum(3), limit=2)

    assert [branch.status.value for branch in outcome.branches] == ["ok"] * 3 + ["cancelled"] + ["not started"] * 2


async def test_a_retrying_branch_keeps_its_place(kernel: Kernel, clock: VirtualClock) -> None:
    """The pause between two attempts is part of the branch."""
    times: list[tuple[int, float]] = []

    def branch(number: int) -> Callable[[Any], Any]:
        async def work(store: Any) -> None:
            times.append((number, clock.monotonic()))
            if current_step().attempt == 1:
                raise OSError

        return work

    await kernel.run(split([branch(0), branch(1)], limit=1, config=TaskConfig(retry=Retries(1))))

    assert times == [(0, 0), (0, 1), (1, 1), (1, 2)]


# threads


async def test_plain_functions_run_side_by_side(kernel: Kernel) -> None:
    """Branches that block do it in threads of their own, each with its own step and view."""
    together = threading.Barrier(8, timeout=60)

    def work(store: Any) -> str:
        together.wait()
        store[f"key {current_step().branch}"] = threading.get_ident()
        return str(current_step().branch)

    result = await kernel.run(split([work] * 8))

    assert result.data.keys() == {f"key {number}:work" for number in range(8)}
    assert len(set(result.data.values())) == 8


async def test_a_thread_that_loses_is_left_behind(watched: Kernel, events: Events) -> None:
    """It cannot be stopped, but what it still writes goes nowhere, and nobody waits for it."""
    go_on, late, gone = threading.Event(), threading.Event(), threading.Event()

    def slow(store: Any) -> None:
        store["early"] = True
        gone.set()
        go_on.wait(60)
        store["late"] = True
        late.set()

    async def quick(store: Any) -> None:
        assert await asyncio.to_thread(gone.wait, 60)

    outcomes: list[SplitOutcome] = []
    result = await watched.run(split([slow, quick], ANY, outcomes=outcomes))
    go_on.set()
    assert late.wait(60)

    assert result.data == {}
    assert outcomes[0].branches[0].status is BranchStatus.CANCELLED
    assert events.of("0:slow") == [("started", 1), ("failed", 1)]


class Impatient(VirtualClock):
    """Lets time pass although the first thread is at work."""

    threads = 0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """See `VirtualClock.hold`."""
        self.threads += 1
        with nullcontext() if self.threads == 1 else super().hold():
            yield


async def test_a_thread_that_times_out_is_left_behind() -> None:
    """Its next attempt works on a view that the abandoned thread cannot write to."""
    go_on, late = threading.Event(), threading.Event()

    def work(store: Any) -> int:
        attempt = current_step().attempt
        store["attempt"] = attempt
        if attempt == 1:
            go_on.wait(60)
            store["attempt"] = "late"
            late.set()
        return attempt

    outcomes: list[SplitOutcome] = []
    flow = split([work], outcomes=outcomes, config=TaskConfig(retry=Retries(1), timeout=5))
    async with Kernel(discover=False, clock=Impatient()) as kernel:
        result = await kernel.run(flow)
    go_on.set()
    assert late.wait(60)

    assert outcomes[0].results == [2]
    assert result.data == {"attempt": 2}


# events


async def test_events_of_a_split(watched: Kernel, clock: VirtualClock, events: Events) -> None:
    """The split is a step; within it each branch that is started has one end, the losers too."""

    async def work(store: Any) -> None:
        await clock.sleep(1)

    async def bad(store: Any) -> None:
        raise OSError

    async def loser(store: Any) -> None:
        await clock.sleep(9)

    await watched.run(split([work, bad, loser], ANY))

    assert events.of(None) == [("started", 1), ("finished", 1)] * 2
    assert events.of("0:work") == [("started", 1), ("finished", 1)]
    assert events.of("1:bad") == [("started", 1), ("failed", 1)]
    assert events.of("2:loser") == [("started", 1), ("failed", 1)]
    assert [what for what, branch, _ in events.seen if branch is None or branch.startswith("2")] == [
        "started",
        "started",
        "failed",
        "finished",
        "started",
        "finished",
    ]


async def test_events_of_a_failed_split(watched: Kernel, clock: VirtualClock, events: Events) -> None:
    """Branches end before the split does."""

    async def bad(store: Any) -> None:
        await clock.sleep(1)
        raise OSError

    async def other(store: Any) -> None:
        await clock.sleep(9)

    with pytest.raises(JoinError):
        await watched.run(split([bad, other]))

    assert events.seen[-3:] == [("failed", "0:bad", 1), ("failed", "1:other", 1), ("failed", None, 1)]


@pytest.mark.parametrize("how", ["cancel", "timeout", "close"])
async def test_events_of_a_split_that_is_cut_off(
    watched: Kernel, clock: VirtualClock, events: Events, how: str
) -> None:
    """Whatever ends the run, each started branch has its end."""

    async def work(store: Any) -> None:
        await clock.sleep(100)

    handle = await watched.start(split([work] * 3, limit=2), timeout=5 if how == "timeout" else None)
    await clock.sleep(1)
    if how == "cancel":
        await handle.cancel()
    elif how == "close":
        await watched.close()
    if how == "timeout":
        with pytest.raises(RunTimeoutError):
            await handle.result()

    assert [(what, branch) for what, branch, _ in events.seen] == [
        ("started", None),
        ("started", "0:work"),
        ("started", "1:work"),
        ("failed", "0:work"),
        ("failed", "1:work"),
        ("failed", None),
    ]


async def test_the_step_of_a_branch(kernel: Kernel) -> None:
    """It knows its run and has an idempotency key of its own, the same for every attempt."""
    keys: list[tuple[str, int, str, str | None, str]] = []

    async def work(store: Any) -> None:
        step = current_step()
        keys.append((step.run_id, step.seq, step.state, step.branch, step.idempotency_key))
        if step.attempt == 1:
            raise OSError

    await kernel.run(split([work, work], config=TaskConfig(retry=Retries(1))), run_id="r1")

    assert keys == [("r1", 1, "split", f"{n}:work", f"r1:1:{n}:work") for n in (0, 1, 0, 1)]


# what is no `Exception`


class Stop(BaseException):
    """A user's own exception that is no `Exception`."""


@pytest.mark.parametrize("kind", [Stop, GeneratorExit])
@pytest.mark.parametrize("strategy", [ALL, ANY, PARTIAL], ids=str)
async def test_a_base_exception_ends_the_run(
    watched: Kernel, clock: VirtualClock, kind: type[BaseException], strategy: JoinStrategy
) -> None:
    """As itself, whatever the strategy: it is nobody's ordinary failure, and is not retried."""
    stop, ended = kind("now"), []

    async def bad(store: Any) -> None:
        await clock.sleep(1)
        raise stop

    async def other(store: Any) -> None:
        try:
            await clock.sleep(9)
        finally:
            ended.append(clock.monotonic())

    with pytest.raises(kind) as caught:
        await watched.run(split([bad, other], strategy, config=TaskConfig(retry=Retries(5), on_exhausted="given up")))

    assert caught.value is stop
    assert ended == [1]


async def test_a_branch_that_cancels_itself(watched: Kernel) -> None:
    """It is cancelled, not failed, and counts as one that did not succeed."""

    async def work(store: Any) -> None:
        branch = asyncio.current_task()
        assert branch is not None
        branch.cancel()
        await asyncio.sleep(0)

    outcome = await outcome_of(watched, [work, decorated], PARTIAL)
    assert [branch.status.value for branch in outcome.branches] == ["cancelled", "ok"]
    with pytest.raises(JoinError, match="1 cancelled, 1 not started"):
        await watched.run(split([work, decorated], limit=1))


# on_exhausted, and stores of the user's own


async def test_on_exhausted_of_a_split(watched: Kernel) -> None:
    """A join that is not met leads there, with the error and its outcome at hand; the branches' writes are undone."""
    errors: list[Any] = []

    async def bad(store: Any) -> None:
        store["half"] = True
        raise OSError

    async def repair(store: Any) -> str:
        errors.append(current_step().error)
        return "end"

    flow = Workflow("split").add_exit_state("end").register("repair", repair).register("after", repair)
    flow.register_split(
        "split", [decorated, bad], JoinConfig(ALL, "after"), config=TaskConfig(retry=Retries(1), on_exhausted="repair")
    )
    result = await watched.run(flow)

    assert (result.state, result.data) == ("end", {})
    assert isinstance(errors[0], JoinError)
    assert [branch.status.value for branch in errors[0].outcome.branches] == ["ok", "failed"]


async def test_on_exhausted_of_a_maker_that_raises(watched: Kernel) -> None:
    """It counts as the split's failure."""

    def make(store: Any) -> Any:
        raise OSError

    result = await watched.run(split(make, config=TaskConfig(on_exhausted="given up")))

    assert result.state == "given up"


async def test_on_exhausted_of_a_branch_alone_changes_nothing(watched: Kernel) -> None:
    """A branch leads nowhere: its own `on_exhausted` does not send the run there."""

    @task(config=TaskConfig(on_exhausted="given up"))
    async def bad(store: Any) -> None:
        raise OSError

    with pytest.raises(JoinError):
        await watched.run(split([bad]))


@dataclass
class Basket:
    """A store of the user's own."""

    prices: dict[str, int]
    total: int = 0
    log: list[str] = field(default_factory=list)


async def test_branches_on_a_store_of_the_users_own(watched: Kernel) -> None:
    """They all get the object itself: what they do to it is seen at once, and is not undone."""

    def price(name: str) -> Callable[[Basket], Any]:
        async def work(basket: Basket) -> int:
            basket.log.append(name)
            basket.total += basket.prices[name]
            if name == "pear":
                raise OSError
            return basket.total

        return work

    basket = Basket({"apple": 2, "pear": 3, "plum": 5})
    outcomes: list[SplitOutcome] = []
    flow = split(lambda basket: [price(name) for name in basket.prices], PARTIAL, outcomes=outcomes)
    result = await watched.run(flow, basket)

    assert result.data is basket
    assert basket == Basket({"apple": 2, "pear": 3, "plum": 5}, 10, ["apple", "pear", "plum"])
    assert outcomes[0].results == [2, 10]


async def test_two_splits_in_a_row(kernel: Kernel) -> None:
    """The second sees what the first has merged, and its outcome is its own."""
    outcomes: list[list[Any]] = []

    async def work(store: Any) -> int:
        store.append("seen", len(store.get("seen", default=[])))
        return len(store["seen"])

    async def after(store: Any) -> str:
        outcomes.append(current_step().outcome.results)
        return "end"

    flow = Workflow("one").register_split("one", [work] * 2, JoinConfig(ALL, "two"))
    flow.register_split("two", [work] * 3, JoinConfig(ALL, "after")).register("after", after).add_exit_state("end")
    result = await kernel.run(flow)

    assert result.data == {"seen": [0, 0, 2, 2, 2]}
    assert outcomes == [[3, 3, 3]]


async def test_many_runs_share_a_split(kernel: Kernel, clock: VirtualClock) -> None:
    """Bound once, it holds nothing of a run."""

    async def work(store: Any) -> int:
        await clock.sleep(store["n"])
        return int(store["n"])

    outcomes: list[SplitOutcome] = []
    flow = split([work, work], outcomes=outcomes)
    await asyncio.gather(*(kernel.run(flow, {"n": n}) for n in (3, 1, 2)))

    assert [outcome.results for outcome in outcomes] == [[1, 1], [2, 2], [3, 3]]
