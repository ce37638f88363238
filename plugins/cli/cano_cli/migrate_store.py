"""`cano migrate-store`: copy the runs of one store into another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import click
from cano import Codec, CodecLayer, Kernel, StoreBackend

from cano_cli.completing import workflow_names
from cano_cli.contents import LayeredStore, MissingStore
from cano_cli.copied_attributes import Reader, no_attributes, reader
from cano_cli.copied_audit import Importer
from cano_cli.copying import Kind
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import FAILED, CliError, usage_error
from cano_cli.hints import display_name, word
from cano_cli.jsonable import dumps
from cano_cli.migration import Tally, migrate, same_store
from cano_cli.progress import live_view
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import SHORT_LEASE, Settings, json_option
from cano_cli.stores import USAGE_ERRORS, check_exists, store_exists
from cano_cli.tables import show

if TYPE_CHECKING:
    from rich.console import RenderableType

MARK = "cano.store"
"""Id and workflow of the record by which an encrypted store is recognised; cano-durability writes it."""


@click.command("migrate-store")
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option(
    "--workflow",
    metavar="NAME",
    shell_complete=workflow_names,
    help="Only runs of this workflow and their sub-workflows.",
)
@click.option("--dry-run", is_flag=True, help="Report what would be done; write nothing.")
@click.option(
    "--from-namespace",
    metavar="NAME",
    help="The part of SRC that is copied; '' is SRC itself. [default: that of cano --namespace]",
)
@click.option(
    "--to-namespace", metavar="NAME",
    help="The part of DST that gets the runs; '' is DST itself. [default: that of cano --namespace]",
)  # fmt: skip
@click.option(
    "--lease", type=duration, default=f"{SHORT_LEASE:g}s", show_default=True, metavar=METAVAR,
    help="Time of inactivity after which another copy to DST counts as dead.",
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
    from_namespace: str | None,
    to_namespace: str | None,
    lease: float,
    as_json: bool,
) -> None:
    """Copy all runs from the store SRC to the store DST, and compare each copy with its source.

    A run is copied with its data, its history, its waiting signals and the ids of its consumed signals. Values are
    copied as bytes, without decoding. If the layers (codec=) of the URLs differ, SRC's are removed and DST's applied.
    SRC's audit is copied, and DST's also says who imported each run. SRC is not changed. If SRC has discarded old
    history of a run, its present state is copied.

    The command can be killed and repeated at any time. It skips complete copies and adds later changes of SRC. Workers
    of DST do not execute an incomplete copy; if SRC no longer has its run, it is removed. A run that is held in SRC is
    not copied: stop the workers of SRC and repeat the command. A different run with the same id in DST is never
    overwritten.

    The exit code is 1 if a run was not copied because it is held, corrupt, refused or different.

    Example: cano migrate-store sqlite:///runs.db postgresql:///runs
    """
    settings: Settings = ctx.obj
    try:
        kernel, to_kernel = (
            settings.kernel(namespace=settings.namespace if name is None else name or None)
            for name in (from_namespace, to_namespace)
        )
    except USAGE_ERRORS as error:
        raise usage_error(error) from error
    name, to_name = display_name(source, kernel.namespace), display_name(target, to_kernel.namespace)
    if name == to_name and source == target:
        raise CliError(f"SRC and DST are the same store: {name}")
    tally, notes = Tally(), list[str]()
    check_exists(kernel, source)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            backends: list[StoreBackend] = []
            layers: list[CodecLayer | None] = []
            kinds: list[type[LayeredStore]] = []
            for role, url, each in (("SRC", source, kernel), ("DST", target, to_kernel)):
                backend, layer = _store(each, role, url)
                backends.append(backend)
                layers.append(layer)
                kinds.append(MissingStore if dry_run and not await store_exists(backend) else LayeredStore)
                if kinds[-1] is LayeredStore:
                    await backend.open()
                    stack.push_async_callback(backend.close)
                    await _check_encrypted(role, url, backend, layer)
            if not dry_run and await same_store(*backends):
                raise CliError(f"SRC and DST are the same store: {name} and {to_name}")
            notes.extend(_without_history(backends))
            attributes = _attributes(kernel, backends, layers)
            if _codec(source) == _codec(target) and kernel.namespace == to_kernel.namespace:
                attributes = _attributes(kernel, backends, layers, wrapped=True)
                layers = [None, None]  # both stores use the same bytes
            copy_from, copy_to = (
                kind(backend, layer, history=not notes)
                for kind, backend, layer in zip(kinds, backends, layers, strict=True)
            )
            await migrate(
                copy_from, copy_to, kernel.clock, tally, workflow=workflow, dead_after=lease,
                importer=Importer(backends[1], kernel.actor, name), attributes=attributes, dry=dry_run,
            )  # fmt: skip

    with live_view(lambda: _progress(tally), wanted=True) as view:
        view.keep_on_screen(False)
        try:
            asyncio.run(work())
        except USAGE_ERRORS as error:
            raise usage_error(error) from error
    if tally.cut:
        runs, whose = counted(tally.cut, "run"), "its" if tally.cut == 1 else "their"
        notes.append(f"SRC has discarded old history of {runs}, so only {whose} present state is copied")
    _print_summary(tally, notes, dry_run=dry_run, as_json=as_json)
    if tally.problems:
        ctx.exit(FAILED)


def _store(kernel: Kernel, role: str, url: str) -> tuple[StoreBackend, CodecLayer]:
    """Return the store at `url`, not yet opened, and its layers. Raises CliError if it is an in-memory store."""
    backend, layers = kernel.store_at(url)
    if backend is None or not backend.capabilities.encoded:
        raise CliError(f"{role} {display_name(url)} keeps objects in memory, so its runs can be neither copied nor "
                       "kept after this command; name a durable store, such as sqlite:///runs.db")  # fmt: skip
    return backend, layers


async def _check_encrypted(role: str, url: str, backend: StoreBackend, layers: CodecLayer) -> None:
    """Raise CliError if the store is encrypted, and its URL does not say so."""
    binds = getattr(layers, "bound", None) is not None
    mark = None if binds else await backend.load(MARK)
    if mark is not None and mark.workflow == MARK:
        name = display_name(url)
        raise CliError(f"{role} {name} is encrypted, and its URL does not say how; add codec={mark.fingerprint}")


def _attributes(
    kernel: Kernel, backends: Sequence[StoreBackend], layers: Sequence[CodecLayer | None], *, wrapped: bool = False
) -> Reader:
    """Return what reads the search attributes of runs, if DST finds runs by them.

    If DST is encrypted, and SRC is not, no workflow has allowed that they are in clear there.
    """
    codec: Codec | None = kernel.ask("cano_codec")
    first, last = (getattr(layer, "bound", None) is not None for layer in layers)
    unwrap = layers[0].unwrap if wrapped and layers[0] is not None else None
    if codec is None or not backends[1].capabilities.attributes or (last and not first):
        return no_attributes
    return reader(codec, unwrap)


def _codec(url: str) -> list[str]:
    """Return the layers that `url` names."""
    return [option for option in url.partition("?")[2].split("&") if option.startswith("codec=")]


def _without_history(backends: list[StoreBackend]) -> list[str]:
    roles = [role for role, backend in zip(("SRC", "DST"), backends, strict=True) if not backend.capabilities.history]
    if not roles:
        return []
    verb = "keep" if len(roles) > 1 else "keeps"
    return [f"{' and '.join(roles)} {verb} no history, so only the present state of each run is copied"]


def _progress(tally: Tally) -> RenderableType:
    """Draw the progress."""
    from rich.text import Text

    counts = f"{tally.done:,} of {counted(tally.total, 'run')}  {tally.transitions:,} transitions"
    return Text(f"{counts}  {line(tally.current)}")


def _print_summary(tally: Tally, notes: list[str], *, dry_run: bool, as_json: bool) -> None:
    """Print the results of the migration."""
    for note in notes:
        click.echo(f"Note: {line(note)}", err=True)
    if as_json:
        click.echo(dumps(_as_json(tally, notes, dry_run), indent=2))
    else:
        if tally.problems:
            show(["result", "run", "detail"], [[each.kind.value, word(each.run_id), " ".join(each.detail.split())]
                                               for each in tally.problems])  # fmt: skip
        click.echo(summary(tally, dry_run=dry_run))
    if tally.counts[Kind.HELD]:
        click.echo("Stop the workers of SRC and repeat the command; runs already copied are skipped", err=True)


def summary(tally: Tally, *, dry_run: bool) -> str:
    """Return the results in one line."""
    count = tally.counts
    transitions = f"{tally.transitions:,} transition" + ("" if tally.transitions == 1 else "s")
    copied = f"{count[Kind.COPIED]:,} run" + ("" if count[Kind.COPIED] == 1 else "s")
    parts = [f"{'would copy' if dry_run else 'copied'} {copied} ({transitions})"]
    if count[Kind.UPDATED]:
        parts.append(f"{count[Kind.UPDATED]:,} updated")
    if tally.signals:
        parts.append(f"{counted(tally.signals, 'signal')} for runs that do not exist yet")
    if removed := count[Kind.REMOVED]:
        parts.append(f"{removed:,} incomplete {'copy' if removed == 1 else 'copies'} removed")
    rest = (Kind.UP_TO_DATE, Kind.HELD, Kind.CORRUPT, Kind.REFUSED, Kind.DIFFERENT)
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
        "corrupt": _listed(tally, Kind.CORRUPT),
        "refused": _listed(tally, Kind.REFUSED),
        "different": _listed(tally, Kind.DIFFERENT),
        "notes": notes,
    }


def _listed(tally: Tally, kind: Kind) -> list[dict[str, str]]:
    return [{"run_id": each.run_id, "detail": each.detail} for each in tally.problems if each.kind is kind]
