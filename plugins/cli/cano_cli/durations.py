"""Durations as options: a number of seconds, or numbers with units."""

from __future__ import annotations

from contextlib import suppress

import click
from cano import ConfigurationError
from cano.options import duration as checked

METAVAR = "DURATION"


def duration(value: str) -> float:
    """Return the value of an option in seconds, if it is positive: `90`, `90s`, `1.5h`, `2h30m` or `7d`."""
    with suppress(ConfigurationError):
        return checked("it", value)
    raise click.BadParameter(f"{value!r} is not a positive number of seconds, or a duration such as 15m, 2h30m or 7d")
