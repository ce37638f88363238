"""`cano events`: follow what happens to a run, in whatever process it executes."""

from __future__ import annotations

from typing import Any

import click
from cano import Kernel, RunEvent
from cano.safe_text import escaped

from cano_cli.completing import run_argument
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, follow_option, json_option, store_option
from cano_cli.stores import with_store
from cano_cli.times import clock, iso


@click.command()
@run_argument
@store_option
@follow_option
@click.option("--after", type=click.IntRange(min=0), metavar="POSITION", help="Show only the events after this one.")
@json_option
@click.pass_obj
def events(settings: Settings, *, run: str, store: str | None, follow: bool, after: int | None, as_json: bool) -> None:
    """Show what happened to a run: transitions, retries, progress, waits, lateness, and its end.

    --json prints one object for each event, on a line of its own.
    """

    async def action(kernel: Kernel) -> None:
        async for event in (await kernel.attach(run)).events(after, follow=follow):
            click.echo(dumps(_as_json(event)) if as_json else _line(event))

    with_store(settings, store, action)


def _line(event: RunEvent) -> str:
    told = f"{event.position:>6}  {clock(event.at)}  {event.kind:<10}  {event.state}"
    if event.kind == "retry":
        told += f", attempt {event.attempt} failed"
    elif event.progress is not None:
        done, total, message = event.progress
        told += f", {done:g}{'' if total is None else f' of {total:g}'}{'' if message is None else f' {message}'}"
    elif event.late is not None:
        told += f", {event.late}"
    elif event.kind == "end":
        told += f", {event.status.value}{'' if event.error is None else f': {event.error}'}"
    return escaped(told)


def _as_json(event: RunEvent) -> dict[str, Any]:
    found = event._asdict() | {"at": iso(event.at), "status": event.status.value}
    found["progress"] = None if event.progress is None else event.progress._asdict()
    found["wait"] = None if event.wait is None else event.wait._asdict()
    found["late"] = None if event.late is None else event.late._asdict() | {"status": event.late.status.value}
    return found
