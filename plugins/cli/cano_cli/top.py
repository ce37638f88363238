"""`cano top`: a live view of the runs that are late, failed, running, parked or queued."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from cano import (
    ConfigurationError,
    Kernel,
    LateRun,
    RunNotFoundError,
    RunRecord,
    RunStatus,
    SerializationError,
    TransientStoreError,
    Wait,
)

from cano_cli.completing import workflow_names
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError, one_line
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import detail_of, late_as_json, record_as_json, status_of
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.tables import plain
from cano_cli.times import clock, iso, relative

if TYPE_CHECKING:
    from rich.console import Group

LATE = 5.0
"""Seconds after its time from which a parked run counts as late."""
MOST = 100
"""The most runs that are read for each status: what a look costs does not depend on how many there are."""
COLOURS = {"late": "yellow", "failed": "red", "running": "cyan", "parked": "dim", "queued": "blue"}
KINDS = tuple(COLOURS)
WIDE = 80
"""The least width of a terminal in which workflow and state are shown, too."""
ALL = MOST * len(KINDS)
"""More rows than a look can have."""
Version = tuple[str, int, int, float]
"""A run, as long as it is unchanged: its id, `seq`, `token` and `updated`."""


class Known(NamedTuple):
    """Facts about a run that lists do not have.

    Attributes:
        wait: its real wait, if it is parked.
        late: that it was found to be late; see `RunView.late`.
    """

    wait: Wait | None
    late: tuple[LateRun, ...] = ()


class Look(NamedTuple):
    """The unfinished and the failed runs of a store at one moment.

    Attributes:
        at: when it was, in seconds.
        runs: the runs by kind, each the newest first; at most `MOST` of each status.
        more: the kinds of which there are more.
        late: that runs were found to be late, by run.
    """

    at: float
    runs: dict[str, list[RunRecord]]
    more: frozenset[str]
    late: dict[str, tuple[LateRun, ...]]


@click.command()
@store_option
@click.option("--workflow", metavar="NAME", shell_complete=workflow_names, help="Only runs of this workflow.")
@click.option("--where", metavar="FILTER", help="Only runs that match, as in `cano runs`, but no status.")
@click.option(
    "--interval", type=duration, default="2s", show_default=True, metavar=METAVAR, help="Time between two looks."
)
@json_option
@click.pass_context
def top(
    ctx: click.Context, *, store: str | None, workflow: str | None, where: str | None, interval: float, as_json: bool
) -> None:
    """Show live which runs are late, failed, running, parked or queued, until Ctrl-C.

    Late is a run that no process executes, that is parked although its time has come, or that takes longer than its
    workflow expects. Of each status the newest 100 runs are read, and of those that are shown, whether they take longer
    than expected. With --json, or if the output is not a terminal, all of them are printed once.

    Example: cano top --where "tenant = acme"
    """
    settings: Settings = ctx.obj
    live = sys.stdout.isatty() and not as_json

    async def action(kernel: Kernel) -> Look:
        if live:
            await _watch(kernel, workflow, where, interval)
        return await look(kernel, workflow, where)

    try:
        found = with_store(settings, store, action)
    except KeyboardInterrupt:
        if not live:
            raise
        return
    if as_json:
        click.echo(dumps(_as_json(found), indent=2))
        return
    click.echo(summary(found))
    rows = [[*map(line, _cells(kind, run, found, wide=True))] for kind, run in _rows(found, ALL)]
    for text in plain(rows or [["no such runs"]]):
        click.echo(text)


async def look(
    kernel: Kernel,
    workflow: str | None = None,
    where: str | None = None,
    rows: int = ALL,
    known: dict[Version, Known] | None = None,
) -> Look:
    """Read the runs of each kind.

    Args:
        kernel: the kernel on their store.
        workflow, where: the filter.
        rows: the number of runs that are shown. Of these the values are read that say whether they are late.
        known: what the last look has read; this one reads only what has changed, and drops what is no longer shown.
    """
    statuses = RunStatus.INTERRUPTED, RunStatus.FAILED, RunStatus.RUNNING, RunStatus.PARKED, RunStatus.QUEUED
    try:
        lists = [await kernel.runs(workflow=workflow, where=where, status=each, limit=MOST + 1) for each in statuses]
    except ConfigurationError as error:
        if error.key != "status":
            raise
        raise CliError("`cano top` shows runs by their status; leave the status out of --where") from error
    now, before = kernel.clock.time(), {} if known is None else dict(known)
    more = frozenset(kind for kind, records in zip(KINDS, lists, strict=True) if len(records) > MOST)
    found = Look(now, {kind: [] for kind in KINDS}, more, {})
    for kind, records in zip(KINDS, lists, strict=True):
        for record in records[:MOST]:
            found.runs["late" if _is_late(record, now) else kind].append(record)
    read: dict[Version, Known] = {}
    while unread := [each for each in _rows(found, rows) if each[0] != "failed" and _version(each[1]) not in read]:
        for kind, record in unread:  # each that is late leaves its row to another one
            version = _version(record)
            read[version] = facts = before.get(version) or await _read(kernel, record)
            runs = found.runs[kind]
            runs[runs.index(record)] = record = record._replace(wait=facts.wait)
            if facts.late:
                found.late[record.run_id] = facts.late
                if kind != "late":
                    runs.remove(record)
                    found.runs["late"].append(record)
    if known is not None:
        known.clear()
        known.update(read)
    return found


def _version(record: RunRecord) -> Version:
    return record.run_id, record.seq, record.token, record.updated


async def _read(kernel: Kernel, record: RunRecord) -> Known:
    """Read what lists do not have of a run. A listed wait ends earlier if the run will be late before."""
    try:
        view = await kernel.get(record.run_id)
    except (RunNotFoundError, SerializationError):  # it was deleted meanwhile, or is corrupt
        return Known(record.wait)
    return Known(view.wait if view.seq == record.seq else record.wait, view.late)


def _is_late(record: RunRecord, now: float) -> bool:
    until = None if record.wait is None else record.wait.until
    overdue = record.status is RunStatus.PARKED and until is not None and until + LATE < now
    return overdue or status_of(record, now) is RunStatus.INTERRUPTED


def summary(found: Look) -> str:
    """Return the number of runs of each kind in one line."""
    counts = (f"{len(found.runs[kind])}{'+' * (kind in found.more)} {kind}" for kind in KINDS)
    return f"{clock(found.at)[11:19]}  {', '.join(counts)}"


def draw(found: Look, width: int, height: int, problem: str = "") -> Group:
    """Draw as many runs as fit, each in one line; of each kind at least some, if there are any."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table, wide = Table(box=None, pad_edge=False, expand=True), width >= WIDE
    for name in ("", "run", *(("workflow", "state") if wide else ()), "since", "note"):
        most = width // 3 if name in ("run", "workflow", "state") else None
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=most, ratio=1 if name == "note" else None)
    rows = _rows(found, height - 4)
    for kind, run in rows:
        first, *others = _cells(kind, run, found, wide)
        table.add_row(Text(first, COLOURS[kind]), *map(Text, map(line, others)))
    end = problem or "Ctrl-C ends this; `cano show RUN` shows one whole"
    head, foot = Text(summary(found), "bold", no_wrap=True), Text(end, "red" if problem else "dim", no_wrap=True)
    return Group(head, Text(), table if rows else Text("no such runs"), foot)


