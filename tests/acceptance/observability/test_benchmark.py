"""The benchmark of observability prints every line. What it measures is not looked at."""

from __future__ import annotations

import structlog

from tests.benchmarks.observability import measured


async def test_every_line_is_measured() -> None:
    """Each library is compared with itself, and the plugin that has nobody to tell with no plugin."""
    try:
        lines = await measured(steps=9, rounds=1)
    finally:
        structlog.reset_defaults()

    assert [line.against for line in lines if line.goal is not None] == [
        "the step without",
        "bare OpenTelemetry",
        "bare OpenTelemetry",
        "bare structlog",
    ]
    assert len(lines) == 7
