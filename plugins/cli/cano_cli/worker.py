"""`cano worker`: execute the runs of workflows in a store, beside any number of other workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from typing import Any

import click
from cano import CanoError, Kernel, Workflow

from cano_cli.draining import WorkerRuns
from cano_cli.durations import METAVAR, duration
from cano_cli.errors import FAILED, CliError, Failed, tracebacks, usage_error
from cano_cli.execution import report_unhandled, stdout_reserved
from cano_cli.failure import message_of
from cano_cli.jsonable import dumps
from cano_cli.loading import load_flow
from cano_cli.records import counted
from cano_cli.safe_lines import line
from cano_cli.settings import (
    LONG_LEASE,
    Settings,
    executor_option,
    files,
    json_option,
    lease_option,
    store_option,
    traceback_option,
)
from cano_cli.stores import USAGE_ERRORS, backend_of, required_url
from cano_cli.worker_health import HealthServer

SIGNALS = signal.SIGTERM, signal.SIGINT


def _address(ctx: click.Context, option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """Return host and port of `PORT` or `HOST:PORT`."""
    if value is None:
        return None
    host, _, port = value.rpartition(":")
    if not port.isdecimal() or not port.isascii() or int(port) > 65_535:
        raise click.BadParameter(f"{value!r} is not a port, or HOST:PORT", ctx, option)
    return host.strip("[]") or "127.0.0.1", int(port)


@click.command()
@click.argument("targets", metavar="MODULE:FLOW...", nargs=-1, required=True, shell_complete=files)
@store_option
@lease_option(LONG_LEASE)
@executor_option
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=10, show_default=True, metavar="N",
    help="Execute at most N runs at once.",
)  # fmt: skip
@click.option(
    "--queues", metavar="NAME,...",
    help="Take only the runs of these queues. Runs that were not submitted are in the queue \"default\".",
)  # fmt: skip
@click.option(
    "--grace", type=duration, default="30s", show_default=True, metavar=METAVAR,
    help="Time that steps have to reach their commit after SIGTERM or Ctrl-C.",
)  # fmt: skip
@click.option(
    "--health", callback=_address, metavar="[HOST:]PORT",
    help="Serve /healthz and /metrics there; HOST is 127.0.0.1 by default, and port 0 chooses one.",
)  # fmt: skip
@json_option
@traceback_option
@click.pass_context
def worker(
    ctx: click.Context,
    *,
    targets: tuple[str, ...],
    store: str | None,
    lease: float,
    concurrency: int,
    queues: str | None,
    grace: float,
    health: tuple[str, int] | None,
    as_json: bool,
    traceback: bool,
) -> None:
    """Execute the runs of workflows in a store, until SIGTERM or Ctrl-C.

    A worker begins the runs that `cano submit` and `kernel.submit` have stored, continues parked runs whose signal or
    time has come, and takes over the runs of dead processes. It claims no more runs than it can execute, and only
    those of the given workflows and queues. Runs that have begun come first, then those with larger priorities; of
    these, one of each key in turn. Any number of workers, on any hosts, share a store.

    After SIGTERM or Ctrl-C it claims no more. Each run leaves after the commit of its step, and other workers continue
    it. A second signal ends the process at once, as kill -9 does: no run is lost, and the steps under way begin again.

    The exit code is 0 if no step was cut off by the end of the grace, 1 if one was or the store failed at the start,
    and 2 for a usage error. With --json, what it says at its start and its end are lines of JSON on stdout.

    Example: cano worker shop.py:flow --store sqlite:///runs.db --concurrency 20 --health 8080
    """
    settings: Settings = ctx.obj
    url = required_url(store)
    runs = WorkerRuns()
    with stdout_reserved(as_json) as stdout, tracebacks(traceback):

        def report(text: str, **facts: Any) -> None:
            if as_json:
                click.echo(dumps({"pid": os.getpid(), **facts}), file=stdout)
            else:
                click.echo(text, err=True)

        flows = [load_flow(target) for target in targets]
        limits: dict[str, Any] = {
            "concurrency": concurrency, "queues": None if queues is None else [*map(str.strip, queues.split(","))]
        }  # fmt: skip
        options: dict[str, Any] = {"store": url, "lease": lease, "grace": 0, "plugins": [runs]}
        try:
            asyncio.run(_work(lambda: settings.kernel(**options), runs, flows, limits, grace, health, report))
        except USAGE_ERRORS as error:
            raise usage_error(error) from error
        except CanoError as error:
            raise Failed(usage_error(error).message) from error
        except SystemExit as error:
            raise Failed(message_of(error)) from error
    if runs.cut_off:
        ctx.exit(FAILED)


async def _work(
    make_kernel: Callable[[], Kernel],
    runs: WorkerRuns,
    flows: list[Workflow[Any]],
    limits: dict[str, Any],
    grace: float,
    health: tuple[str, int] | None,
    report: Callable[..., None],
) -> None:
    """Execute runs until a signal comes, and leave."""
    concurrency = limits["concurrency"]
    asyncio.get_running_loop().set_exception_handler(report_unhandled)
    stop = asyncio.Event()
    _stop_at_signals(stop)
    async with make_kernel() as kernel:
        backend_of(kernel)
        server = HealthServer(lambda: "draining" * runs.draining, lambda: runs.metrics(kernel, concurrency))
        try:
            url = None if health is None else await server.open(*health)
        except OSError as error:
            raise CliError(f"--health: cannot listen on port {health and health[1]}: {error}") from error
        try:
            names, store = [flow.name for flow in flows], kernel.store_name
            most, where = counted(concurrency, "run"), "" if url is None else f"; health: {url}"
            text = f"worker {os.getpid()}: up to {most} of {line(', '.join(names))} in {line(store)}{where}"
            report(text, event="started", workflows=names, store=store, health=url, **limits)
            await kernel.recover(*flows, **limits)
            await stop.wait()
            await runs.drain(kernel, grace)
        finally:
            await server.close()
        text = f"worker {os.getpid()} ended: {runs}"
        report(text, event="ended", begun=runs.begun, ended=dict(runs.ended), cut_off=runs.cut_off)


def _stop_at_signals(stop: asyncio.Event) -> None:
    """Set `stop` at the first signal; the second one ends the process."""
    loop = asyncio.get_running_loop()

    def first() -> None:
        for each in SIGNALS:
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)
        stop.set()

    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows has none
        for each in SIGNALS:
            loop.add_signal_handler(each, first)
