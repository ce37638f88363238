"""The plugin: its entry point leads here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cano import hookimpl

if TYPE_CHECKING:
    from cano import RunView, Transition, Workflow

CANO_API_VERSION = 2


@hookimpl
def cano_draw(flow: Workflow[Any], run: RunView | None, history: Sequence[Transition], around: str | None) -> str:
    """Return the SVG of a workflow, with a run drawn over it."""
    from cano_drawing.machine import machine_of
    from cano_drawing.picture import picture_of
    from cano_drawing.trace import trace_of

    return picture_of(machine_of(flow), None if run is None else trace_of(run, history), around)
