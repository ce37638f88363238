"""`cano import`: store a run that `cano export` has written into a file."""

from __future__ import annotations

import sys
from contextlib import nullcontext

import click
from cano import Kernel, RunRecord

from cano_cli.errors import CliError
from cano_cli.hints import MODULE_FLOW, command, word
from cano_cli.jsonable import dumps
from cano_cli.records import record_as_json
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, files, json_option, store_option
from cano_cli.stores import backend_of, record_of, with_store


@click.command("import")
@click.argument("file", shell_complete=files)
@click.option("--id", "new_run", metavar="ID", help="ID of the run here. [default: the one that it had]")
@store_option
@json_option
@click.pass_context
def import_(ctx: click.Context, *, file: str, new_run: str | None, store: str | None, as_json: bool) -> None:
    """Store a run that `cano export` has written into FILE; - for stdin. A missing store is created.

    No worker executes a run that had not ended: it may still be executed where it comes from. `cano resume` continues
    it here, and `cano fork` makes a run of one of its steps. The same FILE again does nothing. A file that is corrupt,
    or from an encrypted store with other keys, is refused, and nothing of it is stored.

    Example: cano import order-17.cano --store sqlite:///home.db
    """
    settings: Settings = ctx.obj

    async def action(kernel: Kernel) -> tuple[RunRecord, bool, float]:
        began = kernel.clock.time()
        try:
            with nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as source:  # noqa: ASYNC230
                run_id = await kernel.import_run(source, new_run)
        except OSError as error:
            raise CliError(f"the file {word(file)} cannot be read: {error.strerror}") from error
        return await record_of(kernel, run_id), await _was_there(kernel, run_id, began), kernel.clock.time()

    record, was_there, now = with_store(settings, store, action, new=True)
    if as_json:
        click.echo(dumps(record_as_json(record, now), indent=2))
        return
    place = f"{record.status.value} in state {line(record.state)} after step {record.seq}"
    click.echo(f"run {word(record.run_id)} {'had been imported before, and is' if was_there else 'imported,'} {place}")
    if not record.status.finished:
        click.echo(f"to continue it here: {command(ctx, 'resume', MODULE_FLOW, record.run_id)}")
        fork = command(ctx, "fork", record.run_id, str(record.seq), f"{record.run_id}-2")
        click.echo(f"to make another run of it: {fork}")


async def _was_there(kernel: Kernel, run_id: str, began: float) -> bool:
    """Return whether the run was imported before `began`, as the store's audit says, if it keeps one."""
    if not backend_of(kernel).capabilities.audit:
        return False
    entries = await kernel.audit(run_id)
    return not any(entry.action == "import" and entry.at >= began for entry in entries)
