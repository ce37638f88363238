"""All that a store keeps, to be compared with what another one keeps."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from cano import RunFilter, Signals, StoreBackend
from cano.testing.contract_base import entries, installed_backend


async def everything(store: StoreBackend) -> dict[str, Any]:
    """By id: the run but for its lease, its history, its signals; of ids without a run the signals."""
    kept: dict[str, Any] = {}
    for listed in await store.runs(RunFilter()):
        run_id, record = listed.run_id, await store.load(listed.run_id)
        assert record is not None
        plain = record._replace(data={}, holder=None, expires=None, token=0)
        kept[run_id] = (
            plain,
            list(record.data.items()),
            entries(await store.history(run_id)),
            _all(await store.signals(run_id)),
        )
    for run_id in await store.missing_recipients():
        kept[run_id] = _all(await store.signals(run_id))
    return kept


def _all(signals: Signals) -> Any:
    users = [*sorted(signals.consumed), *sorted(signals.answered)]
    return list(signals.waiting), users, sorted(signals.own_consumed)


def stored_at(url: str) -> dict[str, Any]:
    """`everything` in the store at `url`."""

    async def look() -> dict[str, Any]:
        store = installed_backend(url)
        await store.open()
        try:
            return await everything(store)
        finally:
            await store.close()

    return asyncio.run(look())


def do(url: str, work: Callable[[StoreBackend], Coroutine[Any, Any, Any]]) -> None:
    """Do something in the store at `url`."""

    async def done() -> None:
        store = installed_backend(url)
        await store.open()
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(done())
