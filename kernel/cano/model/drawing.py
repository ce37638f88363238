"""A workflow as a picture in text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cano.model.validation import outgoing
from cano.model.workflow import state_name

if TYPE_CHECKING:
    from cano.model.workflow import Workflow


def edges(flow: Workflow[Any]) -> Iterator[tuple[Any, Any]]:
    """Every transition that the tasks declare, from and to; what a task does not declare is not known."""
    for state, registration in flow.tasks.items():
        for target in outgoing(flow, registration):
            yield state, target


def undeclared(flow: Workflow[Any]) -> list[Any]:
    """The states whose tasks do not say where they lead."""
    return [state for state, registration in flow.tasks.items() if registration.targets is None]


def mermaid(flow: Workflow[Any]) -> str:
    """A Mermaid `stateDiagram-v2`. A task with undeclared targets is noted, not guessed."""
    states = list(dict.fromkeys([flow.start, *flow.tasks, *flow.exit_states]))
    ids = {state: f"s{index}_{re.sub(r'[^A-Za-z0-9_]', '_', state_name(state))}" for index, state in enumerate(states)}
    lines = ["stateDiagram-v2"]
    for state in states:
        task = f"<br/>{_escaped(flow.tasks[state].task.name)}" if state in flow.tasks else ""
        lines.append(f'    state "{_escaped(state_name(state))}{task}" as {ids[state]}')
    lines.append(f"    [*] --> {ids[flow.start]}")
    lines += [f"    {ids[source]} --> {ids[target]}" for source, target in edges(flow) if target in ids]
    lines += [f"    {ids[state]} --> [*]" for state in flow.exit_states]
    lines += [f"    note right of {ids[state]} : any state may follow" for state in undeclared(flow)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    for sign, entity in ("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " "):
        text = text.replace(sign, entity)
    return text
