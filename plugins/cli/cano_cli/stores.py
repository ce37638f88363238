"""Asking a store about its runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

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

    Raises:
        CliError: there is none, or no plugin opens the URL.
        CanoError: the store failed.
    """
    try:
        backend, _ = kernel.store_at(url)
    except WRONG_QUESTIONS as error:
        raise refused(error) from error
    if not asyncio.run(is_there(backend)):
        raise CliError(
            f"there is no such store: {name_of(url)}. Is the URL right, and the current folder? "
            "`cano run` makes it where it is missing"
        )


async def is_there(backend: StoreBackend | None) -> bool:
    """Whether there is a store, as far as can be told: by a method `exists()`, which makes nothing as `open` might."""
    exists: Callable[[], Awaitable[bool]] | None = getattr(backend, "exists", None)
    return exists is None or await exists()


def name_of(url: str) -> str:
    """What messages call the store at `url`: without its password, and what else may be secret."""
    return Kernel(store=url, discover=False).store_name


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
