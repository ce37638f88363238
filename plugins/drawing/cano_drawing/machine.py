"""The states and arrows that a picture of a workflow shows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from cano import SplitTask, SubWorkflow, Task, Workflow, edges, state_name, undeclared
from cano.engine.ports import function_name

DEPTH = 2
"""How deep the workflows of states are drawn inside each other. Deeper ones are named only."""


class State(NamedTuple):
    """A state.

    Attributes:
        name: its name.
        task: the name of its task, or None.
        is_exit: whether a run that reaches it ends.
        open_ended: whether its task does not declare its next states.
        branches: the names of a split's branches, or None if it is not a split; empty if they are made at run time.
        inner: the workflow that its task executes, or None.
    """

    name: str
    task: str | None = None
    is_exit: bool = False
    open_ended: bool = False
    branches: Sequence[str] | None = None
    inner: Machine | None = None

    @property
    def is_undefined(self) -> bool:
        """Whether it has no task and is not an exit state, so that the workflow is invalid."""
        return self.task is None and not self.is_exit


class Arrow(NamedTuple):
    """A declared transition. `fallback`: it is taken when all attempts have failed."""

    source: str
    target: str
    fallback: bool = False


class Machine(NamedTuple):
    """A workflow, or a part of one.

    Attributes:
        name: the workflow's name.
        states: the states; the first one is the start, if the start is among them.
        arrows: the transitions between them.
        left_out: the number of states that are not shown.
        has_start: whether the start is among the states.
    """

    name: str
    states: Sequence[State]
    arrows: Sequence[Arrow]
    left_out: int = 0
    has_start: bool = True

    def near(self, name: str, most: int) -> Machine:
        """Return the part around a state: the `most` states that the fewest arrows lead to or from.

        Raises:
            KeyError: there is no such state.
        """
        known = {state.name: state for state in self.states}
        beside: dict[str, list[str]] = {each: [] for each in known}
        for source, target, _ in self.arrows:
            beside[source].append(target)
            beside[target].append(source)
        found, waiting = {name: known[name]}, deque([name])
        while waiting and len(found) < most:
            for each in beside[waiting.popleft()]:
                if each not in found and len(found) < most:
                    found[each] = known[each]
                    waiting.append(each)
        states = [state for state in self.states if state.name in found]
        arrows = [arrow for arrow in self.arrows if arrow.source in found and arrow.target in found]
        has_start = self.has_start and self.states[0].name in found
        return Machine(self.name, states, arrows, len(self.states) - len(states), has_start)


def machine_of(flow: Workflow[Any], depth: int = DEPTH) -> Machine:
    """Return the states and arrows of a workflow, which need not be valid."""
    arrows = [*edges(flow)]
    states = dict.fromkeys([flow.start, *flow.tasks, *flow.exit_states, *(target for _, target in arrows)])
    open_ended = set(undeclared(flow))
    return Machine(
        flow.name,
        [_state(flow, state, state in open_ended, depth) for state in states],
        [Arrow(state_name(a), state_name(b), _is_fallback(flow, a, b)) for a, b in arrows],
    )


def _state(flow: Workflow[Any], state: Any, open_ended: bool, depth: int) -> State:
    if state not in flow.tasks:
        return State(state_name(state), is_exit=state in flow.exit_states)
    task = flow.tasks[state].task
    branches = _names(task.branches) if isinstance(task, SplitTask) else None
    inner = machine_of(task.flow, depth - 1) if isinstance(task, SubWorkflow) and depth else None
    return State(state_name(state), task.name, state in flow.exit_states, open_ended, branches, inner)


def _names(branches: Iterable[Any]) -> list[str]:
    return [branch.name if isinstance(branch, Task) else function_name(branch) for branch in branches]


def _is_fallback(flow: Workflow[Any], source: Any, target: Any) -> bool:
    return target not in (flow.tasks[source].targets or ())
