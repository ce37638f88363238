"""Random state machines with random failures, against a model of what a run should come to."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from cano import (
    CanoError,
    Kernel,
    Node,
    NodeError,
    RetryExhaustedError,
    RunResult,
    RunTimeoutError,
    Step,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    TransitionError,
    ValidationError,
    Workflow,
    current_step,
    edges,
    hookimpl,
    task,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore
from hypothesis import event, given, settings
from hypothesis import strategies as st

KINDS = ("async", "limited", "node", "thread")
LIMIT = 50.0
"""Seconds that an attempt of a "limited" task may take."""


class Attempts:
    """A retry strategy that allows so many attempts."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return attempt / 4 if attempt < self.attempts else None


@dataclass
class Visit:
    """What happens when a state is visited: so many failures, in such phases of a node, then a choice of a target.

    `wrong` is returned instead of a target, where it is not None.
    """

    failures: int
    phases: list[str]
    choice: int
    wrong: Any = None


@dataclass
class Machine:
    """A random machine. State 0 is the first; the last ones are exits. Every state leads to the next, and elsewhere."""

    kinds: list[str]
    attempts: list[int]
    targets: list[list[int]]
    fallbacks: list[int | None]
    exits: int
    script: list[Visit]

    @property
    def states(self) -> int:
        """How many states have a task."""
        return len(self.kinds)

    def visit(self, seq: int) -> Visit:
        """What happens in a step. When the script is over, the shortest way out."""
        return self.script[seq - 1] if seq <= len(self.script) else Visit(0, [], 0)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Any machine with up to five states and three exits, and what happens in its first steps."""
    states, exits = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    anywhere = st.integers(0, states + exits - 1)

    def some(strategy: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(strategy, min_size=states, max_size=states))

    further = some(st.lists(anywhere, max_size=3))
    targets = [list(dict.fromkeys([state + 1, *more])) for state, more in enumerate(further)]
    # every exit can be reached
    targets[-1] = list(dict.fromkeys([*targets[-1], *range(states, states + exits)]))
    visits = st.builds(
        Visit,
        failures=st.integers(0, 4),
        phases=st.lists(st.sampled_from(["prep", "exec", "post"]), min_size=4, max_size=4),
        choice=st.integers(0, 9),
        wrong=st.sampled_from([None] * 12 + ["nowhere", "undeclared", 7, [1]]),
    )
    return Machine(
        kinds=some(st.sampled_from(KINDS)),
        attempts=some(st.integers(1, 4)),
        targets=targets,
        fallbacks=some(st.none() | anywhere),
        exits=exits,
        script=draw(st.lists(visits, max_size=12)),
    )


# what should come of it


@dataclass
class Outcome:
    """What a run came to, or should."""

    data: dict[str, Any]
    taken: list[tuple[int, int]] = field(default_factory=list)
    failed: int = 0
    state: int | None = None
    error: type[Exception] | None = None


def first_data() -> dict[str, Any]:
    """What every run begins with."""
    return {"count": 0, "log": [], "nested": {"visits": {}}, "last": None}


def write(store: Any, entry: list[int]) -> None:
    """What every attempt writes, before it fails or not: all kinds of changes."""
    store["count"] = store["count"] + 1
    store.append("log", entry)
    visits = store["nested"]["visits"]
    visits[str(entry[0])] = visits.get(str(entry[0]), 0) + 1
    if "last" in store:
        store.remove("last")
    else:
        store["last"] = entry


def wrong_result(machine: Machine, state: int, visit: Visit) -> Any:
    """What is returned in place of a target; None where a target is."""
    if visit.wrong != "undeclared":
        return visit.wrong
    others = [other for other in range(machine.states + machine.exits) if other not in machine.targets[state]]
    return str(others[0]) if others else None


def simulate(machine: Machine) -> Outcome:
    """The run, without an engine."""
    outcome, state, seq = Outcome(first_data()), 0, 0
    plain = Plain(outcome.data)
    while state < machine.states:
        seq += 1
        visit, allowed = machine.visit(seq), machine.attempts[state]
        if visit.failures >= allowed:
            outcome.failed += 1
            fallback = machine.fallbacks[state]
            if fallback is None:
                one = {"node": NodeError, "limited": StepTimeoutError}.get(machine.kinds[state], TaskError)
                outcome.error = RetryExhaustedError if allowed > 1 else one
                return outcome
            outcome.taken.append((state, fallback))
            state = fallback
            continue
        if wrong_result(machine, state, visit) is not None:
            outcome.failed += 1
            outcome.error = TransitionError
            return outcome
        write(plain, [state, seq, visit.failures + 1])
        targets = machine.targets[state]
        outcome.taken.append((state, targets[visit.choice % len(targets)]))
        state = outcome.taken[-1][1]
    outcome.state = state
    return outcome


class Plain(dict[str, Any]):
    """A dict with the two methods more that `write` uses."""

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self.data[key] = value

    def __contains__(self, key: object) -> bool:
        return key in self.data

    def append(self, key: str, item: Any) -> None:
        """Add an item to a list."""
        self.data[key].append(item)

    def remove(self, key: str) -> None:
        """Remove a key."""
        del self.data[key]


# the same with one


class Works:
    """The task of one state, in any of the kinds."""

    def __init__(self, machine: Machine, state: int) -> None:
        self.machine = machine
        self.state = state

    def begin(self, store: Any) -> bool:
        """Write; whether this attempt is to fail."""
        step = current_step()
        write(store, [self.state, step.seq, step.attempt])
        return step.attempt <= self.machine.visit(step.seq).failures

    def end(self) -> Any:
        """What the task returns."""
        visit = self.machine.visit(current_step().seq)
        wrong = wrong_result(self.machine, self.state, visit)
        targets = self.machine.targets[self.state]
        return str(targets[visit.choice % len(targets)]) if wrong is None else wrong

    def plain(self, store: Any) -> Any:
        """The task as a plain function."""
        if self.begin(store):
            raise OSError("down")
        return self.end()

    async def raising(self, store: Any) -> Any:
        """The task, failing with errors."""
        await asyncio.sleep(0)
        return self.plain(store)

    async def hanging(self, store: Any) -> Any:
        """The task, failing by taking too long; every other time it resists being stopped."""
        if self.begin(store):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                store["late"] = True
                if current_step().attempt % 2:
                    raise
        return self.end()


class InPhases(Node[str, int, int]):
    """The task as a node: its failures are spread over the phases, in their order."""

    def __init__(self, works: Works, targets: list[str]) -> None:
        self.works = works
        self.targets = targets  # type: ignore[misc]  # its own

    def meet(self, phase: str) -> None:
        """Fail, if it is this attempt's and this phase's turn."""
        step = current_step()
        visit = self.works.machine.visit(step.seq)
        order = sorted(visit.phases[: visit.failures], key=["prep", "exec", "post"].index)
        if step.attempt <= visit.failures and order[step.attempt - 1] == phase:
            raise OSError(phase)

    async def prep(self, store: Any) -> int:
        """Leave a trace that is to vanish if this fails, and to be corrected if not."""
        store["count"] = store["count"] + 1000
        self.meet("prep")
        return current_step().attempt

    async def exec(self, prepared: int) -> int:
        """Nothing but failures."""
        self.meet("exec")
        return prepared

    async def post(self, store: Any, prepared: int, result: int) -> str:
        """Write as the other kinds do."""
        assert result == prepared
        store["count"] = store["count"] - 1000
        self.works.begin(store)
        self.meet("post")
        return self.works.end()  # type: ignore[no-any-return]  # it may be wrong, which is the point


class Watches:
    """Notes what is seen of a run."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, int]] = []
        self.seen: Counter[str] = Counter()
        self.open = False

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """A step begins; none is open."""
        assert not self.open
        self.open = True
        self.seen["started"] += 1

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """It ends."""
        assert self.open
        self.open = False
        self.seen["finished"] += 1

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """It ends."""
        assert self.open
        self.open = False
        self.seen["failed"] += 1

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """A way is taken."""
        self.taken.append((int(step.state), int(step.next_state)))


