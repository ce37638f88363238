"""`cano export`: write a run into a file."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import click
from cano import Kernel

from cano_cli.completing import run_argument
from cano_cli.errors import CliError
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, files, json_option, store_option
from cano_cli.stores import with_store


@click.command()
@run_argument
@click.option(
    "-o", "--output", required=True, metavar="FILE", shell_complete=files,
    help="The file to make, such as run.cano; - for stdout.",
)  # fmt: skip
@click.option("--plain", is_flag=True, help="Do not encrypt the file, though the store is encrypted.")
@click.option("--redact", is_flag=True, help="Replace secrets, as logs do. The file is not encrypted.")
@click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="NAME",
    help="Replace the values of this key or field, too; as --redact.",
)
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@store_option
@json_option
@click.pass_context
def export(
    ctx: click.Context,
    *,
    run: str,
    output: str,
    plain: bool,
    redact: bool,
    secrets: tuple[str, ...],
    force: bool,
    store: str | None,
    as_json: bool,
) -> None:
    """Write a run into a file: its record, data, history and signals. `cano import` reads it.

    The run does not change, and may be executed meanwhile. The file of an encrypted store is encrypted with the store's
    keys. With --plain or --redact it is not: all who have it can read the data.

    Example: cano export order-17 -o order-17.cano --redact
    """
    settings: Settings = ctx.obj
    if output == "-" and (as_json or sys.stdout.isatty()):
        raise click.UsageError("-o - writes the file to stdout: redirect it, and leave out --json.", ctx)

    async def action(kernel: Kernel) -> tuple[int, dict[str, Any]]:
        size, head = 0, dict[str, Any]()
        with _written(output, force=force) as file:
            async for part in kernel.export_run(run, plain=plain, redact=[*secrets] if secrets else redact):
                head = head or json.loads(part)
                size += file.write(part)
        return size, head

    size, head = with_store(settings, store, action)
    codec: list[str] = head["codec"]
    if as_json:
        answer = {"run_id": run, "file": output, "bytes": size, "version": head["version"], "codec": codec}
        click.echo(dumps(answer, indent=2))
    else:
        how = f"encrypted by {','.join(codec)}" if codec else "not encrypted"
        click.echo(f"run {word(run)} exported to {word(output)}: {size:,} bytes, {how}", err=output == "-")


@contextmanager
def _written(name: str, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file for writing, for its owner alone, that gets its name when it is complete. Raises CliError."""
    if name == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path, part = Path(name), Path(f"{name}.{os.getpid()}.part")
    if path.exists() and not force:
        raise CliError(f"the file {word(name)} exists; choose another one, or replace it with --force")
    try:
        with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise CliError(f"the file {word(name)} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