def _rows(found: Look, most: int) -> list[tuple[str, RunRecord]]:
    """Return up to `most` runs, each with its kind. Kinds share the rows equally, and use what others leave."""
    taken, left = dict.fromkeys(KINDS, 0), max(1, most)
    while left > 0 and (open_kinds := [kind for kind in KINDS if taken[kind] < len(found.runs[kind])]):
        for kind in open_kinds[:left]:
            taken[kind] += 1
        left -= len(open_kinds)
    return [(kind, run) for kind in KINDS for run in found.runs[kind][: taken[kind]]]


def _cells(kind: str, run: RunRecord, found: Look, wide: bool) -> list[str]:
    where = [run.workflow, run.state] if wide else []
    note = "; ".join([*map(str, found.late.get(run.run_id, ())), detail_of(run, found.at)])
    return [kind, word(run.run_id), *where, relative(run.updated, found.at), note]


def _as_json(found: Look) -> dict[str, Any]:
    runs = {
        kind: [
            {**record_as_json(run, found.at), "late": late_as_json(found.late.get(run.run_id, ()))}
            for run in found.runs[kind]
        ]
        for kind in KINDS
    }
    return {"at": iso(found.at), "more": sorted(found.more), **runs}


async def _watch(kernel: Kernel, workflow: str | None, where: str | None, interval: float) -> None:
    """Draw a new look after each interval, until the process is interrupted. Wait for a store that does not answer."""
    from rich.console import Console
    from rich.live import Live

    known: dict[Version, Known] = {}
    console = Console()
    found = await look(kernel, workflow, where, console.height, known)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        problem = ""
        while True:
            live.update(draw(found, console.width, console.height, problem), refresh=True)
            await asyncio.sleep(interval)
            try:
                found, problem = await look(kernel, workflow, where, console.height, known), ""
            except TransientStoreError as error:
                problem = line(one_line(error))
