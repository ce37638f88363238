"""Formatting of times and schedules."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import click
from cano.safe_text import escaped, safe_str

from cano_scheduler.info import FlowInfo
from cano_scheduler.tick import Tick

_DAY = timedelta(days=1)
_UNITS = ((86_400, "day", 171_000), (3_600, "hour", 3_570), (60, "minute", 59.5), (1, "second", 0.5))
"""Each unit in seconds, with the seconds from which on it is used: 47 hours say more than 2 days."""


def format_time(when: datetime | None, zone: tzinfo | None = UTC) -> str:
    """Format a time in a zone, by default UTC, with its offset; None is "-", and the zone None is the user's."""
    return (
        "-" if when is None else when.astimezone(zone).isoformat(" ", "milliseconds" if when.microsecond else "seconds")
    )


def next_lines(times: Iterable[datetime], zone: tzinfo | None) -> Iterator[str]:
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


def relative(when: datetime | None) -> str:
    """Format a time relative to now, such as "in 3 days"; None is "-"."""
    if when is None:
        return "-"
    away = (when - datetime.now(UTC)).total_seconds()
    count, unit = next(
        ((round(abs(away) / length), unit) for length, unit, least in _UNITS if abs(away) >= least), (0, "")
    )
    text = f"{count} {unit}" + "s" * (count != 1)
    return "now" if not count else f"in {text}" if away > 0 else f"{text} ago"


def timing(info: FlowInfo) -> str:
    """Return when a schedule is due, for people, with its time zone if it has one."""
    _, _, rest = info.definition.partition(" ")
    if info.kind == "cron":
        return info.definition.partition(" gap=")[0]
    if info.kind == "every":
        return f"every {timedelta(microseconds=int(rest.partition(' ')[0]))}"
    return f"on {rest}" if info.kind == "on" else info.kind


def table(infos: Iterable[FlowInfo]) -> str:
    """Format the schedules as a table."""
    rows = [("ID", "STATE", "RUNS", "FAILED", "SKIPPED", "LAST", "NEXT", "WHEN", "WORKFLOW")]
    for info in infos:
        counts = str(info.run_count), str(info.failures), str(info.skipped)
        id, times = shlex.quote(info.id), (relative(info.last), relative(info.next))
        rows.append((id, info.state, *counts, *times, timing(info), info.workflow))
    return _aligned(rows)


def ticks_table(ticks: Iterable[Tick]) -> str:
    """Format the outcomes of a schedule's times, events and triggers as a table, in the user's time zone."""
    rows = [("TIME", "KIND", "OUTCOME", "TIMES", "REASON", "RUN")]
    for tick in ticks:
        when, run_id = format_time(tick.nominal or tick.decided, None), tick.run_id
        run = "-" if run_id is None else shlex.quote(run_id)
        rows.append((when, tick.kind, tick.outcome, str(tick.times), tick.reason or "-", run))
    return _aligned(rows)


def info_as_json(info: FlowInfo) -> dict[str, Any]:
    """Return a schedule for programs."""
    return {name: _plain(value) for name, value in asdict(info).items()} | {"when": timing(info)}


def tick_as_json(tick: Tick) -> dict[str, Any]:
    """Return the outcome of a time, an event or a trigger for programs."""
    times = {"nominal": tick.nominal, "last": tick.last, "decided": tick.decided}
    rest = {name: value for name, value in tick._asdict().items() if not name.endswith("_us")}
    return {**rest, **{name: _plain(value) for name, value in times.items()}}


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned columns; or, on a terminal that is too narrow, each row as a block of lines."""
    headers, *cells = [[*map(shown, row)] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    if sys.stdout.isatty() and sum(widths) + 2 * len(widths) - 2 > shutil.get_terminal_size().columns:
        return "\n\n".join("\n".join(map("{}: {}".format, headers, row)) for row in cells)
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in [headers, *cells]]
    return "\n".join(lines)