def build(machine: Machine) -> Workflow[str]:
    """The machine as a workflow."""
    flow = Workflow("0", name="machine")
    for state, kind in enumerate(machine.kinds):
        works, targets = Works(machine, state), [str(target) for target in machine.targets[state]]
        fallback = machine.fallbacks[state]
        config = TaskConfig(
            retry=Attempts(machine.attempts[state]),
            timeout=LIMIT if kind == "limited" else None,
            on_exhausted=None if fallback is None else str(fallback),
        )
        function: Any = {"async": works.raising, "limited": works.hanging, "thread": works.plain}.get(kind)
        made = InPhases(works, targets) if kind == "node" else task(targets=targets)(function)
        flow.register(str(state), made, config=config)
    return flow.add_exit_states(map(str, range(machine.states, machine.states + machine.exits)))


async def execute(flow: Workflow[str], store: Any, way: str) -> tuple[Outcome, Watches]:
    """Run it, one way or another."""
    watches, outcome = Watches(), Outcome({})
    async with Kernel(discover=False, plugins=[watches], clock=VirtualClock(), grace=0) as kernel:
        try:
            if way == "orchestrate":
                outcome.state = int(await kernel.orchestrate(flow, store))
            elif way == "run":
                result = await kernel.run(flow, store)
                assert result.steps == len(watches.taken)
                outcome.state = int(result.state)
            else:
                handle = await kernel.start(flow, store)
                outcome.state = int((await handle.result()).state)
        except CanoError as error:
            outcome.error = type(error)
        assert kernel.observer_errors == {}
        assert kernel.active == {}
    assert asyncio.all_tasks() == {asyncio.current_task()}
    outcome.taken = watches.taken
    outcome.failed = watches.seen["failed"]
    outcome.data = {key: store[key] for key in store}
    return outcome, watches


