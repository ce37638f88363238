"""The events' names, and the level at which each is logged."""

from __future__ import annotations

EVENTS = {
    "cano.run.started": "info",
    "cano.run.parked": "info",
    "cano.run.finished": "info",
    "cano.run.failed": "error",
    "cano.step.started": "debug",
    "cano.step.retrying": "warning",
    "cano.step.finished": "debug",
    "cano.step.failed": "error",
    "cano.transition.committed": "debug",
}
"""Each event with its default level. `cano.run.failed` is a run's end in failure, `finished` any other end."""

LEVELS = ("debug", "info", "warning", "error", "critical", "off")
