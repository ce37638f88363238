"""A renewal among calls that wait, on the stores that put renewals first."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import Any

from cano import StoreBackend
from cano.testing.contract_base import LATER


def with_a_renewal(store: StoreBackend, releases: int) -> tuple[list[str], list[Coroutine[Any, Any, None]]]:
    """Return the list in which calls note their names when they are done, and the calls: releases, then a renewal."""
    done: list[str] = []

    async def call(name: str, work: Awaitable[Any]) -> None:
        await work
        done.append(name)

    calls = [call("release", store.release(f"run {n}", 1)) for n in range(releases)]
    return done, [*calls, call("renewal", store.renew("holder", {"run 1": 1}, LATER))]
