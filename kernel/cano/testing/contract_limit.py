"""The store contract: the limit of waiting signals."""

from __future__ import annotations

import asyncio

from cano.optional_stores import LimitingStore
from cano.protocols import StoreBackend
from cano.signals import Signal
from cano.testing.contract_base import Contract, clause, free_run, new_run, step, value


class LimitClauses(Contract):
    """A store with `capabilities.signal_limit` is a `LimitingStore`; others have no `put_signal_within`."""

    @clause
    async def test_waiting_signals_have_a_limit(self, store: StoreBackend) -> None:
        """Of a run's signals, as many wait as the limit says: those of users that no commit has consumed."""
        name = "signal_limit and put_signal_within go together"
        assert isinstance(store, LimitingStore) == store.capabilities.signal_limit, name
        if not isinstance(store, LimitingStore):
            return

        async def put(id: str, most: int, run_id: str = "run") -> bool:
            return await store.put_signal_within(run_id, Signal(id, f"name {id}", value(store, id)), most)

        await store.create(new_run())
        for number in range(4):
            await store.put_signal("run", Signal(f"{number}", "go", own=True))
        assert [await put(id, 2) for id in "abca"] == [True, True, False, True]
        before = await store.signals("run")
        assert [each.id for each in before.waiting if not each.own] == ["a", "b"]
        assert [each.payload for each in before.waiting if not each.own] == [value(store, id) for id in "ab"]
        assert await put("c", 2) is False, "the run has as many as before"
        assert await store.signals("run") == before, "a refused signal must leave no trace"

        assert await put("c", 2, "another") is True, "each run has a limit of its own"
        assert await put("c", 3) is True, "the limit is that of the call"
        await store.commit(step(1, consumed=["a", "b"]))
        assert [await put(id, 2) for id in "adea"] == [True, True, False, True]
        assert [each.id for each in (await store.signals("run")).waiting if not each.own] == ["c", "d"]
        assert await put("f", 0) is False

    @clause
    async def test_the_limit_holds_for_calls_at_once(self, store: StoreBackend) -> None:
        """Of many calls at once, as many are accepted as there is room for; each of these is stored."""
        if not isinstance(store, LimitingStore):
            return
        await store.create(free_run())
        accepted = await asyncio.gather(
            *(store.put_signal_within("run", Signal(f"{number}", "go"), 7) for number in range(30))
        )
        waiting = {each.id for each in (await store.signals("run")).waiting}
        assert waiting == {f"{number}" for number, stored in enumerate(accepted) if stored}
        assert len(waiting) == 7
