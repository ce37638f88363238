"""The store contract: commits that append to values."""

from __future__ import annotations

from cano.protocols import StoreBackend
from cano.records import Appended, RunRecord
from cano.testing.contract_base import Contract, clause, entries, loaded, new_run, note, promised, step

MANY = 350
"""More commits than a store keeps apart without compaction."""


class AppendClauses(Contract):
    """A store with `capabilities.appends` adds the parts of `Appended` values to those that the keys have."""

    @clause
    async def test_parts_are_kept_in_their_order(self, store: StoreBackend) -> None:
        """A value that was appended to has the value that was set last, then each part, as they were given.

        The key keeps its place. What is appended to a missing or removed key is its whole value. Setting or removing
        the key drops the parts.
        """
        if not store.capabilities.appends:
            return
        await store.create(new_run(data={"log": b"0", "b": b"b"}))
        await store.commit(step(1, changed={"log": Appended((b"1",))}))
        await store.commit(step(2, changed={"c": Appended((b"", b"c")), "log": Appended((b"2", b"2"))}))
        assert list((await loaded(store)).data.items()) == [
            ("log", Appended((b"0", b"1", b"2", b"2"))), ("b", b"b"), ("c", Appended((b"", b"c"))),
        ]  # fmt: skip
        await store.commit(step(3, changed={"log": b"3", "c": Appended((b"d",))}))
        await store.commit(step(4, changed={"b": Appended((b"4",)), "log": Appended((b"4",))}, removed=["c", "b"]))
        assert list((await loaded(store)).data.items()) == [
            ("log", Appended((b"3", b"4"))), ("b", Appended((b"4",))),
        ]  # fmt: skip
        await store.commit(note(4, changed={"b": Appended((b"5",))}, removed=["log"]))
        assert (await loaded(store)).data == {"b": Appended((b"4", b"5"))}

    @clause
    async def test_the_history_tells_what_was_appended(self, store: StoreBackend) -> None:
        """An entry of the history has the `Appended` values of its commit; the first, those of the created run."""
        if not store.capabilities.appends:
            return
        first = {"log": Appended((b"0", b"1")), "b": b"2"}
        await store.create(new_run(data=first))
        assert (await loaded(store)).data == first
        changed = {"log": Appended((b"3",)), "b": b"4"}
        await store.commit(step(1, changed=changed))
        history = await store.history("run")
        assert [(*entry[4:6],) for entry in entries(history)] == promised(store, [(first, []), (changed, [])])
        assert [type(entry.changed["log"]) for entry in history] == promised(store, [Appended, Appended])

    @clause
    async def test_many_parts_are_kept(self, store: StoreBackend) -> None:
        """After many commits, a value has the parts of all of them, and other runs have theirs."""
        if not store.capabilities.appends:
            return
        for run_id in ("run", "other"):
            await store.create(new_run(run_id, data={"log": b"0"}))
        for seq in range(1, MANY + 1):
            await store.commit(step(seq, changed={"log": Appended((b"%d" % seq,)), "n": b"%d" % seq}))
            if seq % 3 == 0:
                await store.commit(step(seq // 3, "other", changed={"log": Appended((b"x",))}))
            if seq in (1, 99, 100, 101, MANY):
                assert (await loaded(store)).data["log"] == Appended(b"%d" % part for part in range(seq + 1))
        assert (await loaded(store, "other")).data["log"] == Appended((b"0", *[b"x"] * (MANY // 3)))
        await store.commit(step(MANY + 1, changed={"log": b"new"}))
        await store.commit(step(MANY + 2, changed={"log": Appended((b"1",))}))
        assert (await loaded(store)).data == {"log": Appended((b"new", b"1")), "n": b"%d" % MANY}
        if store.capabilities.retention:
            await store.delete("run")
            await store.create(new_run(data={"log": b"0"}))
            run: RunRecord = await loaded(store)
            assert run.data == {"log": b"0"}
