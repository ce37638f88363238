"""The store contract: values that are replaced where they are."""

from __future__ import annotations

from typing import Any

from cano.errors import ConflictError
from cano.optional_stores import HistoryPagingStore, RewritingStore, StreamingStore
from cano.protocols import StoreBackend
from cano.records import Appended
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    Contract,
    clause,
    entries,
    loaded,
    new_run,
    note,
    raised,
    step,
    stored,
    value,
    values,
)
from cano.testing.contract_streams import chunk, contents


class RewriteClauses(Contract):
    """A store that has the method `rewrite` is a `RewritingStore`; others have no `rewrite_signals`."""

    @clause
    async def test_a_history_is_rewritten(self, store: StoreBackend) -> None:
        """`rewrite` applies its commit, and replaces values of the history alone: whatever the store has compacted.

        It raises the token, and its caller keeps the lease.
        """
        methods = hasattr(store, "rewrite"), hasattr(store, "rewrite_signals")
        assert methods in ((True, True), (False, False)), "rewrite and rewrite_signals go together"
        if not isinstance(store, RewritingStore):
            return
        for run_id in ("run", "other"):
            await store.create(new_run(run_id, data=values(store, a=0, b=0), own=values(store, x=0)))
            for seq in range(1, 231):
                appended = Appended(values(store, a=seq).values())
                log = {"log": appended} if store.capabilities.appends and seq % 2 else {}
                made = step(seq, run_id, changed=values(store, a=seq) | log, own=values(store, x=seq))
                await store.commit(made._replace(removed=["b"] if seq == 2 else (), own_removed=["x"]))
                if seq % 50 == 0:
                    await store.commit(note(seq, run_id, changed=values(store, n=seq)))
        other, before, history = await stored(store, "other"), await loaded(store), await store.history("run")

        def other_values(name: Any, old: Any) -> Any:
            return Appended.mapped(old, lambda part: value(store, ("new", name, part)))

        def rewritten(entry: Any) -> Any:
            changed, own = ({k: other_values(k, v) for k, v in some.items()} for some in (entry.changed, entry.own))
            return entry._replace(changed=changed, own=own)

        expected, token = list(history), 1
        for first, last in ((0, 1), (1, 100), (100, 225), (225, 231), (50, 60)):
            some = range(first, last) if store.capabilities.history else range(0)
            for at in some:
                expected[at] = rewritten(expected[at])
            some_entries = [expected[at] for at in some]
            await store.rewrite(note(230, token=token, own=values(store, y=last)), some_entries)
            token += 1
            assert entries(await store.history("run")) == entries(expected)
            before = before._replace(own={**before.own, **values(store, y=last)}, token=token)
            assert await loaded(store) == before
            if isinstance(store, HistoryPagingStore):
                assert entries(await store.history_page("run", 97, 5)) == entries(expected)[98:103]
        assert await stored(store, "other") == other

        await raised(ConflictError, store.commit(step(231, token=token - 1)))
        assert await store.renew("me", {"run": token}, LATER) == []
        await store.commit(step(231, token=token, changed=values(store, a=231)))
        assert [entry.seq for entry in expected] == [entry.seq for entry in (await store.history("run"))[:-1]]
        data = {**before.data, **values(store, a=231)}
        assert (await loaded(store)).data == data
        await store.rewrite(note(231, token=token, changed=values(store, c=1), removed=["n"], release=True), [])
        run = await loaded(store)
        assert run.data == {key: each for key, each in data.items() if key != "n"} | values(store, c=1)
        assert (run.holder, run.token) == (None, token + 1)

    @clause
    async def test_a_stale_rewriting_changes_nothing(self, store: StoreBackend) -> None:
        """A `rewrite` whose commit is refused changes neither run nor history."""
        if not isinstance(store, RewritingStore):
            return
        await store.create(new_run(data=values(store, a=0)))
        await store.commit(step(1, changed=values(store, a=1)))
        before = await stored(store)
        new = [entry._replace(changed=values(store, a="new")) for entry in await store.history("run")]
        await raised(ConflictError, store.rewrite(note(1, token=7, own=values(store, x=1)), new))
        await raised(ConflictError, store.rewrite(note(0, own=values(store, x=1)), new))
        await raised(ConflictError, store.rewrite(note(1, "unknown"), []))
        assert await stored(store) == before

    @clause
    async def test_waiting_signals_are_rewritten(self, store: StoreBackend) -> None:
        """`rewrite_signals` replaces payloads of waiting signals. No signal comes, goes, or changes its place."""
        if not isinstance(store, RewritingStore):
            return
        await store.create(new_run())
        sent = [
            Signal("1", "go", value(store, 1)),
            Signal("2", "go", None),
            Signal("1", "go", value(store, 3), own=True),
            Signal("gone", "go", value(store, 4)),
        ]
        for run_id in ("run", "unborn"):
            for each in sent:
                await store.put_signal(run_id, each)
        await store.commit(step(1, consumed=["gone"]))
        new = [each._replace(payload=value(store, ("new", at))) for at, each in enumerate(sent)]
        await store.rewrite_signals("run", [*new[1:][::-1], Signal("never", "go", value(store, 5))])
        mail = await store.signals("run")
        assert list(mail.waiting) == [sent[0], *new[1:3]]
        assert (list(mail.consumed), list(mail.own_consumed)) == (["gone"], [])
        assert await store.next_signal("run", "go", True) == new[2]
        assert list((await store.signals("unborn")).waiting) == sent
        await store.rewrite_signals("unborn", new[:1])
        assert list((await store.signals("unborn")).waiting) == [new[0], *sent[1:]]
        assert list(await store.missing_recipients()) == ["unborn"]

    @clause
    async def test_streams_are_rewritten(self, store: StoreBackend) -> None:
        """`rewrite_stream` replaces values of chunks that the run has. No chunk comes, goes, or changes its offsets."""
        rewrite: Any = getattr(store, "rewrite_stream", None)
        if rewrite is None or not isinstance(store, StreamingStore):
            return
        for run_id in ("run", "other"):
            await store.create(new_run(run_id))
            await store.write_stream(run_id, 1, [chunk(store, last, name) for name in ("a", "b") for last in (1, 2, 3)])
        new = [chunk(store, last, "a", text=" new") for last in (1, 3)]
        await rewrite("run", [*new, chunk(store, 4, "a"), chunk(store, 1, "c")])
        await rewrite("unknown", new)
        assert await contents(store, channel="a") == [new[0], chunk(store, 2, "a"), new[1]]
        assert await contents(store, channel="b") == [chunk(store, last, "b") for last in (1, 2, 3)]
        assert await contents(store, "other", "a") == [chunk(store, last, "a") for last in (1, 2, 3)]
        assert sorted(await store.channels("run")) == ["a", "b"]
        assert list(await store.channels("unknown")) == []
