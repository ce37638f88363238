"""`cano offload-sweep`: lists or removes unreferenced files."""

from __future__ import annotations

from typing import Any


def add_sweep(app: Any) -> None:
    """Add the command `offload-sweep`.

    Args:
        app: the `click.Group` of the `cano` command.
    """
    import click

    @app.command("offload-sweep")  # type: ignore[untyped-decorator]  # of an app that may be any
    @click.option(
        "--store", "stores", multiple=True, required=True, envvar="CANO_STORE", show_envvar=True, metavar="URL",
        help="URL, with codec=, of a store that offloads to the folder. Give every such store.",
    )  # fmt: skip
    @click.option("--delete", is_flag=True, help="Remove the files.")
    @click.option("--even-all", is_flag=True, help="Remove files even if a store refers to none at all.")
    @click.option("--json", "as_json", is_flag=True, help="Print JSON.")
    @click.pass_context
    def offload_sweep(ctx: click.Context, stores: tuple[str, ...], delete: bool, even_all: bool, as_json: bool) -> None:
        """List offloaded files that no store refers to.

        Files written or reused within the last hour are always kept. The command reads all runs, their history,
        streams and waiting signals. The exit code is 1 if a referenced file is missing.
        """
        import asyncio
        import json

        from cano_offload.sweep import sweep

        swept = asyncio.run(sweep(ctx.obj.kernel(), stores, delete=delete, even_all=even_all))
        if as_json:
            answer = {
                "folder": str(swept.folder.path), "referenced": swept.referenced, "recent": swept.recent,
                "unreferenced": [{"path": str(file.path), "bytes": file.size} for file in swept.unreferenced],
                "removed": [str(file.path) for file in swept.removed],
                "missing": [str(swept.folder.file(digest)) for digest in swept.missing],
            }  # fmt: skip
            click.echo(json.dumps(answer, indent=2))
            ctx.exit(1 if swept.missing else 0)
        for file in swept.removed if delete else swept.unreferenced:
            click.echo(f"{file.size:>12}  {file.path}")
        done = f"{len(swept.removed)} removed" if delete else f"{len(swept.unreferenced)} to remove with --delete"
        click.echo(f"{swept.folder.path}: {swept.referenced} referenced, {swept.recent} too recent, {done}")
        for digest in swept.missing:
            click.echo(f"missing: {swept.folder.file(digest)}", err=True)
        if swept.missing:
            ctx.exit(1)
