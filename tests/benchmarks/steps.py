"""What one step costs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from cano import Kernel, KeyValueStore, Step, TaskConfig, Workflow, hookimpl
from cano_memory import MemoryStore
from cano_retry import Fixed

from tests.benchmarks.flows import by_hand, chain, counters, flow, no_ops, plain_no_ops
from tests.benchmarks.measure import Line, best

LOOP = "the hand-written loop"


class Started:
    """Listens at the begin of a step."""

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Do nothing."""


class Finished:
    """Listens at its end."""

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Do nothing."""


class Committed:
    """Listens at the commit."""

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Do nothing."""


async def no_op_steps(steps: int, rounds: int) -> list[Line]:
    """A step that does nothing: alone, with retries at hand, with listeners, with a time limit."""
    handlers = no_ops(steps)
    plain = Kernel(discover=False)
    listened = [Kernel(discover=False, plugins=[Started(), Finished(), Committed()][:count]) for count in (1, 2, 3)]
    retrying = Kernel(plugins=["retry"], discover=False)
    taken = await best(
        rounds,
        partial(by_hand, handlers, {}),
        partial(plain.orchestrate, flow(handlers), {}),
        partial(retrying.orchestrate, flow(handlers), {}),
        partial(plain.orchestrate, flow(handlers, TaskConfig(timeout=60)), {}),
        *(partial(kernel.orchestrate, flow(handlers), {}) for kernel in listened),
    )
    loop, alone, retries, limited, *heard = (seconds / steps * 1e6 for seconds in taken)
    return [
        Line("a no-op step, no observer", LOOP, alone / loop, "x", 0.9),
        Line("a no-op step, the default retry config", LOOP, retries / loop, "x"),
        *(
            Line(f"{count} listener{'s' * (count > 1)}, each", "the step without", (cost - alone) / count, "µs", 0.1)
            for count, cost in enumerate(heard, 1)
        ),
        Line("an attempt timeout", "the step without", limited - alone, "µs", 2.0),
        Line("the hand-written loop itself, a step", "", loop, "µs"),
    ]


async def plain_steps(steps: int, rounds: int) -> list[Line]:
    """A step that does nothing, where states are strings or numbers: in a ring, and in a chain of a run of its own."""
    kernel, lines = Kernel(discover=False), []
    for kind, states in (("str", ("a", "b", "c", "d")), ("int", (1, 2, 3, 4))):
        ring = plain_no_ops(steps, states)
        loop, ours = await best(
            rounds,
            partial(by_hand, ring, {}, states[0], states[3]),
            partial(kernel.orchestrate, flow(ring, done=states[3]), {}),
        )
        lines.append(Line(f"a no-op step with {kind} states", LOOP, ours / loop, "x", 1.0))
    long = chain(1000)
    chained = flow(long, done="done")

    async def repeated(run: Callable[[], Awaitable[object]]) -> None:
        for _ in range(max(1, steps // 1000)):
            await run()

    loop, ours = await best(
        rounds,
        partial(repeated, lambda: by_hand(long, {}, "state 0", "done")),
        partial(repeated, lambda: kernel.run(chained, {})),
    )
    return [*lines, Line("a chain of 1,000 no-op steps, by kernel.run", LOOP, ours / loop, "x", 1.0)]


async def short_runs(runs: int, rounds: int) -> list[Line]:
    """What it takes to start and end a run, one after the other: three steps that do nothing."""
    kernel, ring = Kernel(discover=False), no_ops(3)
    ours = flow(ring)

    async def repeated() -> None:
        for _ in range(runs):
            await kernel.run(ours, {})

    (taken,) = await best(rounds, repeated)
    return [Line("a run of three no-op steps, by kernel.run", "nothing", taken / runs * 1e6, "µs", 25.0)]


async def retries(steps: int, rounds: int) -> list[Line]:
    """A step that fails twice, and is retried without a delay; by hand, it is a loop around `try`."""
    failures, onwards = 0, repeat_until(steps)

    async def flaky(store: Any) -> str:
        nonlocal failures
        failures += 1
        if failures % 3:
            raise OSError
        return onwards()

    async def by_hand() -> None:
        state = "again"
        while state != "done":
            for attempt in range(3):
                try:
                    state = await flaky({})
                    break
                except OSError:
                    if attempt == 2:
                        raise

    ours = flow({"again": flaky}, TaskConfig(retry=Fixed(2, 0)), "done")
    loop, retried = await best(rounds, by_hand, partial(Kernel(discover=False).orchestrate, ours, {}))
    return [Line("a step that fails twice, retried without a delay", "a loop around `try`", retried / loop, "x", 2.5)]


async def large_values(rounds: int) -> list[Line]:
    """A step that reads a value of 10,000 numbers and does not change it."""
    kernel, steps = Kernel(discover=False), 30

    def reading(read: Callable[[KeyValueStore], object]) -> Workflow[Any]:
        onwards = repeat_until(steps)

        async def step(store: KeyValueStore) -> str:
            read(store)
            return onwards()

        return flow({"again": step}, done="done")

    ways = {
        "peek at a list of 10,000 numbers": (list(range(10_000)), lambda store: store.peek("value"), 100.0),
        "get a tuple of 10,000 numbers": (tuple(range(10_000)), lambda store: store["value"], None),
        "get a list of 10,000 numbers": (list(range(10_000)), lambda store: store["value"], None),
    }
    lines = []
    for what, (value, read, goal) in ways.items():
        (taken,) = await best(rounds, partial(kernel.orchestrate, reading(read), {"value": value}))
        lines.append(Line(f"a step: {what}", "nothing", taken / steps * 1e6, "µs", goal))
    return lines


def repeat_until(steps: int) -> Callable[[], str]:
    """Where a state leads that is followed by itself: to "done" once it was executed so often."""
    made = 0

    def onwards() -> str:
        nonlocal made
        made = (made + 1) % steps
        return "again" if made else "done"

    return onwards


async def atomic_steps(steps: int, rounds: int) -> list[Line]:
    """A step that gets and puts one key of a MemoryStore."""
    handlers = counters(steps)
    store = MemoryStore({"n": 0})
    kernel = Kernel(discover=False)
    loop, atomic = await best(
        rounds, partial(by_hand, handlers, store), partial(kernel.orchestrate, flow(handlers), store)
    )
    return [Line("get and put of one key, atomically", "the loop on the same store", atomic / loop, "x", 1.6)]
