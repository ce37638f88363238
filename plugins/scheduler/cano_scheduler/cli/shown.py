"""How times and schedules are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo

from cano_scheduler.info import FlowInfo

_DAY = timedelta(days=1)


def time_shown(when: datetime | None, zone: tzinfo = UTC) -> str:
    """A time in a zone, with its offset; a dash for none."""
    return (
        "-" if when is None else when.astimezone(zone).isoformat(" ", "milliseconds" if when.microsecond else "seconds")
    )


def next_shown(times: Iterable[datetime], zone: tzinfo) -> Iterator[str]:
    """A line for each time; on days on which the clocks are changed it says so."""
    for when in times:
        local = when.astimezone(zone)
        line = f"{local:%a} {time_shown(when, zone)}"
        if (change := _change_on(local)) is not None:
            line += f"  DST: the clocks go {'forward' if change > timedelta() else 'back'} {abs(change)} on this day"
        yield line


def _change_on(local: datetime) -> timedelta | None:
    """By how much the clocks are changed on a local day, or None."""
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    before, after = midnight.utcoffset(), (midnight + _DAY).utcoffset()
    return None if before is None or after is None or before == after else after - before


def table(infos: Iterable[FlowInfo]) -> str:
    """The schedules, one below the other."""
    rows = [("ID", "KIND", "STATE", "RUNS", "FAILED", "SKIPPED", "LAST", "NEXT", "WORKFLOW")]
    for info in infos:
        counts = str(info.run_count), str(info.failures), str(info.skipped)
        rows.append(
            (info.id, info.kind, info.state, *counts, time_shown(info.last), time_shown(info.next), info.workflow)
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
