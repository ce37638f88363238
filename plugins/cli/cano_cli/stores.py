"""Opening the store that a command works on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from cano import (
    CanoError,
    ConfigurationError,
    Kernel,
    PluginError,
    RunNotFoundError,
    RunRecord,
    SerializationError,
    StoreBackend,
    ValidationError,
)

from cano_cli.errors import CliError, Failed, usage_error
from cano_cli.hints import display_name
from cano_cli.settings import STORE_VARIABLE, Settings

R = TypeVar("R")

USAGE_ERRORS = (ConfigurationError, ValidationError, PluginError, RunNotFoundError)
"""Errors of the kernel that the user's input causes: exit code 2."""


def with_store(
    settings: Settings, url: str | None, action: Callable[[Kernel], Awaitable[R]], *, new: bool = False, **options: Any
) -> R:
    """Return the result of `action`, called with an open kernel on the store at `url`.

    The store must exist, unless it may be `new`. `options` are further arguments of `Kernel`.

    Raises:
        CliError: there is no such store, or no such run.
        CanoError: the store failed.
    """

    store = required_url(url)
    kernel = settings.kernel(store=store, **options)

    async def work() -> R:
        async with kernel:
            backend_of(kernel)
            return await action(kernel)

    if not new:
        check_exists(kernel, store)
    try:
        return asyncio.run(work())
    except USAGE_ERRORS as error:
        raise usage_error(error) from error
    except CanoError as error:  # here, because the message may name commands on this store
        raise Failed(usage_error(error).message) from error


def required_url(url: str | None) -> str:
    """Return `url`. Raises CliError if it is missing."""
    if not url:
        raise CliError(f"no store is given; add --store URL, such as sqlite:///runs.db, or set {STORE_VARIABLE}")
    return url


def check_exists(kernel: Kernel, url: str) -> None:
    """Check that the store at `url` exists. Opening a missing store would create it, and report no runs.

    Raises:
        CliError: it does not exist, or no plugin opens the URL.
        CanoError: the store failed.
    """
    try:
        backend, _ = kernel.store_at(url)
    except USAGE_ERRORS as error:
        raise usage_error(error) from error
    if not asyncio.run(store_exists(backend)):
        raise CliError(
            f"the store {display_name(url, kernel.namespace)} does not exist; check the URL and the current directory "
            "(`cano run` creates a missing store)"
        )


async def store_exists(backend: StoreBackend | None) -> bool:
    """Return whether the store exists, as its method `exists()` reports; True if it has no such method."""
    exists: Callable[[], Awaitable[bool]] | None = getattr(backend, "exists", None)
    return exists is None or await exists()


def backend_of(kernel: Kernel) -> StoreBackend:
    """Return the kernel's store. Raises CliError if it is not durable: it holds no runs of other processes."""
    backend = kernel.backend
    if backend is None or not backend.capabilities.durable:
        raise CliError("this store loses its runs when the process that made them exits; name a durable store, such as "
                       "sqlite:///runs.db")  # fmt: skip
    return backend


async def record_of(kernel: Kernel, run_id: str) -> RunRecord:
    """Return the stored run. Raises RunNotFoundError."""
    record = await backend_of(kernel).load(run_id)
    if record is None:
        raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
    return record


async def head_of(kernel: Kernel, run_id: str) -> RunRecord:
    """Return the stored run. If it cannot be read, return it as lists show it. Raises RunNotFoundError."""
    try:
        return await record_of(kernel, run_id)
    except SerializationError:
        for listed in await kernel.runs():
            if listed.run_id == run_id:
                return listed
        raise
