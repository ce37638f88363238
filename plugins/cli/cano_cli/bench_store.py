"""`cano bench-store`: measure how fast a store commits."""

from __future__ import annotations

import asyncio

import click
from cano import Kernel

from cano_cli.benchmark import SIZE, Benchmark, Speed
from cano_cli.errors import CliError, refused
from cano_cli.jsonable import dumps
from cano_cli.settings import Settings, json_option
from cano_cli.stores import WRONG_QUESTIONS
from cano_cli.tables import show

TALKERS = ("structlog",)
"""Plugins that would write a line for each step."""


@click.command("bench-store")
@click.argument("url", metavar="URL")
@click.option("--runs", type=click.IntRange(min=1), default=100, show_default=True, help="How many runs at once.")
@click.option(
    "--seconds", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True,
    help="How long each of the four measurements takes.",
)  # fmt: skip
@json_option
@click.pass_context
def bench_store(ctx: click.Context, *, url: str, runs: int, seconds: float, as_json: bool) -> None:
    """Measure how fast the store at URL commits, here and now.

    One run, then --runs of them at once, commit a changed value of 200 bytes again and again, as durably as URL says:
    asked of the store directly, and as the steps of a workflow that a kernel drives.

    The runs that are made for it have ids and a workflow name of their own, and are deleted in the end, also after
    Ctrl-C. Other runs in the store are left alone.

    Example: cano bench-store sqlite:///runs.db --runs 20
    """
    settings: Settings = ctx.obj

    async def work() -> list[Speed]:
        quiet = Settings((*settings.block, *TALKERS))
        async with quiet.kernel(store=url) as kernel:
            return await _measure(kernel, runs, seconds)

    try:
        found = asyncio.run(work())
    except WRONG_QUESTIONS as error:
        raise refused(error) from error
    if as_json:
        answer = {"runs": runs, "seconds": seconds, "bytes": SIZE, "results": [each.as_json() for each in found]}
        click.echo(dumps(answer, indent=2))
        return
    rows = [
        [each.through, str(each.runs), f"{each.rate:,.0f}", f"{each.p50 * 1000:.2f} ms", f"{each.p99 * 1000:.2f} ms"]
        for each in found
    ]
    show(["through", "runs", "commits/s", "p50", "p99"], rows)


async def _measure(kernel: Kernel, runs: int, seconds: float) -> list[Speed]:
    backend = kernel.backend
    if backend is None:
        raise CliError(f"no plugin opens {kernel.store_name}; install cano-memory")
    async with Benchmark(
        kernel, backend, seconds, lambda problem: click.echo(f"Warning: {problem}", err=True)
    ) as bench:
        numbers = [1] if runs == 1 else [1, runs]
        return [await measure(number) for measure in (bench.store, bench.kernel) for number in numbers]
