"""`cano submit`: store runs for workers, without executing them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import click
from cano import AttachedRun, Kernel

from cano_cli.data import read_data
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError, tracebacks
from cano_cli.hints import word
from cano_cli.jsonable import dumps
from cano_cli.lines import Lines
from cano_cli.loading import load_flow
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, data_option, flow_argument, json_option, store_option
from cano_cli.stores import backend_of, with_store


@click.command()
@flow_argument
@data_option
@store_option
@click.option("--id", "run_id", metavar="ID", help="ID of the run. With --many, the IDs are ID-1, ID-2 and so on.")
@click.option("--queue", default="default", show_default=True, metavar="NAME", help="Queue of the run.")
@click.option(
    "--priority", type=int, default=0, show_default=True, metavar="N",
    help="Runs with larger numbers begin before others of the queue.",
)  # fmt: skip
@click.option("--key", metavar="KEY", help="Group of the run, such as a tenant: of each KEY, one run begins in turn.")
@click.option("--delay", type=duration, metavar=METAVAR, help="Time before which no worker begins the run.")
@click.option("--many", metavar="FILE", help="Submit one run for each line of FILE, with its JSON object; - is stdin.")
@json_option
@click.pass_context
def submit(
    ctx: click.Context,
    *,
    target: str,
    traceback: bool,
    data: tuple[str, ...],
    store: str | None,
    run_id: str | None,
    queue: str,
    priority: int,
    key: str | None,
    delay: float | None,
    many: str | None,
    as_json: bool,
) -> None:
    """Submit a run to the store, for `cano worker`. This command does not execute it.

    The ID of the run is printed. With --id it is safe to repeat the command: a run that exists with the same data is
    not submitted again, and other data is refused.

    With --many, blank lines are skipped. The first line that is not a JSON object ends the command, with exit code 2;
    most of the lines before it are submitted by then. Correct it, and repeat the command with the same --id.

    Example: cano submit shop.py:flow --data order=17 --id order-17 --store sqlite:///runs.db
    """
    settings: Settings = ctx.obj
    initial = read_data(data)
    options: dict[str, Any] = {"run_id": run_id, "queue": queue, "priority": priority, "key": key, "delay": delay}
    with tracebacks(traceback):
        flow = load_flow(target)

        async def submit_one(kernel: Kernel) -> tuple[str, str]:
            backend_of(kernel)
            submitted: AttachedRun = await kernel.submit(flow, initial if data else None, **options)
            return submitted.run_id, (await submitted.view()).status.value if as_json else ""

        async def submit_many(kernel: Kernel) -> int:
            backend_of(kernel)
            return await kernel.submit_many(flow, _rows(lines, initial), **options)

        if many is None:
            found, status = with_store(settings, store, submit_one, new=True)
            answer = {"run_id": found, "workflow": flow.name, "status": status}
            click.echo(dumps(answer, indent=2) if as_json else line(found if settings.raw else word(found)))
            return
        with Lines(many) as lines:
            number = with_store(settings, store, submit_many, new=True)
        counts = {"workflow": flow.name, "submitted": number}
        click.echo(dumps(counts, indent=2) if as_json else f"submitted {counted(number, 'run')}")


async def _rows(lines: Lines, initial: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """Yield the data of each line. Raises CliError for one that is invalid."""
    async for each in lines:
        if each.data is None:
            raise CliError(f"{each.problem}; correct the line, and repeat the command with the same --id")
        yield {**initial, **each.data}
