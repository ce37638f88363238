"""The store contract: a run's history, which is always empty in a store without history."""

from __future__ import annotations

from typing import Any

from cano.errors import ConflictError
from cano.optional_stores import HistoryPagingStore
from cano.protocols import StoreBackend
from cano.records import RunStatus
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    entries,
    loaded,
    new_run,
    note,
    promised,
    raised,
    step,
    value,
    values,
)


class HistoryClauses(Contract):
    """A run's history."""

    @clause
    async def test_history_begins_with_the_creation(self, store: StoreBackend) -> None:
        """The first entry is the run's creation: its seq, state, status, its time `created`, and all its data."""
        await store.create(new_run(data=values(store, a=1, b=2), status=RunStatus.PARKED, updated=NOW + 5))
        await store.create(new_run("fork", seq=7, state="S7", data=values(store, a=1)))

        running = RunStatus.RUNNING
        created: tuple[Any, ...] = (0, "S0", RunStatus.PARKED, NOW, values(store, a=1, b=2), [])
        assert entries(await store.history("run")) == promised(store, [created])
        assert entries(await store.history("fork")) == promised(
            store, [(7, "S7", running, NOW, values(store, a=1), [])]
        )

    @clause
    async def test_history_is_every_transition_in_order(self, store: StoreBackend) -> None:
        """Each transition is an entry, oldest first, with its next state and exactly the changed and removed keys."""
        await store.create(new_run())
        expected: list[Any] = [(0, "S0", RunStatus.RUNNING, NOW, {}, [])]
        for seq in range(1, 13):
            status = RunStatus.SUCCEEDED if seq == 12 else RunStatus.RUNNING
            changed = {f"k{n}": value(store, seq) for n in range(seq % 4)}
            removed = ["k2", "nothing", "k1"][: seq % 3]
            state, at = "LOOP" if seq % 2 else f"S{seq}", NOW - seq
            await store.commit(step(seq, state=state, status=status, at=at, changed=changed, removed=removed))
            expected.append((seq, state, status, at, changed, removed))

        assert entries(await store.history("run")) == promised(store, expected)

    @clause
    async def test_the_seq_may_skip(self, store: StoreBackend) -> None:
        """A commit of several transitions at once adds one entry: with the last seq, and all that it changes.

        The numbers in between have no entry. So a run that commits only its end has a history of two entries.
        """
        await store.create(new_run(data=values(store, a=1)))
        await store.commit(step(5, expected_seq=0, changed=values(store, b=2, c=3), removed=["a"]))
        await raised(ConflictError, store.commit(step(2)))
        await store.commit(step(6))
        await store.commit(step(9, expected_seq=6, status=RunStatus.SUCCEEDED, changed=values(store, d=4)))

        assert (await loaded(store)).seq == 9
        running, ended = RunStatus.RUNNING, RunStatus.SUCCEEDED
        expected: list[tuple[Any, ...]] = [
            (0, "S0", running, NOW, values(store, a=1), []),
            (5, "S5", running, NOW + 5, values(store, b=2, c=3), ["a"]),
            (6, "S6", running, NOW + 6, {}, []),
            (9, "S9", ended, NOW + 9, values(store, d=4), []),
        ]
        assert entries(await store.history("run")) == promised(store, expected)

    @clause
    async def test_a_commit_without_a_transition_makes_no_line(self, store: StoreBackend) -> None:
        """A commit without a transition adds no entry to the history, and changes none."""
        await store.create(new_run(data=values(store, a=1)))
        await store.commit(step(1, changed=values(store, b=1)))
        before = entries(await store.history("run"))
        await store.commit(note(1, state="X", status=RunStatus.PARKED, changed=values(store, b=2), removed=["a"]))
        assert entries(await store.history("run")) == before

        await store.commit(step(2, changed=values(store, c=3)))
        entry: tuple[Any, ...] = (2, "S2", RunStatus.RUNNING, NOW + 2, values(store, c=3), [])
        assert entries(await store.history("run")) == promised(store, [*before, entry])

    @clause
    async def test_leases_and_signals_make_no_line(self, store: StoreBackend) -> None:
        """Claims, renewals, releases and signals add no entry to the history."""
        await store.create(new_run())
        await store.renew("me", {"run": 1}, LATER)
        await store.release("run", 1)
        assert await store.claim("run", "another", NOW, LATER) == 2
        await store.put_signal("run", Signal("1", "go"))

        assert [entry.seq for entry in await store.history("run")] == promised(store, [0])

    @clause
    async def test_a_refused_commit_makes_no_line(self, store: StoreBackend) -> None:
        """A refused commit adds no entry to the history."""
        await store.create(new_run())
        await raised(ConflictError, store.commit(step(2)))
        await raised(ConflictError, store.commit(step(1, token=9)))
        await store.commit(step(1))

        assert [entry.seq for entry in await store.history("run")] == promised(store, [0, 1])

    @clause
    async def test_a_history_has_pages(self, store: StoreBackend) -> None:
        """`history_page` returns the part of `history` after a seq, up to a limit, wherever that seq lies.

        A store with `capabilities.history_pages` is a `HistoryPagingStore`; others have no `history_page`.
        """
        assert isinstance(store, HistoryPagingStore) == store.capabilities.history_pages, (
            "history_pages and history_page go together"
        )
        if not isinstance(store, HistoryPagingStore):
            return
        await store.create(new_run(seq=3, data=values(store, n=0)))
        last = 3
        for seq in range(4, 300):
            if seq % 4:  # every fourth is skipped
                await store.commit(step(seq, expected_seq=last, changed=values(store, n=seq)))
                last = seq
            elif seq % 8 == 0:
                for _ in range(3):
                    await store.commit(note(last, changed=values(store, n=seq)))
        await store.create(new_run("other"))
        whole = entries(await store.history("run"))

        for after in (None, 0, 2, 3, 4, 5, 7, 8, 11, 100, 101, 149, 150, 151, 199, 200, 201, 297, 298, 299, 300, 10**9):
            rest = [entry for entry in whole if after is None or entry[0] > after]
            for limit in (None, 0, 1, 2, 90, 250, 10**9):
                assert entries(await store.history_page("run", after, limit)) == rest[:limit], (after, limit)
        assert list(await store.history_page("unknown", None, 1)) == []

    @clause
    async def test_old_history_can_be_discarded(self, store: StoreBackend) -> None:
        """`discard_history` deletes some of the entries before a seq, and nothing else, if the store has it."""
        discard: Any = getattr(store, "discard_history", None)
        if discard is None:
            return
        assert isinstance(store, HistoryPagingStore)
        for run_id in ("run", "other"):
            await store.create(new_run(run_id, data=values(store, a=0, b=0)))
            for seq in range(1, 301):
                changed = values(store, a=seq) if seq % 3 else {}
                await store.commit(step(seq, run_id, changed=changed, removed=["b"] if seq == 2 else []))
                if seq % 50 == 0:  # the entry of its transition stays, not that of the commit without one
                    await store.commit(note(seq, run_id, changed=values(store, n=seq)))
        whole, stored = entries(await store.history("run")), await loaded(store)
        for before in (0, 250, 299, 300, 301):
            await discard("run", before)
            rest = entries(await store.history("run"))
            assert whole[len(whole) - len(rest) :] == rest, "only the oldest entries may be gone"
            assert [entry for entry in whole if entry[0] >= before] == [entry for entry in rest if entry[0] >= before]
            assert await loaded(store) == stored
            for after in (None, 100, 260):
                page = [entry for entry in rest if after is None or entry[0] > after][:20]
                assert entries(await store.history_page("run", after, 20)) == page
        if store.capabilities.history:
            assert len(rest) < len(whole)
        await discard("unknown", 9)
        await store.commit(step(301, changed=values(store, c=1)))
        assert list((await loaded(store)).data.items()) == [*stored.data.items(), *values(store, c=1).items()]
        assert [entry.seq for entry in await store.history("run")][-1:] == promised(store, [301])
        assert [entry.seq for entry in await store.history("other")] == promised(store, range(301))
