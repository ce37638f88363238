"""`cano limits`: show the limits that hold for all processes of a store, and the runs that hold their slots."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import click
from cano import HeldSlot, Kernel, SlotStore

from cano_cli.errors import CliError
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, json_option, store_option
from cano_cli.stores import backend_of, with_store
from cano_cli.tables import show
from cano_cli.times import clock, iso


@click.command()
@store_option
@json_option
@click.pass_context
def limits(ctx: click.Context, *, store: str | None, as_json: bool) -> None:
    """Show the limits that hold for all processes, with the runs that hold their slots or wait for one.

    A limit is listed while a run uses it. Of the runs that wait in one process, the first is listed. A rate has no
    slots, so only runs that wait are listed.
    """
    settings: Settings = ctx.obj

    async def action(kernel: Kernel) -> list[HeldSlot]:
        backend = backend_of(kernel)
        if not isinstance(backend, SlotStore):
            raise CliError("this store has no slots of limits: it lacks the capability 'slots', see `cano plugins`")
        return list(await backend.slots())

    slots = with_store(settings, store, action)
    if as_json:
        groups = [(name, list(group)) for name, group in groupby(slots, lambda slot: slot.name)]
        click.echo(dumps([_as_json(name, group) for name, group in groups], indent=2))
    elif not slots:
        click.echo("no limits are in use")
    else:
        rows = [
            [slot.name, str(slot.size), word(slot.run_id), "waits" if slot.waits else "holds", clock(slot.since)]
            for slot in slots
        ]
        show(["limit", "size", "run", "does", "since"], rows)


def _as_json(name: str, slots: list[HeldSlot]) -> dict[str, Any]:
    return {
        "limit": name,
        "size": slots[0].size,
        "holders": [_run(slot) for slot in slots if not slot.waits],
        "waiting": [_run(slot) for slot in slots if slot.waits],
    }


def _run(slot: HeldSlot) -> dict[str, Any]:
    return {"run_id": slot.run_id, "since": iso(slot.since)}
