"""Completion in a shell: ids of runs, names of workflows and signals, steps. It never raises."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import click
from cano import Kernel, read_history
from click.shell_completion import CompletionItem

from cano_cli.hints import word
from cano_cli.settings import STORE_VARIABLE, AnyCommand, Settings
from cano_cli.stores import backend_of, with_store

Completed: TypeAlias = list[CompletionItem]

MOST = 200
"""The most runs that are looked at, the newest ones."""


def run_ids(ctx: click.Context, param: click.Parameter, start: str) -> Completed:
    """Return the ids of the newest runs that begin so, with workflow, status and state."""

    async def read(kernel: Kernel) -> list[tuple[str, str]]:
        runs = await kernel.runs(status="parked" if ctx.info_name == "signal" else None, limit=MOST)
        return [(run.run_id, f"{run.workflow}: {run.status.value} in {run.state}") for run in runs]

    return _offered(ctx, start, read)


def workflow_names(ctx: click.Context, param: click.Parameter, start: str) -> Completed:
    """Return the names of the newest runs' workflows that begin so."""

    async def read(kernel: Kernel) -> list[tuple[str, str]]:
        return [(run.workflow, "") for run in await kernel.runs(limit=MOST)]

    return _offered(ctx, start, read)


def signal_names(ctx: click.Context, param: click.Parameter, start: str) -> Completed:
    """Return the name of the signal that the run waits for; without such a run, those that any run waits for."""

    async def read(kernel: Kernel) -> list[tuple[str, str]]:
        runs = await kernel.runs(status="parked", limit=MOST)
        these = [run for run in runs if run.run_id == ctx.params.get("run")] or runs
        return [(run.wait.signal, f"run {run.run_id}") for run in these if run.wait is not None and run.wait.signal]

    return _offered(ctx, start, read)


def steps(ctx: click.Context, param: click.Parameter, start: str) -> Completed:
    """Return the numbers of the run's steps that begin so, each with the state that it led to."""

    async def read(kernel: Kernel) -> list[tuple[str, str]]:
        history = await read_history(backend_of(kernel), str(ctx.params.get("run")), limit=MOST)
        return [(str(entry.seq), f"{entry.status.value} in {entry.state}") for entry in history]

    return _offered(ctx, start, read)


def run_argument(command: AnyCommand) -> AnyCommand:
    """Add the argument RUN, the id of a run, to a command."""
    return click.argument("run", shell_complete=run_ids)(command)


def optional_run_argument(command: AnyCommand) -> AnyCommand:
    """Add the argument RUN, which may be left out, to a command."""
    return click.argument("run", required=False, shell_complete=run_ids)(command)


def _offered(
    ctx: click.Context, start: str, read: Callable[[Kernel], Awaitable[Iterable[tuple[str, str]]]]
) -> Completed:
    settings, url = ctx.find_object(Settings) or Settings(), ctx.params.get("store") or os.environ.get(STORE_VARIABLE)
    found: dict[str, str] = {}
    try:
        for text, about in with_store(settings, url, read):
            found.setdefault(text, about)
    except Exception:  # noqa: BLE001  # a shell has no place for an error: there is no store, or it does not answer
        return []
    return [CompletionItem(word(text), help=word(about)) for text, about in found.items() if text.startswith(start)]
