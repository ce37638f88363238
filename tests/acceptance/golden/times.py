"""The times of the writer's and the readers' clocks, which stand still: so the tests know every stored time."""

from __future__ import annotations

from datetime import UTC, datetime

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
YEAR = 365 * DAY

WRITTEN = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
"""Time of the first act. Each further act is one minute later, unless it has a time of its own."""

READ = datetime(2026, 1, 31, 0, 30, tzinfo=UTC).timestamp()
"""Time of most readers: every lease has expired."""

FAR = datetime(2100, 1, 1, tzinfo=UTC)
"""The latest time that a run sleeps until."""

AFTER_FAR = datetime(2101, 1, 1, tzinfo=UTC).timestamp()
AFTER_ALL = datetime(2200, 1, 1, tzinfo=UTC).timestamp()
"""A time after all deadlines, those of `100 * YEAR` too."""
