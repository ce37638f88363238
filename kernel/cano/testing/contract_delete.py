"""The store contract: deleting runs. Stores without retention refuse it."""

from __future__ import annotations

from cano.protocols import StoreBackend
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    entries,
    free_run,
    loaded,
    new_run,
    promised,
    refuses_to_delete,
    step,
    stored,
    values,
)


class DeleteClauses(Contract):
    """Deleting runs. For a store without retention, each clause ends after the store has refused."""

    @clause
    async def test_deleting_tells_whether_there_was_one(self, store: StoreBackend) -> None:
        """`delete` returns whether the run existed. It can be called twice, and ignores leases."""
        await store.create(new_run("held"))
        await store.create(free_run("free"))

        for run_id, there in (("held", True), ("free", True), ("held", False), ("never", False)):
            if store.capabilities.retention:
                assert await store.delete(run_id) is there
            else:
                await refuses_to_delete(store, run_id)

    @clause
    async def test_a_deleted_run_is_gone(self, store: StoreBackend) -> None:
        """A deleted run has no record, history or signal, is in no list, and cannot be claimed."""
        await store.create(free_run(data=values(store, a=1)))
        await store.put_signal("run", Signal("1", "go"))
        if not await deleted(store):
            return

        assert await store.load("run") is None
        assert list(await store.history("run")) == []
        assert await store.next_signal("run", "go") is None
        assert list(await store.runs(RunFilter())) == []
        assert list(await store.ready(NOW)) == []
        assert await store.claim("run", "me", NOW, LATER) is None

    @clause
    async def test_a_deleted_id_can_be_used_anew(self, store: StoreBackend) -> None:
        """A run created with a deleted id is new: it has no data, history, signal or consumed id of the old one."""
        await store.create(new_run(data=values(store, a=1)))
        for each in "12":
            await store.put_signal("run", Signal(each, "go"))
        await store.commit(step(1, changed=values(store, b=2), consumed=["1"]))
        if not await deleted(store):
            return

        fresh = free_run(data=values(store, c=3))
        assert await store.create(fresh) == fresh
        assert await loaded(store) == fresh
        assert [entry[0] for entry in entries(await store.history("run"))] == promised(store, [0])
        assert await store.next_signal("run", "go") is None
        await store.put_signal("run", Signal("1", "go"))
        assert await store.next_signal("run", "go") == Signal("1", "go")

    @clause
    async def test_deleting_forgets_signals_that_came_early(self, store: StoreBackend) -> None:
        """`delete` also removes signals that were sent to an id with which no run was ever created."""
        await store.put_signal("run", Signal("1", "go"))

        if store.capabilities.retention:
            assert await store.delete("run") is False
            assert await store.next_signal("run", "go") is None
        else:
            await refuses_to_delete(store, "run")

    @clause
    async def test_deleting_leaves_other_runs(self, store: StoreBackend) -> None:
        """Other runs do not change, not even children of the deleted one."""
        others = ("run/child", "ru", "run2", "RUN")
        for run_id in ("run", *others):
            await store.create(new_run(run_id, parent="run", data=values(store, a=1)))
            await store.commit(step(1, run_id, changed=values(store, b=2)))
            await store.put_signal(run_id, Signal("1", "go"))
        before = [await stored(store, run_id) for run_id in others]
        await deleted(store)

        assert [await stored(store, run_id) for run_id in others] == before
