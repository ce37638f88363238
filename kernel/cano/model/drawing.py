"""Diagrams of workflows: in Mermaid, and in SVG by a plugin."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cano.errors import ConfigurationError
from cano.model.validation import outgoing
from cano.model.workflow import state_name
from cano.safe_text import escaped

if TYPE_CHECKING:
    from cano.engine.run_view import RunView
    from cano.model.workflow import Workflow
    from cano.records import Transition


def edges(flow: Workflow[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield every declared transition as (from, to). Undeclared targets are not known; see `undeclared`."""
    for state, registration in flow.tasks.items():
        for target in outgoing(flow, registration):
            yield state, target


def undeclared(flow: Workflow[Any]) -> list[Any]:
    """Return the states whose tasks do not declare their targets."""
    return [state for state, registration in flow.tasks.items() if registration.targets is None]


def mermaid(flow: Workflow[Any]) -> str:
    """Return a Mermaid `stateDiagram-v2`. A task with undeclared targets gets a note."""
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


class Asks(Protocol):
    """A kernel, as far as drawing needs it."""

    def inactive(self, plugin: str) -> str | None:
        """Return why a plugin is not active."""

    def ask(self, hook: str, **arguments: Any) -> Any:
        """Return the first answer of a plugin to a hook."""


def svg(
    kernel: Asks, flow: Workflow[Any], run: RunView | None, history: Sequence[Transition], around: str | None
) -> str:
    """Return the SVG of a plugin. Raises ConfigurationError if there is none."""
    reason = kernel.inactive("drawing")
    drawn: str | None = kernel.ask("cano_draw", flow=flow, run=run, history=history, around=around)
    if drawn is None:
        raise ConfigurationError(f"no plugin draws workflows: 'drawing' is {reason}; mermaid() returns a text")
    return drawn


def mimebundle(kernel: Asks, flow: Workflow[Any]) -> dict[str, str]:
    """Return the representations of a workflow for a notebook, by their media types."""
    try:
        return {"image/svg+xml": svg(kernel, flow, None, (), None), "text/plain": repr(flow)}
    except ConfigurationError:
        return {"text/plain": flow.mermaid()}


def _escaped(text: str) -> str:
    for sign, entity in ("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " "):
        text = text.replace(sign, entity)
    return escaped(text)
