"""What one step costs."""

from __future__ import annotations

from functools import partial

from cano import Kernel, Step, TaskConfig, hookimpl
from cano_memory import MemoryStore

from tests.benchmarks.flows import by_hand, counters, flow, no_ops
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


async def atomic_steps(steps: int, rounds: int) -> list[Line]:
    """A step that gets and puts one key of a MemoryStore."""
    handlers = counters(steps)
    store = MemoryStore({"n": 0})
    kernel = Kernel(discover=False)
    loop, atomic = await best(
        rounds, partial(by_hand, handlers, store), partial(kernel.orchestrate, flow(handlers), store)
    )
    return [Line("get and put of one key, atomically", "the loop on the same store", atomic / loop, "x", 1.6)]
