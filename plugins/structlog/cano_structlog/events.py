"""The names of the events and their default levels."""

from __future__ import annotations

EVENTS = {
    "cano.run.started": "info",
    "cano.run.parked": "info",
    "cano.run.late": "warning",
    "cano.run.finished": "info",
    "cano.run.failed": "error",
    "cano.step.started": "debug",
    "cano.step.retrying": "warning",
    "cano.step.finished": "debug",
    "cano.step.failed": "error",
    "cano.step.cancelled": "info",
    "cano.transition.committed": "debug",
}
"""Each event with its default level.

A failed run ends with `cano.run.failed`, any other with `cano.run.finished`. A step that is cancelled, as the loser of
a race is, ends with `cano.step.cancelled` in place of `cano.step.failed`.
"""

FAILURES = {"cano.run.late", "cano.run.failed", "cano.step.retrying", "cano.step.failed"}
"""The events that something has gone wrong for."""

LEVELS = ("debug", "info", "warning", "error", "critical", "off")