@settings(max_examples=300, deadline=None)
@given(
    machine=machines(), make=st.sampled_from([dict, MemoryStore]), way=st.sampled_from(["orchestrate", "run", "start"])
)
def test_a_random_machine_does_what_the_model_says(machine: Machine, make: Any, way: str) -> None:
    """Ways taken, failed steps, end, and the store's data, are those of the model; every way is one that is drawn."""
    way = "orchestrate" if make is dict else way  # a run of its own data cannot be looked at when it fails
    expected = simulate(machine)
    flow = build(machine).validate()
    event(f"ends with {expected.error.__name__ if expected.error else 'success'}")

    outcome, watches = asyncio.run(execute(flow, make(first_data()), way))

    assert outcome == expected
    assert set(outcome.taken) <= {(int(source), int(target)) for source, target in edges(flow)}
    assert (outcome.error is None) != (outcome.state is None)
    assert watches.seen["started"] == watches.seen["finished"] + watches.seen["failed"]
    assert not watches.open
    assert outcome.data["count"] == len(outcome.data["log"])


@settings(max_examples=50, deadline=None)
@given(machine=machines())
def test_a_random_machine_on_the_runs_own_data(machine: Machine) -> None:
    """The same where the kernel keeps the data, in a copy: what the run began with is unchanged."""
    expected, data, flow = simulate(machine), first_data(), build(machine)

    async def run() -> Any:
        async with Kernel(discover=False, clock=VirtualClock(), grace=0) as kernel:
            return await kernel.run(flow, data)

    if expected.error is None:
        assert asyncio.run(run()).data == expected.data
    else:
        with pytest.raises(expected.error) as caught:
            asyncio.run(run())
        assert type(caught.value) is expected.error
    assert data == first_data()


@settings(max_examples=50, deadline=None)
@given(machine=machines(), count=st.integers(2, 5))
def test_random_machines_at_once(machine: Machine, count: int) -> None:
    """One workflow may run any number of times at once: each run comes to the same."""
    expected, flow = simulate(machine), build(machine)
    stores = [first_data() for _ in range(count)]

    async def run() -> list[Any]:
        async with Kernel(discover=False, clock=VirtualClock(), grace=0) as kernel:
            return await asyncio.gather(*(kernel.orchestrate(flow, store) for store in stores), return_exceptions=True)

    results = asyncio.run(run())

    assert stores == [expected.data] * count
    assert [type(result) for result in results] == [expected.error or str] * count


# machines that may be wrong


@dataclass
class Rough:
    """A machine nobody checked: tasks, exits and targets at random, some declared and some not."""

    tasks: dict[int, tuple[list[int] | None, list[int]]]
    exits: list[int]
    start: int


tasks = st.tuples(
    st.none() | st.lists(st.integers(0, 5), max_size=3, unique=True),
    st.lists(st.integers(0, 6), min_size=1, max_size=4),
)
rough_machines = st.builds(
    Rough,
    tasks=st.dictionaries(st.integers(0, 3), tasks, max_size=4),
    exits=st.lists(st.sampled_from([4, 4, 5, 5, 5, 0, 3]), max_size=2, unique=True),
    start=st.sampled_from([0, 0, 0, 1, 4]),
)


@settings(max_examples=400, deadline=None)
@given(machine=rough_machines)
def test_any_machine_ends_in_an_exit_state_or_a_named_error(machine: Rough) -> None:
    """What is wrong with it is found before it runs, or ends the run by name; it takes ways that were drawn only."""
    flow = Workflow(machine.start)
    for state, (declared, returned) in machine.tasks.items():
        flow.register(state, task(targets=declared)(ticking(returned)))
    flow.add_exit_states(machine.exits)
    declaring = {state for state, (declared, _) in machine.tasks.items() if declared is not None}
    taken: list[tuple[int, int]] = []

    class Ways:
        @hookimpl
        def cano_transition_committed(self, step: Step) -> None:
            taken.append((step.state, step.next_state))

    async def run() -> RunResult | CanoError:
        async with Kernel(discover=False, plugins=[Ways()], clock=VirtualClock(), grace=0) as kernel:
            try:
                return await kernel.run(flow, {"ticks": 0}, timeout=30)
            except CanoError as error:
                return error

    ended = asyncio.run(run())

    event(type(ended).__name__)
    if isinstance(ended, RunResult):
        assert ended.state in machine.exits
        assert ended.data == {"ticks": len(taken)}
        assert ended.steps == len(taken)
    elif isinstance(ended, ValidationError):
        assert ended.problems
        assert taken == []
    else:
        assert isinstance(ended, TransitionError | RunTimeoutError)
        assert ended.state in machine.tasks
        assert isinstance(ended, TransitionError) or len(taken) == 29
    assert {way for way in taken if way[0] in declaring} <= set(edges(flow))
    assert {target for _, target in taken} <= {*machine.tasks, *machine.exits}


def ticking(returned: list[int]) -> Any:
    """A task that takes a second, and returns one number after the other."""

    async def tick(store: Any) -> Any:
        ticks = store["ticks"]
        store["ticks"] = ticks + 1
        await current_step().run.kernel.clock.sleep(1)
        return returned[ticks % len(returned)]

    return tick
