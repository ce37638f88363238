"""`cano offload-sweep`: what nobody refers to any more."""

from __future__ import annotations

import asyncio
from typing import Any


def add_sweep(app: Any) -> None:
    """Add the command.

    Args:
        app: the `click.Group` of the command.
    """
    import click

    @app.command("offload-sweep")  # type: ignore[untyped-decorator]  # of an app that may be any
    @click.option(
        "--store", "stores", multiple=True, required=True, envvar="CANO_STORE", show_envvar=True, metavar="URL",
        help="A store that offloads to the folder, with its codec=. Name each that does.",
    )  # fmt: skip
    @click.option("--delete", is_flag=True, help="Remove them.")
    @click.option("--even-all", is_flag=True, help="Also where one of the stores refers to no file at all.")
    @click.pass_context
    def offload_sweep(ctx: click.Context, stores: tuple[str, ...], delete: bool, even_all: bool) -> None:
        """List the files of offloaded values that no run refers to, nor did within the last hour.

        Looks at all runs, their history, and the signals that wait. Exit code 1 where a file is missing.
        """
        from cano_offload.sweep import sweep

        swept = asyncio.run(sweep(ctx.obj.kernel(), stores, delete=delete, even_all=even_all))
        for file in swept.removed if delete else swept.unreferenced:
            click.echo(f"{file.size:>12}  {file.path}")
        done = f"{len(swept.removed)} removed" if delete else f"{len(swept.unreferenced)} to remove, with --delete"
        click.echo(f"{swept.folder.path}: {swept.referenced} referred to, {swept.young} young, {done}")
        for digest in swept.missing:
            click.echo(f"missing: {swept.folder.file(digest)}", err=True)
        if swept.missing:
            ctx.exit(1)
