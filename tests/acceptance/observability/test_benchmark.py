"""The observability benchmark prints every line. Its figures are not checked."""

from __future__ import annotations

import structlog

from tests.benchmarks.observability import measured


async def test_every_line_is_measured() -> None:
    """Each library is compared with itself, and plugins that are off with no plugin."""
    try:
        lines = await measured(steps=9, rounds=1)
    finally:
        structlog.reset_defaults()

    assert [line.against for line in lines if line.goal is not None] == [
        "the step without",
        "the step without",
        "bare OpenTelemetry",
        "bare OpenTelemetry",
        "bare structlog",
        "bare structlog, nothing bound",
    ]
    assert len(lines) == 9
