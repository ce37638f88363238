"""`cano top`: a live view of the runs that are late, failed, running, parked or queued."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from cano import Kernel, RunRecord, RunStatus, TransientStoreError, Wait

from cano_cli.completing import workflow_names
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import one_line
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.records import detail_of, record_as_json, status_of, with_own_waits
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


class Look(NamedTuple):
    """The unfinished and the failed runs of a store at one moment.

    Attributes:
        at: when it was, in seconds.
        runs: the runs by kind, each the newest first; at most `MOST` of each.
        more: the kinds of which there are more.
    """

    at: float
    runs: dict[str, list[RunRecord]]
    more: frozenset[str]


@click.command()
@store_option
@click.option("--workflow", metavar="NAME", shell_complete=workflow_names, help="Only runs of this workflow.")
@click.option(
    "--interval", type=duration, default="2s", show_default=True, metavar=METAVAR, help="Time between two looks."
)
@json_option
@click.pass_context
def top(ctx: click.Context, *, store: str | None, workflow: str | None, interval: float, as_json: bool) -> None:
    """Show live which runs are late, failed, running, parked or queued, until Ctrl-C.

    Late is a run that no process executes, or that is parked although its time has come. Of each kind the newest 100
    runs are read. With --json, or if the output is not a terminal, it is printed once. A run that takes longer than
    its workflow expects counts only if it is one of these; `cano show RUN` says so.
    """
    settings: Settings = ctx.obj
    live = sys.stdout.isatty() and not as_json

    async def action(kernel: Kernel) -> Look:
        if live:
            await _watch(kernel, workflow, interval)
        return await look(kernel, workflow)

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
    rows = [[*map(line, _cells(kind, run, found.at, wide=True))] for kind, run in _rows(found, MOST * len(KINDS))]
    for text in plain(rows or [["no such runs"]]):
        click.echo(text)


async def look(
    kernel: Kernel, workflow: str | None = None, waits: dict[tuple[str, int], Wait | None] | None = None
) -> Look:
    """Read the runs of each kind. `waits` has the waits that the last look has read, see `with_own_waits`."""
    statuses = RunStatus.INTERRUPTED, RunStatus.FAILED, RunStatus.RUNNING, RunStatus.PARKED, RunStatus.QUEUED
    found = [await kernel.runs(workflow=workflow, status=status, limit=MOST + 1) for status in statuses]
    now, waits = kernel.clock.time(), {} if waits is None else waits
    runs: dict[str, list[RunRecord]] = {kind: [] for kind in KINDS}
    for kind, records in zip(KINDS, found, strict=True):
        late = {record.run_id for record in records[:MOST] if _is_late(record, now)}
        for record in await with_own_waits(kernel, records[:MOST], waits):
            runs["late" if record.run_id in late else kind].append(record)
    for gone in waits.keys() - {(record.run_id, record.seq) for records in found for record in records}:
        del waits[gone]  # no longer shown
    return Look(now, runs, frozenset(kind for kind, each in zip(KINDS, found, strict=True) if len(each) > MOST))


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
        first, *others = _cells(kind, run, found.at, wide)
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


def _cells(kind: str, run: RunRecord, now: float, wide: bool) -> list[str]:
    where = [run.workflow, run.state] if wide else []
    return [kind, word(run.run_id), *where, relative(run.updated, now), detail_of(run, now)]


def _as_json(found: Look) -> dict[str, Any]:
    runs = {kind: [record_as_json(run, found.at) for run in found.runs[kind]] for kind in KINDS}
    return {"at": iso(found.at), "more": sorted(found.more), **runs}


async def _watch(kernel: Kernel, workflow: str | None, interval: float) -> None:
    """Draw a new look after each interval, until the process is interrupted. Wait for a store that does not answer."""
    from rich.console import Console
    from rich.live import Live

    waits: dict[tuple[str, int], Wait | None] = {}
    console, found = Console(), await look(kernel, workflow, waits)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        problem = ""
        while True:
            live.update(draw(found, console.width, console.height, problem), refresh=True)
            await asyncio.sleep(interval)
            try:
                found, problem = await look(kernel, workflow, waits), ""
            except TransientStoreError as error:
                problem = line(one_line(error))
