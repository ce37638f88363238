"""Asking a store about its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote

from cano import ConfigurationError, Kernel, PluginError, RunNotFoundError, RunRecord, StoreBackend, ValidationError

from cano_cli.errors import CliError, refused
from cano_cli.settings import STORE_VARIABLE, Settings

R = TypeVar("R")

WRONG_QUESTIONS = (ConfigurationError, ValidationError, PluginError, RunNotFoundError)


def ask(settings: Settings, url: str | None, question: Callable[[Kernel], Awaitable[R]]) -> R:
    """The answer to `question`, which is asked of a kernel on the store that is at `url` already.

    Raises:
        CliError: there is no such store, or no such run.
        CanoError: the store failed.
    """

    place = needed(url)
    kernel = settings.kernel(store=place)

    async def work() -> R:
        async with kernel:
            backend_of(kernel)
            return await question(kernel)

    check_there(kernel, place)
    try:
        return asyncio.run(work())
    except WRONG_QUESTIONS as error:
        raise refused(error) from error


def needed(url: str | None) -> str:
    """The URL of a store. Raises CliError where none was given."""
    if not url:
        raise CliError(f"which store? Give --store URL, such as sqlite:///runs.db, or set {STORE_VARIABLE}")
    return url


def check_there(kernel: Kernel, url: str) -> None:
    """See that there is a store at `url`: to open it would make an empty one, and tell of no runs.

    A store may have a method `exists()` that tells; it is called instead of `open`, and must make nothing. Without one
    only the missing file of SQLite is noticed.

    Raises:
        CliError: there is none, or no plugin opens the URL.
        CanoError: the store failed.
    """
    try:
        backend, _ = kernel.store_at(url)
    except WRONG_QUESTIONS as error:
        raise refused(error) from error
    scheme, _, place = url.partition("?")[0].partition(":")
    missing = None
    if (exists := getattr(backend, "exists", None)) is not None:
        missing = None if asyncio.run(exists()) else f"{backend!r} does not exist"
    elif scheme.lower() == "sqlite" and not (path := Path(unquote(place.removeprefix("///"))).absolute()).exists():
        missing = f"the file {path} does not exist"
    if missing is not None:
        raise CliError(f"there is no such store: {missing}. Is the URL right? `cano run` makes it where it is missing")


def backend_of(kernel: Kernel) -> StoreBackend:
    """The kernel's store. Raises CliError unless its runs outlive the process: no other can be there to be seen."""
    backend = kernel.backend
    if backend is None or not backend.capabilities.durable:
        raise CliError("this store forgets its runs with the process that made them; name one that keeps them, such as "
                       "sqlite:///runs.db")  # fmt: skip
    return backend


async def record_of(kernel: Kernel, run_id: str) -> RunRecord:
    """The run as the store has it. Raises RunNotFoundError."""
    record = await backend_of(kernel).load(run_id)
    if record is None:
        raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
    return record
