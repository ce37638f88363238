"""`cano bench-store`: measure the commits per second of a store."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import click
from cano import Kernel

from cano_cli.benchmark import SIZE, Benchmark, Speed
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import CliError, usage_error
from cano_cli.jsonable import dumps
from cano_cli.safe_lines import line
from cano_cli.settings import Settings, json_option
from cano_cli.stores import USAGE_ERRORS
from cano_cli.tables import show

LOGGING_PLUGINS = ("structlog",)
"""Plugins that log every step. They are blocked, because logging would slow the benchmark."""


@click.command("bench-store")
@click.argument("url", metavar="URL")
@click.option("--runs", type=click.IntRange(min=1), default=100, show_default=True, help="Number of concurrent runs.")
@click.option(
    "--seconds", type=duration, default="3s", show_default=True, metavar=METAVAR,
    help="Duration of each of the four measurements.",
)  # fmt: skip
@json_option
@click.pass_context
def bench_store(ctx: click.Context, *, url: str, runs: int, seconds: float, as_json: bool) -> None:
    """Measure the commits per second of the store at URL on this machine.

    First one run, then --runs concurrent runs repeatedly commit a changed value of 200 bytes. They do so directly
    through the store, then as steps of a workflow that a kernel executes. URL sets the durability of the commits.

    The benchmark's runs have their own ids and workflow name, and are deleted at the end, also after Ctrl-C. Other
    runs in the store are not changed.

    Example: cano bench-store sqlite:///runs.db --runs 20
    """
    settings: Settings = ctx.obj

    async def work() -> list[Speed]:
        quiet = replace(settings, block=(*settings.block, *LOGGING_PLUGINS))
        async with quiet.kernel(store=url) as kernel:
            return await _measure(kernel, runs, seconds)

    try:
        speeds = asyncio.run(work())
    except USAGE_ERRORS as error:
        raise usage_error(error) from error
    if as_json:
        answer = {"runs": runs, "seconds": seconds, "bytes": SIZE, "results": [each.as_json() for each in speeds]}
        click.echo(dumps(answer, indent=2))
        return
    rows = [
        [each.through, str(each.runs), f"{each.rate:,.0f}", f"{each.p50 * 1000:.2f} ms", f"{each.p99 * 1000:.2f} ms"]
        for each in speeds
    ]
    show(["through", "runs", "commits/s", "p50", "p99"], rows)


async def _measure(kernel: Kernel, runs: int, seconds: float) -> list[Speed]:
    backend = kernel.backend
    if backend is None:
        raise CliError(f"the plugin 'memory', which opens {kernel.store_name}, is {kernel.inactive('memory')}")
    async with Benchmark(
        kernel, backend, seconds, lambda problem: click.echo(f"Warning: {line(problem)}", err=True)
    ) as bench:
        numbers = [1] if runs == 1 else [1, runs]
        return [await measure(number) for measure in (bench.store, bench.kernel) for number in numbers]
