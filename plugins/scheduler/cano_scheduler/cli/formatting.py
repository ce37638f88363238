"""Formatting of times and schedules."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

import click
from cano.safe_text import escaped, safe_str

from cano_scheduler.info import FlowInfo

_DAY = timedelta(days=1)


def format_time(when: datetime | None, zone: tzinfo = UTC) -> str:
    """Format a time in a zone, with its offset; None is "-"."""
    return (
        "-" if when is None else when.astimezone(zone).isoformat(" ", "milliseconds" if when.microsecond else "seconds")
    )


def next_lines(times: Iterable[datetime], zone: tzinfo) -> Iterator[str]:
    """Yield a line for each time, with a note on days of a daylight saving change."""
    for when in times:
        local = when.astimezone(zone)
        line = f"{local:%a} {format_time(when, zone)}"
        if (change := _change_on(local)) is not None:
            line += f"  DST: the clocks go {'forward' if change > timedelta() else 'back'} {abs(change)} on this day"
        yield line


def _change_on(local: datetime) -> timedelta | None:
    """Return the change of the offset on a local day, or None."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    before, after = midnight.utcoffset(), (midnight + _DAY).utcoffset()
    return None if before is None or after is None or before == after else after - before


def shown(value: object) -> str:
    """Return `value` as one line in which a terminal interprets nothing, except with `cano --raw`."""
    context = click.get_current_context(silent=True)
    text = safe_str(value)
    return text if context is not None and getattr(context.find_root().obj, "raw", False) else escaped(text)


def table(infos: Iterable[FlowInfo]) -> str:
    """Format the schedules as a table."""
    rows = [("ID", "KIND", "STATE", "RUNS", "FAILED", "SKIPPED", "LAST", "NEXT", "WORKFLOW")]
    for info in infos:
        counts = str(info.run_count), str(info.failures), str(info.skipped)
        id, times = shlex.quote(info.id), (format_time(info.last), format_time(info.next))
        rows.append((id, info.kind, info.state, *counts, *times, info.workflow))
    cells = [[*map(shown, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )
