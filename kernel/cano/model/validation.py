"""The check of a workflow's definition, which finds all problems at once."""

from __future__ import annotations

import enum
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from cano.model.node import Node
from cano.model.task import Task
from cano.model.workflow import Registration, similar_state, state_name

if TYPE_CHECKING:
    from cano.model.limits import Limit
    from cano.model.workflow import Workflow


def problems(flow: Workflow[Any]) -> list[str]:
    """Return every problem of the definition, one sentence each."""
    return [*_states(flow), *_tasks(flow), *_targets(flow), *_graph(flow), *_limits(flow), *_expected(flow)]


def _expected(flow: Workflow[Any]) -> Iterator[str]:
    tasks, exits = [*flow.tasks], {*map(state_name, flow.exit_states)}
    names = {*map(state_name, tasks)}
    for name in () if flow.expect is None else map(state_name, flow.expect.step_within):
        if name in exits:
            yield f"step_within names {name}, an exit state: a run that reaches it has ended"
        elif name not in names:
            yield f"step_within names {name}, which has no task and is not a state{similar_state(name, tasks)}"


def _states(flow: Workflow[Any]) -> Iterator[str]:
    tasks, exits = flow.tasks, flow.exit_states
    known = [*tasks, *(state for state in exits if state not in tasks)]
    if flow.start not in tasks and flow.start not in exits:
        yield f"the start state {flow.start} has no task{similar_state(flow.start, tasks)}"
    if not exits:
        yield "there is no exit state: a run could never end"
    for state in exits:
        if state in tasks:
            yield f"the exit state {state} has a task ({tasks[state].task.name}), which would never run"
    if isinstance(flow.start, enum.Enum):
        kind = type(flow.start)
        for state in known:
            if not isinstance(state, kind):
                yield f"the state {state!r} is not a member of {kind.__name__}"
    names = defaultdict(list)
    for state in known:
        names[state_name(state)].append(state)
    for name, states in names.items():
        if len(states) > 1:
            yield f"the states {', '.join(map(repr, states))} have the same name {name!r}"


def _tasks(flow: Workflow[Any]) -> Iterator[str]:
    for state, registration in flow.tasks.items():
        task = registration.task
        if isinstance(task, Node) and type(task).run is Node.run:
            for phase in ("prep", "exec", "post", "exec_fallback"):
                if not inspect.iscoroutinefunction(getattr(task, phase)):
                    yield f"the state {state}: {task.name}.{phase} must be `async def`"


def _targets(flow: Workflow[Any]) -> Iterator[str]:
    tasks = flow.tasks
    known = {*tasks, *flow.exit_states}
    unknown = "which has no task and is not an exit state"
    for old, new in (flow.migrate or {}).items():
        if new not in known:
            yield f"migrate maps the old state {old} to {new!r}, {unknown}{similar_state(new, known)}"
    for state, registration in tasks.items():
        for target in registration.targets or ():
            if target not in known:
                yield f"the state {state} declares the target {target!r}, {unknown}{similar_state(target, known)}"
        for config in (registration.config, registration.task.config):
            fallback = None if config is None else config.on_exhausted
            if fallback is not None and fallback not in known:
                yield f"the state {state} has on_exhausted={fallback!r}, {unknown}{similar_state(fallback, known)}"


def _graph(flow: Workflow[Any]) -> Iterator[str]:
    tasks = flow.tasks
    if any(registration.targets is None for registration in tasks.values()):
        return
    edges = {state: outgoing(flow, registration) for state, registration in tasks.items()}
    reached = _closure({flow.start}, edges)
    for state in [*tasks, *flow.exit_states]:
        if state not in reached:
            yield f"the state {state} is unreachable from {flow.start}"
    back: dict[Any, list[Any]] = defaultdict(list)
    for state, targets in edges.items():
        for target in targets:
            back[target].append(state)
    ending = _closure(set(flow.exit_states), back)
    for state in tasks:
        if flow.exit_states and state in reached and state not in ending:
            if not edges[state]:
                yield f"the state {state} declares no target"
            elif state in _closure({*edges[state]}, edges):  # others lead to such a state, or to one without a task
                yield f"the state {state} is in a loop with no way out to an exit state"


def _limits(flow: Workflow[Any]) -> Iterator[str]:
    """Yield the limits whose holders can wait for each other, as far as sub-workflows tell.

    A run lends its slots to the runs that it calls, so only different limits that are taken in different orders count.
    """
    waits: dict[Limit, dict[Limit, str]] = defaultdict(dict)
    _take_limits(flow, frozenset(), waits, set())
    circles = [
        f"{place} waits for {wanted} while the run, or one that called it, holds {held}"
        for held, others in waits.items()
        for wanted, place in others.items()
        if held in _closure({wanted}, waits)
    ]
    if circles:
        yield f"runs can wait for each other's limits for ever: {'; '.join(circles)}"


def _take_limits(
    flow: Workflow[Any], held: frozenset[Limit], waits: dict[Limit, dict[Limit, str]], seen: set[tuple[Any, ...]]
) -> None:
    """Note in `waits` which limits a run of `flow`, and the runs that it calls, wait for while they hold others."""
    if (flow, held) in seen:
        return
    seen.add((flow, held))
    held = _taken(flow.limits, held, f"workflow {flow.name!r}", waits)
    for state, registration in flow.tasks.items():
        inner = _taken(registration.limits, held, f"state {state} of workflow {flow.name!r}", waits)
        for task in (registration.task, *getattr(registration.task, "branches", ())):
            # a sub-workflow; a mock has every attribute
            if isinstance(task, Task) and task.plugin is not None and hasattr(task, "flow"):
                _take_limits(task.flow, inner, waits, seen)


def _taken(
    limits: Iterable[Limit], held: frozenset[Limit], place: str, waits: dict[Limit, dict[Limit, str]]
) -> frozenset[Limit]:
    for limit in limits:
        if limit not in held:
            for other in held:
                waits[other].setdefault(limit, place)
            held |= {limit}
    return held


def outgoing(flow: Workflow[Any], registration: Registration) -> list[Any]:
    """Return the states that a registration declares to lead to, `on_exhausted` included."""
    config = registration.config or registration.task.config or flow.default_config
    fallback = [] if config is None or config.on_exhausted is None else [config.on_exhausted]
    return list(dict.fromkeys([*(registration.targets or ()), *fallback]))


def _closure(seeds: set[Any], edges: Any) -> set[Any]:
    reached, todo = set(seeds), list(seeds)
    while todo:
        for target in edges.get(todo.pop(), ()):
            if target not in reached:
                reached.add(target)
                todo.append(target)
    return reached
