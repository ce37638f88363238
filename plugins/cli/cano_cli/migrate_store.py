"""`cano migrate-store`: copy the runs of one store into another."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click
from cano import CodecLayer, Kernel, StoreBackend

from cano_cli.contents import Missing, Place
from cano_cli.copying import Kind
from cano_cli.errors import FAILED, CliError, refused
from cano_cli.jsonable import dumps
from cano_cli.migration import Tally, are_one, migrate
from cano_cli.progress import live_view
from cano_cli.records import counted
from cano_cli.settings import SHORT_LEASE, Settings, json_option
from cano_cli.stores import WRONG_QUESTIONS, check_there, is_there, name_of
from cano_cli.tables import show

if TYPE_CHECKING:
    from rich.console import RenderableType


@click.command("migrate-store")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("--workflow", metavar="NAME", help="Only the runs of this workflow, and those that they have started.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and make nothing.")
@click.option(
    "--lease", type=click.FloatRange(min=0, min_open=True), default=SHORT_LEASE, show_default=True, metavar="SECONDS",
    help="After how long a silence another migration to DST is taken for dead.",
)  # fmt: skip
@json_option
@click.pass_context
def migrate_store(
    ctx: click.Context,
    *,
    source: str,
    target: str,
    workflow: str | None,
    dry_run: bool,
    lease: float,
    as_json: bool,
) -> None:
    """Copy every run of the store SRC into the store DST, and compare what has arrived.

    A run is copied whole: its data, its history, the signals that wait for it, and the ids of those it has consumed.
    Values are not decoded; where the URLs name other layers (codec=) they are taken off and put on. SRC is not changed.

    It can be killed at any time, and done again: what is there already is compared and left, what has changed in SRC
    since is added. Until a copy is whole nobody can drive it; half a copy of a run that SRC has no longer is removed. A
    run that somebody drives in SRC is not copied; stop the workers of SRC, and do it again. What DST has under the same
    id with other content is never overwritten.

    The exit code is 1 where a run was not copied: because it is driven, damaged, or refused.

    Example: cano migrate-store sqlite:///runs.db postgresql:///runs
    """
    settings: Settings = ctx.obj
    if source == target:
        raise CliError(f"SRC and DST are the same store: {name_of(source)}")
    kernel, tally, notes = settings.kernel(), Tally(), list[str]()
    check_there(kernel, source)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            backends: list[StoreBackend] = []
            layers: list[CodecLayer | None] = []
            kinds: list[type[Place]] = []
            for role, url in (("SRC", source), ("DST", target)):
                backend, around = _store(kernel, role, url)
                backends.append(backend)
                layers.append(around)
                kinds.append(Missing if dry_run and not await is_there(backend) else Place)
                if kinds[-1] is Place:
                    await backend.open()
                    stack.push_async_callback(backend.close)
            if not dry_run and await are_one(*backends):
                raise CliError(f"SRC and DST are the same store: {name_of(source)} and {name_of(target)}")
            notes.extend(_without_history(backends))
            if _codec(source) == _codec(target):
                layers = [None, None]  # what the one has written the other can read
            here, there = (
                kind(backend, around, history=not notes)
                for kind, backend, around in zip(kinds, backends, layers, strict=True)
            )
            await migrate(here, there, kernel.clock, tally, workflow=workflow, silence=lease, dry=dry_run)

    with live_view(lambda: _line(tally), wanted=True) as view:
        view.keep(False)
        try:
            asyncio.run(work())
        except WRONG_QUESTIONS as error:
            raise refused(error) from error
    _tell(tally, notes, dry_run=dry_run, as_json=as_json)
    if tally.problems:
        ctx.exit(FAILED)


def _store(kernel: Kernel, role: str, url: str) -> tuple[StoreBackend, CodecLayer]:
    """The store at `url`, not yet opened, and its layers. Raises CliError where it does not keep bytes."""
    backend, layers = kernel.store_at(url)
    if backend is None or not backend.capabilities.encoded:
        raise CliError(f"{role} {name_of(url)} keeps objects in memory, not bytes: its runs cannot be copied, nor "
                       "survive this command; name a durable store, such as sqlite:///runs.db")  # fmt: skip
    return backend, layers


def _codec(url: str) -> list[str]:
    """The layers that `url` names."""
    return [option for option in url.partition("?")[2].split("&") if option.startswith("codec=")]


def _without_history(backends: list[StoreBackend]) -> list[str]:
    roles = [role for role, backend in zip(("SRC", "DST"), backends, strict=True) if not backend.capabilities.history]
    if not roles:
        return []
    stores = " and ".join(roles)
    return [f"{stores} {'keep' if len(roles) > 1 else 'keeps'} no history: of each run its present state is copied"]


def _line(tally: Tally) -> RenderableType:
    """How far it is."""
    from rich.text import Text

    return Text(f"{tally.done:,} of {counted(tally.total, 'run')}  {tally.transitions:,} transitions  {tally.present}")


def _tell(tally: Tally, notes: list[str], *, dry_run: bool, as_json: bool) -> None:
    """Print what became of the runs."""
    for note in notes:
        click.echo(f"Note: {note}", err=True)
    if as_json:
        click.echo(dumps(_as_json(tally, notes, dry_run), indent=2))
    else:
        if tally.problems:
            show(["what", "run", "detail"], [[each.kind.value, each.run_id, " ".join(each.detail.split())]
                                             for each in tally.problems])  # fmt: skip
        click.echo(summary(tally, dry_run=dry_run))
    if tally.counts[Kind.HELD]:
        click.echo("Stop the workers of SRC, then do this again: what is copied is not copied again", err=True)


def summary(tally: Tally, *, dry_run: bool) -> str:
    """All that was done, in one line."""
    count = tally.counts
    transitions = f"{tally.transitions:,} transition" + ("" if tally.transitions == 1 else "s")
    copied = f"{count[Kind.COPIED]:,} run" + ("" if count[Kind.COPIED] == 1 else "s")
    parts = [f"{'would copy' if dry_run else 'copied'} {copied} ({transitions})"]
    if count[Kind.UPDATED]:
        parts.append(f"{count[Kind.UPDATED]:,} brought up to date")
    if tally.signals:
        parts.append(f"{counted(tally.signals, 'signal')} for runs to come")
    if removed := count[Kind.REMOVED]:
        parts.append(f"{removed:,} half {'copy' if removed == 1 else 'copies'} removed")
    rest = (Kind.UP_TO_DATE, Kind.HELD, Kind.DAMAGED, Kind.REFUSED, Kind.DIFFERENT)
    parts += [f"{count[kind]:,} {kind.value}" for kind in rest if count[kind]]
    return ", ".join(parts)


def _as_json(tally: Tally, notes: list[str], dry_run: bool) -> dict[str, Any]:
    count = tally.counts
    return {
        "dry_run": dry_run,
        "copied": count[Kind.COPIED],
        "updated": count[Kind.UPDATED],
        "up_to_date": count[Kind.UP_TO_DATE],
        "removed": count[Kind.REMOVED],
        "transitions": tally.transitions,
        "signals": tally.signals,
        "held": _listed(tally, Kind.HELD),
        "damaged": _listed(tally, Kind.DAMAGED),
        "refused": _listed(tally, Kind.REFUSED),
        "different": _listed(tally, Kind.DIFFERENT),
        "notes": notes,
    }


def _listed(tally: Tally, kind: Kind) -> list[dict[str, str]]:
    return [{"run_id": each.run_id, "detail": each.detail} for each in tally.problems if each.kind is kind]
