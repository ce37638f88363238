"""Pictures of workflows, as SVG: `flow.svg()`, `cano graph -o picture.svg`, and in notebooks."""

from typing import TYPE_CHECKING

from cano.lazy_names import lazy_names

__all__ = ["Arrow", "Machine", "State", "Trace", "Visits", "machine_of", "picture_of", "trace_of"]

if TYPE_CHECKING:
    from cano_drawing.machine import Arrow, Machine, State, machine_of
    from cano_drawing.picture import picture_of
    from cano_drawing.trace import Trace, Visits, trace_of
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "machine": "Arrow Machine State machine_of",
            "picture": "picture_of",
            "trace": "Trace Visits trace_of",
        },
    )
