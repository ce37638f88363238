"""The store contract: the audit. For a store without one, each clause ends at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from cano.errors import ConflictError
from cano.optional_stores import AuditingStore, LimitingStore
from cano.protocols import StoreBackend
from cano.records import AuditEntry
from cano.signals import Signal
from cano.testing.contract_base import (
    NOW,
    Contract,
    clause,
    free_run,
    new_run,
    raised,
    step,
    values,
)


def entry(action: str, run_id: str | None = "run", at: float = NOW, **fields: str) -> AuditEntry:
    """Return an entry."""
    return AuditEntry(run_id, action, **{"actor": "Ada"} | fields, at=at)


async def listed(store: AuditingStore, run_id: str | None = "run", limit: int | None = None) -> list[AuditEntry]:
    """Return entries."""
    return list(await store.audit(run_id, limit))


def auditing(store: StoreBackend) -> AuditingStore | None:
    """Return the store, if it keeps an audit."""
    return cast(AuditingStore, store) if store.capabilities.audit else None


class AuditClauses(Contract):
    """The audit."""

    @clause
    async def test_an_action_leaves_its_entry(self, backend: StoreBackend) -> None:
        """Each of the four methods adds its entry. It stays when the run is deleted."""
        if (store := auditing(backend)) is None:
            return
        made = [entry(each, at=NOW + number) for number, each in enumerate(["fork", "signal", "cancel", "delete"])]
        await store.create(new_run(), made[0])
        await store.put_signal("run", Signal("1", "go"), made[1])
        await store.commit(step(1), made[2])
        assert await listed(store) == made[:3]
        if store.capabilities.retention:
            assert await store.delete("run", made[3])
            assert await listed(store) == made

    @clause
    async def test_an_action_without_effect_leaves_none(self, backend: StoreBackend) -> None:
        """No entry is added for an existing run, a known signal, a stale commit, or a run that does not exist."""
        if (store := auditing(backend)) is None:
            return
        await store.create(new_run())
        await store.put_signal("run", Signal("1", "go"))
        await store.create(new_run(state="S9"), entry("create"))
        await store.put_signal("run", Signal("1", "go"), entry("signal"))
        await raised(ConflictError, store.commit(step(2), entry("commit")))
        if store.capabilities.retention:
            await store.put_signal("never", Signal("1", "go"))
            assert not await store.delete("never", entry("delete", "never"))
        assert await listed(store, None) == []

    @clause
    async def test_calls_without_an_entry_leave_none(self, backend: StoreBackend) -> None:
        """The steps of runs, and what kernels do by themselves, add no entry."""
        if (store := auditing(backend)) is None:
            return
        await store.create(new_run(data=values(store, a=1)))
        await store.put_signal("run", Signal("1", "go"))
        await store.commit(step(1, changed=values(store, a=2), consumed=["1"], release=True))
        if store.capabilities.retention:
            await store.delete("run")
        assert await listed(store, None) == []

    @clause
    async def test_entries_are_listed(self, backend: StoreBackend) -> None:
        """`audit` returns the newest entries of one run, or of all, oldest first."""
        if (store := auditing(backend)) is None:
            return
        mine: Sequence[AuditEntry] = [entry("signal", at=NOW + at) for at in (3, 1, 2)]
        others = [entry("fork", "run 2", NOW), entry("audit pruned", None, NOW + 4)]
        await store.add_audit([*mine, *others])
        await store.add_audit([])

        in_order = [mine[1], mine[2], mine[0]]
        assert await listed(store) == in_order
        assert await listed(store, None) == [others[0], *in_order, others[1]]
        assert await listed(store, "ru") == []
        assert await listed(store, "run", 2) == in_order[1:]
        assert await listed(store, None, 9) == [others[0], *in_order, others[1]]
        assert await listed(store, "run", 0) == []

    @clause
    async def test_entries_keep_any_text(self, backend: StoreBackend) -> None:
        """Every field is returned as it was given: also NUL and line breaks in details, and actors of 512 bytes."""
        if (store := auditing(backend)) is None:
            return
        odd = [
            entry("signal", detail="a\0b\n\x1b[31m\u202e", actor="\U0001f600" * 128),
            entry("signal", "run:1/\N{LATIN SMALL LETTER E WITH ACUTE}", NOW + 0.000001, detail=""),
            entry("delete", at=NOW + 1, detail="x" * 10_000),
        ]
        await store.put_signal("run", Signal("1", "go"), odd[0])
        await store.add_audit(odd[1:])
        assert await listed(store, None) == odd

    @clause
    async def test_equal_entries_are_all_kept(self, backend: StoreBackend) -> None:
        """Two actions that differ in nothing, not even in their time, leave two entries."""
        if (store := auditing(backend)) is None:
            return
        await store.add_audit([entry("signal")] * 2)
        for each in "12":
            await store.put_signal("run", Signal(each, "go"), entry("signal"))
        assert await listed(store) == [entry("signal")] * 4

    @clause
    async def test_pruning_deletes_old_entries(self, backend: StoreBackend) -> None:
        """`prune_audit` deletes what is older than a time, returns how many entries that were, and adds its own."""
        if (store := auditing(backend)) is None:
            return
        await store.create(free_run())
        old, on_time, late = entry("fork"), entry("signal", at=NOW + 1), entry("cancel", at=NOW + 2)
        await store.add_audit([old, entry("fork", "run 2"), on_time, late])
        pruned = entry("audit pruned", None, NOW + 3)

        assert await store.prune_audit(NOW + 1, pruned) == 2
        assert await listed(store) == [on_time, late]
        assert await listed(store, "run 2") == []
        assert await listed(store, None) == [on_time, late, pruned]
        assert await store.load("run") == free_run()

    @clause
    async def test_a_refused_signal_leaves_no_entry(self, backend: StoreBackend) -> None:
        """The audit has an entry for each stored signal, and none for a refused or a known one."""
        if not (isinstance(backend, LimitingStore) and backend.capabilities.audit):
            return
        entries = [entry("signal", actor=f"{number}") for number in range(3)]
        for id, given in zip("aba", entries, strict=True):
            assert await backend.put_signal_within("run", Signal(id, "go"), 1, given) is (id == "a")
        assert await listed(cast(AuditingStore, backend)) == entries[:1]
