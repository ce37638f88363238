"""The store contract: runs and signals in the transactions of users' connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from inspect import isawaitable
from typing import Any

from cano.errors import ConfigurationError
from cano.lanes import Lane
from cano.protocols import StoreBackend
from cano.records import AuditEntry, RunStatus, Wait
from cano.run_filter import RunFilter
from cano.search_attributes import encoded, ranges
from cano.signals import Signal
from cano.testing.contract_base import (
    FLOW,
    LATER,
    NOW,
    Contract,
    clause_of_url,
    entries,
    free_run,
    loaded,
    new_run,
    promised,
    raised,
    step,
    value,
    values,
)
from cano.testing.contract_news import News
from cano.transactions import JoinedStore, JoiningStore


async def _done(result: Any) -> Any:
    return await result if isawaitable(result) else result


def _signal(store: StoreBackend, id: str, name: str = "go") -> Signal:
    return Signal(id, name, value(store, id))


def _entry(store: StoreBackend, action: str) -> tuple[AuditEntry, ...]:
    """Return an entry for the audit as an argument, for a store that keeps one."""
    return (AuditEntry("run", action, "me", NOW, ""),) if store.capabilities.audit else ()


async def _actions(store: Any) -> list[str]:
    return [each.action for each in await store.audit(None, None)] if store.capabilities.audit else []


class ConnectionClauses(Contract):
    """A store with `capabilities.connections` is a `JoiningStore`; others have no `joined`."""

    def connect(self, url: str) -> Any:
        """Return a new connection of a user to the database of the store at `url`, in which a transaction can begin.

        It has the methods `commit`, `rollback` and `close`, which may be coroutines, as this one.
        """
        raise NotImplementedError(f"{type(self).__name__} must connect: def connect(self, url)")

    @asynccontextmanager
    async def user(self, url: str) -> AsyncIterator[tuple[Any, Any]]:
        """Provide an open store and a connection to its database; None if the store joins no transactions."""
        async with self.opened(url) as store:
            name = "connections and joined go together"
            assert isinstance(store, JoiningStore) == store.capabilities.connections, name
            if not isinstance(store, JoiningStore):
                yield None, None
                return
            connection = await _done(self.connect(url))
            try:
                yield store, connection
            finally:
                await _done(connection.close())

    @clause_of_url
    async def test_what_a_user_commits_is_there(self, url: str) -> None:
        """A run and a signal are there with all that was given, and their entries of the audit; not before."""
        async with self.user(url) as (store, connection):
            if store is None:
                return
            await store.create(new_run("waits"))
            await store.commit(step(1, "waits", status=RunStatus.PARKED, wait=Wait("S2", "go"), release=True))
            run = free_run(data=values(store, a=1, b=2), own=values(store, c=3))
            joined: JoinedStore = await store.joined(connection)
            assert await joined.create(run, *_entry(store, "submit")) == run
            await joined.put_signal("waits", _signal(store, "1"), *_entry(store, "signal"))
            assert await store.load("run") is None, "a run shows before the commit"
            assert not (await store.signals("waits")).waiting, "a signal shows before the commit"
            assert await _actions(store) == [], "an entry shows before the commit"
            await _done(connection.commit())
            assert await loaded(store) == run
            assert entries(await store.history("run")) == promised(
                store, [(0, "S0", RunStatus.RUNNING, NOW, dict(run.data), [], dict(run.own), [])]
            )
            assert list((await store.signals("waits")).waiting) == [_signal(store, "1")]
            assert sorted(each.run_id for each in await store.ready(LATER + 1)) == ["run", "waits"]
            assert sorted(await _actions(store)) == (["signal", "submit"] if store.capabilities.audit else [])
            assert await store.claim("run", "me", NOW, LATER) == 1
            await store.commit(step(1))

    @clause_of_url
    async def test_a_run_of_a_transaction_is_whole(self, url: str) -> None:
        """It is found, listed and claimed as a run that was stored without one: by time, attributes and lane."""
        async with self.user(url) as (store, connection):
            if store is None:
                return
            fields: dict[str, Any] = {"status": RunStatus.PARKED, "wait": Wait("S0", until=LATER)}
            if store.capabilities.attributes:
                fields["attributes"] = {"x": encoded(1)}
            if store.capabilities.queues:
                fields["lane"] = Lane("a", 3, "k")
            await store.create(free_run("plain", **fields))
            await (await store.joined(connection)).create(free_run("joined", **fields))
            await _done(connection.commit())
            both = ["joined", "plain"]
            assert (await loaded(store, "joined"))._replace(run_id="plain") == await loaded(store, "plain")
            filter = RunFilter(attributes={"x": ranges("=", [encoded(1)])}) if "attributes" in fields else RunFilter()
            for some in (filter, RunFilter(status=RunStatus.PARKED), RunFilter(workflow="flow")):
                assert sorted(run.run_id for run in await store.runs(some)) == both
            assert await store.ready(NOW) == []
            assert sorted(run.run_id for run in await store.ready(LATER + 1)) == both
            if store.capabilities.claims:
                claims = [await store.claim_ready([FLOW], 1, "me", LATER + 1, LATER + 9) for _ in both]
                assert sorted(each.run_id for some in claims for each in some) == both

    @clause_of_url
    async def test_what_a_user_rolls_back_never_was(self, url: str) -> None:
        """Neither a run, nor a signal, nor an entry is left, and both can be stored afterwards."""
        async with self.user(url) as (store, connection):
            if store is None:
                return
            await store.create(new_run("waits"))
            joined = await store.joined(connection)
            await joined.create(free_run(), *_entry(store, "submit"))
            await joined.put_signal("waits", _signal(store, "1"), *_entry(store, "signal"))
            await _done(connection.rollback())
            assert await store.load("run") is None
            assert not (await store.signals("waits")).waiting
            assert await _actions(store) == []
            run = free_run(state="S9")
            assert await store.create(run) == run
            await store.put_signal("waits", _signal(store, "1", "other"))
            assert list((await store.signals("waits")).waiting) == [_signal(store, "1", "other")]

    @clause_of_url
    async def test_a_transaction_sees_what_it_stores(self, url: str) -> None:
        """A second run with the id is refused there, a second signal ignored; without an effect, none is audited."""
        async with self.user(url) as (store, connection):
            if store is None:
                return
            await store.create(new_run("old", data=values(store, a=1)))
            await store.put_signal("old", _signal(store, "1"))
            joined = await store.joined(connection)
            assert (await joined.create(free_run("old", state="S9"), *_entry(store, "submit"))).state == "S0"
            await joined.put_signal("old", _signal(store, "1", "other"), *_entry(store, "signal"))
            await joined.create(free_run(data=values(store, a=1)))
            assert (await joined.create(free_run(state="S9"), *_entry(store, "submit"))).state == "S0"
            for _ in range(2):
                await joined.put_signal("run", _signal(store, "2"))
            joined = await store.joined(connection)
            found = await joined.load("run")
            assert found is not None
            assert (found.run_id, dict(found.data)) == ("run", values(store, a=1))
            assert [each.seq for each in await joined.history("run")] == promised(store, [0])
            assert list((await joined.signals("run")).waiting) == [_signal(store, "2")]
            assert [each.id for each in (await joined.signals("old")).waiting] == ["1"]
            assert await joined.load("never") is None
            await _done(connection.commit())
            assert (await loaded(store, "old")).state == "S0"
            assert list((await store.signals("old")).waiting) == [_signal(store, "1")]
            assert list((await store.signals("run")).waiting) == [_signal(store, "2")]
            assert await _actions(store) == []

    @clause_of_url
    async def test_calls_on_a_connection_at_the_same_time(self, url: str) -> None:
        """Each is done as if it were alone, also of several stores that have joined one connection."""
        async with self.user(url) as (store, connection):
            if store is None:
                return

            async def create(run_id: str) -> None:
                joined = await store.joined(connection)
                await asyncio.gather(joined.create(free_run(run_id)), joined.put_signal(run_id, _signal(store, "1")))

            ids = [f"run{number}" for number in range(4)]
            await asyncio.gather(*map(create, ids))
            await _done(connection.commit())
            assert sorted(run.run_id for run in await store.runs(RunFilter())) == ids
            for run_id in ids:
                assert list((await store.signals(run_id)).waiting) == [_signal(store, "1")]

    @clause_of_url
    async def test_the_limit_of_signals_holds_in_transactions(self, url: str) -> None:
        """A `LimitingStore` counts what waits, and what the transaction has stored."""
        async with self.user(url) as (store, connection):
            if store is None or not store.capabilities.signal_limit:
                return
            await store.create(new_run())
            await store.put_signal("run", _signal(store, "a"))
            joined = await store.joined(connection)
            put = [await joined.put_signal_within("run", _signal(store, id), 2) for id in "bcb"]
            assert put == [True, False, True]
            await _done(connection.commit())
            assert [each.id for each in (await store.signals("run")).waiting] == ["a", "b"]

    @clause_of_url
    async def test_a_users_commit_is_told(self, url: str) -> None:
        """A store that notifies tells every watcher of a run and a signal after the user's commit."""
        async with self.user(url) as (store, connection):
            if store is None or not store.capabilities.notify:
                return
            await store.create(new_run("waits"))
            await store.commit(step(1, "waits", status=RunStatus.PARKED, wait=Wait("S2", "go"), release=True))
            news = News(store, self.patience / 6)
            joined = await store.joined(connection)
            await joined.put_signal("waits", _signal(store, "1"))
            await joined.create(free_run())
            await _done(connection.commit())
            await news.of("waits", None)
            joined = await store.joined(connection)
            await joined.create(free_run("another"))
            await _done(connection.commit())
            await news.of("another", None)

    @clause_of_url
    async def test_other_connections_are_refused(self, url: str) -> None:
        """Any object but an open connection to the database raises ConfigurationError."""
        async with self.user(url) as (store, connection):
            if store is None:
                return
            await raised(ConfigurationError, store.joined(object()))
            await raised(ConfigurationError, store.joined(None))
            await store.joined(connection)
            await _done(connection.close())
            await raised(ConfigurationError, store.joined(connection))
