"""The store contract: notifications of changes by other backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cano.optional_stores import NotifyingStore, PruningStore, StreamingStore
from cano.protocols import StoreBackend
from cano.records import RunStatus
from cano.signals import Signal
from cano.testing.contract_base import NOW, Contract, clause_of_url, deleted, free_run, new_run, step
from cano.testing.contract_streams import chunk, contents


class News:
    """The notifications of a store, or only those of chunks. With `fails`, the watcher raises an exception for each."""

    def __init__(self, store: Any, patience: float, *, fails: bool = False, chunks: bool = False) -> None:
        self._told: asyncio.Queue[str | None] = asyncio.Queue()
        self._patience = patience
        self._fails = fails
        (store.watch_streams if chunks else store.watch)(self._tell)

    def _tell(self, run_id: str | None) -> None:
        self._told.put_nowait(run_id)
        if self._fails:
            raise ValueError("a watcher that fails")

    async def of(self, *run_ids: str | None) -> None:
        """Wait until one of these was notified. Other notifications do no harm."""
        try:
            async with asyncio.timeout(self._patience):
                while await self._told.get() not in run_ids:
                    pass
        except TimeoutError:
            message = f"watch was not notified of a change by another process to the run {run_ids[0]!r}"
            raise AssertionError(message) from None

    def drop(self) -> list[str | None]:
        """Return the notifications since the last wait."""
        return [self._told.get_nowait() for _ in range(self._told.qsize())]


class NewsClauses(Contract):
    """A store with `capabilities.notify` notifies watchers of changes by other backends; others have no `watch`."""

    @asynccontextmanager
    async def two(self, url: str) -> AsyncIterator[tuple[NotifyingStore | None, StoreBackend]]:
        """Open two backends of one store. The first is None if the store does not notify."""
        async with self.opened(url) as one, self.opened(url) as two:
            assert isinstance(one, NotifyingStore) == one.capabilities.notify, "notify and watch go together"
            yield one if isinstance(one, NotifyingStore) else None, two

    @clause_of_url
    async def test_news_is_told(self, url: str) -> None:
        """A store that notifies tells each watcher of the changes by others that may let a run continue."""
        async with self.two(url) as (one, two):
            if one is None:
                return
            for run_id in ("signalled", "parked", "ended", "released", "deleted"):
                await two.create(new_run(run_id))
            news = News(one, self.patience / 2)  # not earlier, since it may notify of every created run
            await two.put_signal("signalled", Signal("1", "go"))
            await news.of("signalled")
            await two.commit(step(1, "parked", status=RunStatus.PARKED, release=True))
            await news.of("parked")
            await two.commit(step(1, "ended", status=RunStatus.SUCCEEDED, release=True))
            await news.of("ended")
            if isinstance(two, PruningStore):
                await two.delete_finished(["ended"], NOW)
                await news.of("ended", None)
            await two.release("released", 1)
            await news.of("released")
            if await deleted(two, "deleted"):
                await news.of("deleted")
            await two.create(free_run("free"))
            await news.of("free")

    @clause_of_url
    async def test_chunks_are_told(self, url: str) -> None:
        """A store that notifies and keeps streams tells the watchers of `watch_streams` of the chunks of others."""
        async with self.two(url) as (one, two):
            if not (one and isinstance(one, StreamingStore) and isinstance(two, StreamingStore)):
                return
            assert hasattr(one, "watch_streams"), "a store with notify and streams has watch_streams"
            for run_id in ("written", "committed"):
                await two.create(new_run(run_id))
            news = News(one, self.patience / 2, chunks=True)
            for last in (1, 2, 3):  # one notification may be of the begin of watching
                await two.write_stream("written", 1, [chunk(two, last)])
                await news.of("written", None)
                assert len(await contents(one, "written")) == last
                news.drop()
                await two.commit(step(last, "committed", chunks=[chunk(two, last)]))
                await news.of("committed", None)
                assert len(await contents(one, "committed")) == last
                news.drop()

    @clause_of_url
    async def test_news_is_told_of_any_id(self, url: str) -> None:
        """A notification has the run's id, whatever the id is, or None: then every run may have changed."""
        async with self.two(url) as (one, two):
            if one is None:
                return
            news = News(one, self.patience / 2)
            for run_id in (" ", "ключ {} \n", "a,b:c;d", "x" * 9000):
                await two.put_signal(run_id, Signal("1", "go"))
                await news.of(run_id, None)

    @clause_of_url
    async def test_a_watcher_that_raises_is_told_again(self, url: str) -> None:
        """If the watcher raises an exception, the store and its notifications continue."""
        async with self.two(url) as (one, two):
            if one is None:
                return
            news = News(one, self.patience / 2, fails=True)
            for number in range(3):
                await two.put_signal(str(number), Signal("1", "go"))
                await news.of(str(number))
            assert await one.load("0") is None

    @clause_of_url
    async def test_after_closing_nothing_is_told(self, url: str) -> None:
        """After `close` has returned, the watcher gets no notification."""
        async with self.two(url) as (one, two), self.opened(url) as three:
            if one is None:
                return
            assert isinstance(three, NotifyingStore)
            news, others = News(one, self.patience / 2), News(three, self.patience / 2)
            await two.put_signal("before", Signal("1", "go"))
            await news.of("before")
            await one.close()
            news.drop()
            for run_id in ("after", "later"):  # when the second has arrived, the first would have too
                await two.put_signal(run_id, Signal("1", "go"))
                await others.of(run_id)
            assert news.drop() == []
