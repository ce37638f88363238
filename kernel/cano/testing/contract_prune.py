"""The store contract: finding and deleting expired runs, many at a time."""

from __future__ import annotations

from collections.abc import Sequence

from cano.optional_stores import AuditingStore, PruningStore
from cano.protocols import StoreBackend
from cano.records import AuditEntry, Retention, RunRecord, RunStatus
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import LATER, NOW, Contract, clause, free_run, loaded, new_run, step, values

DAY = 86_400.0


class PruneClauses(Contract):
    """A store with `capabilities.prune` is a `PruningStore`; others have no `expired`."""

    @clause
    async def test_expired_runs_are_found(self, store: StoreBackend) -> None:
        """`expired` returns the finished runs that a retention does not keep, the oldest first, in pages."""
        assert isinstance(store, PruningStore) == store.capabilities.prune, "prune and expired go together"
        if not isinstance(store, PruningStore):
            return
        for number in range(40):
            created = NOW - number // 3 * DAY  # some at the same time
            run = free_run(
                f"{number * 7 % 40}", workflow="flow" if number % 4 else "other", status=list(RunStatus)[number % 6],
                created=created, updated=created + number % 5 * DAY,
            )  # fmt: skip
            await store.create(run)
        every = await store.runs(RunFilter())
        for retention in (
            Retention(), Retention(keep_last=0), Retention(keep_last=3), Retention(max_age=5 * DAY),
            Retention(keep_last=4, max_age=6 * DAY), Retention(on_terminal="delete"), Retention(keep_last=99),
            Retention(keep_last=2, on_terminal="delete"), Retention(max_age=0.5), Retention(max_age=99 * DAY),
        ):  # fmt: skip
            expected = _expired(every, retention, NOW + DAY)
            for limit in (1, 4, 99):
                page, found = await store.expired(retention, NOW + DAY, limit), list[RunRecord]()
                while page and len(found) < len(expected):
                    found += page
                    page = await store.expired(retention, NOW + DAY, limit, page[-1].place)
                assert [*found, *page] == expected

    @clause
    async def test_finished_runs_are_deleted_together(self, store: StoreBackend) -> None:
        """`delete_finished` deletes those of the runs that have finished and have no lease, and returns their ids."""
        if not isinstance(store, PruningStore):
            return
        for status in RunStatus:
            await store.create(new_run(status.value, data=values(store, a=1)))
            await store.put_signal(status.value, Signal("1", "go"))
            await store.commit(step(1, status.value, status=status, release=True))
        await store.create(free_run("kept", status=RunStatus.SUCCEEDED))
        for run_id, expires in (("held", LATER), ("at its end", NOW), ("expired", NOW - 1)):
            await store.create(new_run(run_id, status=RunStatus.FAILED, expires=expires))
        ids = [run.run_id for run in await store.runs(RunFilter()) if run.run_id != "kept"]
        gone = {"succeeded", "failed", "cancelled", "expired"}

        entry = AuditEntry(None, "prune", "ada", NOW, "detail")
        audit = [entry] if store.capabilities.audit else []
        assert sorted(await store.delete_finished([*ids, "never"], NOW, *audit)) == sorted(gone)
        assert {run.run_id for run in await store.runs(RunFilter())} == {*ids, "kept"} - gone
        assert list(await store.delete_finished(ids, NOW)) == []
        assert list(await store.delete_finished([], NOW)) == []
        for run_id in gone:
            assert await store.load(run_id) is None
            assert list(await store.history(run_id)) == []
            assert (await store.signals(run_id)).waiting == []
            await store.create(new_run(run_id))
            await store.commit(step(1, run_id, changed=values(store, b=2)))
            assert (await loaded(store, run_id)).data == values(store, b=2)
        assert (await loaded(store, "kept")).status is RunStatus.SUCCEEDED
        if isinstance(store, AuditingStore) and store.capabilities.audit:
            assert sorted(await store.audit(None, None)) == sorted(entry._replace(run_id=run_id) for run_id in gone)


def _expired(every: Sequence[RunRecord], retention: Retention, now: float) -> list[RunRecord]:
    """Return the expired ones among the listed runs, oldest first."""
    newer, found = dict[str, int](), list[RunRecord]()
    for run in every:
        if run.status.finished:
            count = newer[run.workflow] = newer.get(run.workflow, -1) + 1
            if retention.expired(count, now - run.updated):
                found.append(run)
    return found[::-1]
