"""The store contract: creating and loading runs."""

from __future__ import annotations

import asyncio

from cano.errors import ConfigurationError
from cano.protocols import Capabilities, StoreBackend
from cano.records import RunStatus
from cano.testing.contract_base import (
    NOW,
    Contract,
    clause,
    clause_of_url,
    declared_stores,
    entries,
    free_run,
    loaded,
    new_run,
    promised,
    step,
    value,
    values,
)


class CreateClauses(Contract):
    """Creating and loading runs."""

    @clause
    async def test_capabilities_are_declared(self, store: StoreBackend) -> None:
        """A store has every method of the protocol, and declares its capabilities."""
        assert isinstance(store, StoreBackend)
        assert isinstance(store.capabilities, Capabilities)
        assert {type(flag) for flag in store.capabilities} == {bool}

    @clause_of_url
    async def test_its_plugin_declares_the_same(self, url: str) -> None:
        """The hook `cano_stores` declares the capabilities that a store of that scheme has without options.

        A store with its own `open_backend` needs no plugin, so it need not be declared.
        """
        if type(self).open_backend is not Contract.open_backend:
            return
        scheme = url.partition(":")[0].lower()
        declared = declared_stores().get(scheme)
        assert declared is not None, f"the plugin that opens {scheme}: does not declare it by the hook cano_stores"
        try:
            store = self.open_backend(url.partition("?")[0])
        except ConfigurationError:  # it needs its options
            store = self.open_backend(url)
        assert declared == store.capabilities  # before it is opened, when the kernel reads them

    @clause
    async def test_a_new_run_comes_back_as_it_was_given(self, store: StoreBackend) -> None:
        """`create` returns a new run as it was given, lease and token included, and `load` finds it so."""
        for run in (new_run("held", data=values(store, a=1, b=[2])), free_run("free")):
            assert await store.create(run) == run
            assert await loaded(store, run.run_id) == run

    @clause
    async def test_an_unknown_run_is_none(self, store: StoreBackend) -> None:
        """A run that was never created has no record, no history and no signal."""
        await store.create(new_run("other"))

        assert await store.load("run") is None
        assert list(await store.history("run")) == []
        assert await store.next_signal("run", "go") is None

    @clause
    async def test_an_existing_run_comes_back_unchanged(self, store: StoreBackend) -> None:
        """`create` with an id that is in use returns its run as it is now, data included, and changes nothing."""
        await store.create(new_run(data=values(store, a=1)))
        await store.commit(step(1, changed=values(store, b=2)))
        before, history = await loaded(store), entries(await store.history("run"))

        again = new_run(
            workflow="other", version="2", fingerprint="f2", state="X", seq=9, status=RunStatus.PARKED,
            data=values(store, c=3), error={"class": "E"}, payload=value(store, 4), parent="p", created=NOW + 5,
            updated=NOW + 5, holder="another", expires=NOW + 99, token=7,
        )  # fmt: skip

        assert await store.create(again) == before
        assert await loaded(store) == before
        assert entries(await store.history("run")) == history

    @clause
    async def test_twenty_creates_at_once_make_one_run(self, store: StoreBackend) -> None:
        """If many callers create one id at once, exactly one creates the run; the others get that run."""
        given = [new_run(holder=f"holder {n}", data=values(store, n=n)) for n in range(20)]
        returned = await asyncio.gather(*map(store.create, given))

        assert [run == mine for run, mine in zip(returned, given, strict=True)].count(True) == 1
        assert all(run == returned[0] for run in returned)
        assert await loaded(store) == returned[0]
        assert [entry.changed for entry in await store.history("run")] == promised(store, [returned[0].data])

    @clause
    async def test_runs_are_apart(self, store: StoreBackend) -> None:
        """A change of one run changes no other, even if their keys and ids are similar."""
        for run_id in ("run", "run/child", "RUN"):
            await store.create(new_run(run_id, data=values(store, a=run_id, b=1)))
        await store.commit(step(1, changed=values(store, a="new"), removed=["b"], release=True))

        for run_id in ("run/child", "RUN"):
            assert await loaded(store, run_id) == new_run(run_id, data=values(store, a=run_id, b=1))
            assert [entry.seq for entry in await store.history(run_id)] == promised(store, [0])
