"""The store contract: claiming runs that are ready, many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cano.optional_stores import ClaimingStore
from cano.protocols import StoreBackend
from cano.records import ClaimedRun, RunRecord, RunStatus, Wait
from cano.signals import Signal
from cano.testing.contract_base import (
    FLOW,
    LATER,
    NOW,
    Contract,
    clause,
    entries,
    free_run,
    loaded,
    new_run,
    step,
    values,
)


def _parked(run_id: str, until: float | None = None, signal: str | None = None, own: bool = False) -> RunRecord:
    return free_run(run_id, status=RunStatus.PARKED, wait=Wait("B", signal, until, own=own))


async def _claimed(store: ClaimingStore, limit: int, *skip: str, holder: str = "me") -> list[str]:
    found = await store.claim_ready([FLOW], limit, holder, NOW, LATER, skip)
    return sorted(each.run_id for each in found)


class ClaimClauses(Contract):
    """A store with `capabilities.claims` is a `ClaimingStore`; others have no `claim_ready`."""

    @clause
    async def test_what_is_ready_is_claimed_together(self, store: StoreBackend) -> None:
        """`claim_ready` claims the runs that are ready and have no holder; it returns each as it is after the claim."""
        assert isinstance(store, ClaimingStore) == store.capabilities.claims, "claims and claim_ready go together"
        if not isinstance(store, ClaimingStore):
            return
        ready = [
            free_run("new", data=values(store, a=1)), free_run("due", token=4), _parked("time", NOW),
            _parked("signal", LATER, "go"), _parked("own", None, "go", own=True), _parked("both", NOW, "go"),
        ]  # fmt: skip
        others = [
            new_run("held"), new_run("expired", expires=NOW - 9), new_run("for ever", expires=None),
            free_run("ended", status=RunStatus.FAILED), _parked("later", LATER), _parked("waits", None, "other"),
            _parked("not own", None, "go", own=True), free_run("workflow", workflow="other"),
            free_run("version", version="other"), free_run("fingerprint", fingerprint="other"),
        ]  # fmt: skip
        for run in [*ready, *others]:
            await store.create(run)
        for run_id, own in (("signal", False), ("own", True), ("both", False), ("waits", False), ("not own", False)):
            await store.put_signal(run_id, Signal("1", "go", own=own))
        before = [await store.load(run.run_id) for run in others]

        claimed = {each.run_id: each for each in await store.claim_ready([FLOW], 99, "me", NOW, LATER)}

        assert sorted(claimed) == sorted(run.run_id for run in ready)
        for run in ready:
            record = run._replace(holder="me", expires=LATER, token=run.token + 1)
            signals = run.run_id in ("signal", "own", "both")
            assert claimed[run.run_id] == ClaimedRun(run.run_id, run.token + 1, record, signals)
            assert await store.load(run.run_id) == record
            assert len(entries(await store.history(run.run_id))) == store.capabilities.history
        assert [await store.load(run.run_id) for run in others] == before
        assert await _claimed(store, 99) == []

    @clause
    async def test_a_claim_of_many_has_all_data(self, store: StoreBackend) -> None:
        """The claimed records have the data of all commits, and a signal that was consumed is not there any more."""
        if not isinstance(store, ClaimingStore):
            return
        for run_id in ("a", "b"):
            await store.create(new_run(run_id, data=values(store, first=0)))
            await store.put_signal(run_id, Signal("1", "go"))
            for seq in range(1, 6):
                data = values(store, **{f"{run_id}{seq}": seq})
                await store.commit(step(seq, run_id, changed=data, consumed=["1"] if seq == 4 else ()))
            await store.release(run_id, 1)
        found = await store.claim_ready([("other", "1", "f"), FLOW], 2, "me", NOW, LATER)

        assert [each.signals for each in found] == [False, False]
        for each in found:
            assert each.record == await loaded(store, each.run_id)
            assert (each.record.holder, len(each.record.data)) == ("me", 6)

    @clause
    async def test_a_claim_of_many_has_a_limit(self, store: StoreBackend) -> None:
        """`claim_ready` claims at most `limit` runs, none that it is to skip, and nothing without a definition."""
        if not isinstance(store, ClaimingStore):
            return
        for number in range(4):
            await store.create(free_run(f"run {number}"))
            await store.create(_parked(f"parked {number}", NOW))
        assert list(await store.claim_ready([], 9, "me", NOW, LATER)) == []
        assert await _claimed(store, 0) == []
        skip = ["run 1", "parked 1"]
        first = await _claimed(store, 5, *skip)
        rest = await _claimed(store, 99, *skip)
        assert (len(first), len(rest)) == (5, 1)
        assert await _claimed(store, 99) == sorted(skip)
        assert len({*first, *rest, *skip}) == 8

    @clause
    async def test_claims_of_many_at_once_share(self, store: StoreBackend) -> None:
        """If many holders claim at once, no run goes to two, and each lease is that of the holder that got the run."""
        if not isinstance(store, ClaimingStore):
            return
        await asyncio.gather(*(store.create(free_run(f"run {number}")) for number in range(40)))
        found: Sequence[list[str]] = await asyncio.gather(
            *(_claimed(store, 5, holder=f"holder {number}") for number in range(8))
        )
        rest = await _claimed(store, 99)
        assert sorted(sum(found, rest)) == sorted(f"run {number}" for number in range(40))
        for number, run_ids in enumerate(found):
            assert len(run_ids) <= 5
            for run_id in run_ids:
                run = await loaded(store, run_id)
                assert (run.holder, run.token) == (f"holder {number}", 1)
