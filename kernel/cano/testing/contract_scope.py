"""The store contract: namespaces."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from cano.optional_stores import ClaimingStore, PruningStore, ScopedStore
from cano.protocols import StoreBackend
from cano.records import Retention, RunStatus, Wait
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_audit import auditing, entry, listed
from cano.testing.contract_base import FLOW, LATER, NOW, Contract, clause, free_run, loaded, new_run, step, values

ALIKE = "a", "A", "a/b", "a:b", "a%", "a_", "a.db", "1:a", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 60, "b"
"""Names of which a store might take two for one, or one for a part of another."""


@asynccontextmanager
async def parts(store: StoreBackend, *names: str) -> AsyncIterator[list[StoreBackend]]:
    """Provide the parts of a store with these names, open at once."""
    scoped = cast(ScopedStore, store)
    async with AsyncExitStack() as stack:
        found = [scoped.scoped(name) for name in names]
        for part in found:
            await part.open()
            stack.push_async_callback(part.close)
        yield found


async def fill(store: StoreBackend, name: str) -> None:
    """Store one run of each kind with the same id in each part, and values that tell the parts apart."""
    audit = [entry("signal", actor=name)] if store.capabilities.audit else []
    await store.create(new_run(data=values(store, mine=name)), *audit)
    await store.commit(step(1, changed=values(store, mine=name * 2)))
    await store.create(free_run("child", parent="run"))
    await store.create(free_run("waits", status=RunStatus.PARKED, wait=Wait("B", "go")))
    await store.create(free_run("ended", status=RunStatus.SUCCEEDED))
    await store.put_signal("run", Signal("1", "go"))
    await store.put_signal("waits", Signal("1", "go", own=True))
    await store.put_signal(f"stranger in {name}", Signal("1", "go"))


async def contents(store: StoreBackend) -> Any:
    """Return all that can be seen in a store."""
    ids = sorted(run.run_id for run in await store.runs(RunFilter()))
    expired: Sequence[Any] = ()
    if isinstance(store, PruningStore):
        expired = await store.expired(Retention(keep_last=0), LATER, 99)
    audited = auditing(store)
    return copy.deepcopy(
        (
            [await loaded(store, run_id) for run_id in ids],
            [[(each.seq, dict(each.changed)) for each in await store.history(run_id)] for run_id in ids],
            [await store.signals(run_id) for run_id in [*ids, "stranger in a"]],
            sorted(await store.missing_recipients()),
            sorted(run.run_id for run in await store.ready(NOW)),
            sorted(run.run_id for run in expired),
            [] if audited is None else await listed(audited, None),
        )
    )


class ScopeClauses(Contract):
    """A store with `capabilities.namespaces` is a `ScopedStore`; others have no `scoped`."""

    @clause
    async def test_namespaces_share_nothing(self, store: StoreBackend) -> None:
        """No change in one namespace can be seen in another one, or in the store itself."""
        assert isinstance(store, ScopedStore) == store.capabilities.namespaces, "namespaces and scoped go together"
        if not isinstance(store, ScopedStore):
            return
        async with parts(store, "a", "b") as (one, two):
            assert one.capabilities == store.capabilities
            await fill(one, "a")
            mine = await contents(one)
            for other in (store, two):
                assert await store.load("run") is None, "a run of a namespace must not be seen outside of it"
                assert await contents(other) == await contents(two)
                assert (await contents(other))[3] == [], "a signal of a namespace must not be seen outside of it"
            await fill(store, "")
            await fill(two, "b")
            assert await contents(one) == mine

            whole, other = await contents(store), await contents(two)
            await _use_up(one)
            assert await contents(one) != mine
            assert (await contents(store), await contents(two)) == (whole, other)

    @clause
    async def test_a_namespace_is_the_same_everywhere(self, store: StoreBackend) -> None:
        """Two objects for one namespace see the same runs, also one that is opened after them."""
        if not isinstance(store, ScopedStore):
            return
        async with parts(store, "a b", "a b") as (one, two):
            await one.create(new_run())
            assert await two.load("run") == await one.load("run")
            await two.commit(step(1, changed=values(two, a=1)))
            assert (await loaded(one)).seq == 1
            if one is not two:  # a store may give out one object twice; then both were closed
                async with parts(store, "a b") as (three,):
                    assert (await loaded(three)).data == values(three, a=1)

    @clause
    async def test_similar_names_are_different_namespaces(self, store: StoreBackend) -> None:
        """Names differ if one of their characters does: by case, or in what a file, a schema or a key uses itself."""
        if not isinstance(store, ScopedStore):
            return
        async with parts(store, *ALIKE) as found:
            for number, part in enumerate(found):
                await part.create(free_run(state=f"S{number}"))
            states = [(await loaded(part)).state for part in found]
        assert states == [f"S{number}" for number in range(len(ALIKE))]


async def _use_up(store: StoreBackend) -> None:
    """Claim, consume, renew, delete and prune what is in a store."""
    assert await store.claim("child", "me", NOW, LATER) == 1
    await store.commit(step(2, consumed=["1"], release=True))
    await store.renew("me", {"run": 1, "child": 1, "waits": 1}, LATER + 60)
    if isinstance(store, ClaimingStore):
        assert [each.run_id for each in await store.claim_ready([FLOW], 9, "me", NOW, LATER)] == ["run"]
    if isinstance(store, PruningStore):
        assert list(await store.delete_finished(["ended"], NOW)) == ["ended"]
    if (audited := auditing(store)) is not None:
        await audited.prune_audit(LATER, entry("audit pruned", None))
    if store.capabilities.retention:
        await store.delete("waits")
        await store.delete("stranger in a")
