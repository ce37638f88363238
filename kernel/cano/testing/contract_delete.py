"""The store contract: forgetting runs, where the store can; those that keep everything refuse it."""

from __future__ import annotations

from cano.protocols import StoreBackend
from cano.records import RunFilter, Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    free_run,
    kept,
    lines,
    loaded,
    new_run,
    refuses_to_delete,
    step,
    told,
    values,
)


class DeleteClauses(Contract):
    """Forgetting runs. Each clause ends early for a store that keeps everything: once it has refused."""

    @clause
    async def test_deleting_tells_whether_there_was_one(self, store: StoreBackend) -> None:
        """`delete` returns whether there was such a run; it may be asked twice, and does not mind a lease."""
        await store.create(new_run("held"))
        await store.create(free_run("free"))

        for run_id, there in (("held", True), ("free", True), ("held", False), ("never", False)):
            if store.capabilities.retention:
                assert await store.delete(run_id) is there
            else:
                await refuses_to_delete(store, run_id)

    @clause
    async def test_a_deleted_run_is_gone(self, store: StoreBackend) -> None:
        """Of a deleted run nothing is found: no record, history or signal, nor in any list; it can't be claimed."""
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
        """A run made under a deleted id is new: no data, history, signal or consumed id of the old one is left."""
        await store.create(new_run(data=values(store, a=1)))
        for each in "12":
            await store.put_signal("run", Signal(each, "go"))
        await store.commit(step(1, changed=values(store, b=2), consumed=["1"]))
        if not await deleted(store):
            return

        fresh = free_run(data=values(store, c=3))
        assert await store.create(fresh) == fresh
        assert await loaded(store) == fresh
        assert [line[0] for line in lines(await store.history("run"))] == told(store, [0])
        assert await store.next_signal("run", "go") is None
        await store.put_signal("run", Signal("1", "go"))
        assert await store.next_signal("run", "go") == Signal("1", "go")

    @clause
    async def test_deleting_forgets_signals_that_came_early(self, store: StoreBackend) -> None:
        """`delete` also forgets signals that were sent to an id under which no run was ever made."""
        await store.put_signal("run", Signal("1", "go"))

        if store.capabilities.retention:
            assert await store.delete("run") is False
            assert await store.next_signal("run", "go") is None
        else:
            await refuses_to_delete(store, "run")

    @clause
    async def test_deleting_leaves_other_runs(self, store: StoreBackend) -> None:
        """Other runs stay whole, children of the deleted one too."""
        others = ("run/child", "ru", "run2", "RUN")
        for run_id in ("run", *others):
            await store.create(new_run(run_id, parent="run", data=values(store, a=1)))
            await store.commit(step(1, run_id, changed=values(store, b=2)))
            await store.put_signal(run_id, Signal("1", "go"))
        before = [await kept(store, run_id) for run_id in others]
        await deleted(store)

        assert [await kept(store, run_id) for run_id in others] == before
