"""The store contract: leases and their fencing tokens."""

from __future__ import annotations

import asyncio
import math

from cano.protocols import StoreBackend
from cano.records import RunStatus
from cano.run_filter import RunFilter
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    free_run,
    loaded,
    new_run,
    promised,
    step,
    values,
)


class LeaseClauses(Contract):
    """Leases and their fencing tokens."""

    @clause
    async def test_a_free_run_can_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a run without a holder returns its token plus one, stores the lease, and changes nothing else."""
        await store.create(free_run(data=values(store, a=1)))

        assert await store.claim("run", "me", NOW, LATER) == 1
        assert await loaded(store) == new_run(data=values(store, a=1))
        assert [entry.seq for entry in await store.history("run")] == promised(store, [0])

    @clause
    async def test_a_held_run_cannot_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a held run returns None and changes nothing, even if the holder itself claims it."""
        await store.create(new_run())

        assert await store.claim("run", "another", NOW, LATER + 9) is None
        assert await store.claim("run", "me", NOW, LATER + 9) is None
        assert await loaded(store) == new_run()

    @clause
    async def test_a_lease_ends_after_its_last_moment(self, store: StoreBackend) -> None:
        """A lease lasts while `now <= expires`: the run can be claimed when `expires < now`, not yet at `expires`."""
        await store.create(new_run())

        assert await store.claim("run", "another", LATER, LATER + 9) is None
        assert await store.claim("run", "another", math.nextafter(LATER, math.inf), LATER + 9) == 2
        assert await loaded(store) == new_run(holder="another", expires=LATER + 9, token=2)

    @clause
    async def test_half_a_lease_is_none(self, store: StoreBackend) -> None:
        """A run with a holder and no `expires`, or the reverse, is ready and can be claimed."""
        await store.create(new_run("for ever", expires=None))
        await store.create(new_run("by none", holder=None))

        assert {run.run_id for run in await store.ready(NOW)} == {"for ever", "by none"}
        for run_id in ("for ever", "by none"):
            assert await store.claim(run_id, "another", NOW, LATER) == 2
            assert await loaded(store, run_id) == new_run(run_id, holder="another", token=2)

    @clause
    async def test_the_token_grows_by_one_with_each_claim(self, store: StoreBackend) -> None:
        """Each claim gets the next token, by any holder, after a lease that expired or was released."""
        await store.create(free_run())
        for token in range(1, 7):
            assert await store.claim("run", "me" if token < 4 else "another", NOW + token, NOW + token) == token
            if token % 2:
                await store.release("run", token)
            assert (await loaded(store)).token == token

    @clause
    async def test_an_unknown_run_cannot_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a run that does not exist returns None, and creates no run."""
        assert await store.claim("run", "me", NOW, LATER) is None
        assert await store.load("run") is None
        assert list(await store.runs(RunFilter())) == []

    @clause
    async def test_a_run_can_be_claimed_in_any_status(self, store: StoreBackend) -> None:
        """A claim depends on the lease only: a run can be claimed in any status, even a finished one."""
        for status in RunStatus:
            await store.create(free_run(status.value, status=status))
            assert await store.claim(status.value, "me", NOW, LATER) == 1
            assert await loaded(store, status.value) == new_run(status.value, status=status)

    @clause
    async def test_of_twenty_claims_at_once_one_wins(self, store: StoreBackend) -> None:
        """If many holders claim a run at once, without a lease or with an expired one, exactly one succeeds."""
        await store.create(free_run())
        for token, now in ((1, NOW), (2, LATER + 1)):
            claims = (store.claim("run", f"holder {n}", now, now + 30) for n in range(20))
            answers = await asyncio.gather(*claims)

            assert sorted(answers, key=str) == sorted([token, *[None] * 19], key=str)
            assert await loaded(store) == new_run(
                holder=f"holder {answers.index(token)}", expires=now + 30, token=token
            )

    @clause
    async def test_renewing_extends_the_leases(self, store: StoreBackend) -> None:
        """`renew` extends every lease that this holder still has with that token, and changes nothing else."""
        runs = [new_run(str(n), token=n + 1) for n in range(5)]
        for run in runs:
            await store.create(run)

        assert list(await store.renew("me", {str(n): n + 1 for n in range(4)}, LATER + 5)) == []
        for run in runs[:4]:
            assert await loaded(store, run.run_id) == run._replace(expires=LATER + 5)
        assert await loaded(store, "4") == runs[4]
        assert list(await store.renew("me", {}, LATER + 5)) == []

    @clause
    async def test_renewing_reports_what_is_lost(self, store: StoreBackend) -> None:
        """`renew` returns the ids whose lease this holder has lost, does not change these, and extends the others.

        A lease is lost if the run was claimed by another holder, released or deleted, or has another holder's name.
        """
        for run_id in ("taken", "freed", "freed by commit", "deleted", "kept"):
            await store.create(new_run(run_id))
        await store.create(new_run("renamed", holder="another"))
        assert await store.claim("taken", "another", LATER + 1, LATER + 9) == 2
        await store.release("freed", 1)
        await store.commit(step(1, "freed by commit", release=True))
        lost = ["taken", "freed", "freed by commit", "renamed", "never"]
        lost += ["deleted"] if await deleted(store, "deleted") else []
        before = [await store.load(run_id) for run_id in lost]

        answer = await store.renew("me", dict.fromkeys([*lost[:3], "kept", *lost[3:]], 1), LATER + 50)

        assert sorted(answer) == sorted(lost)
        assert [await store.load(run_id) for run_id in lost] == before
        assert (await loaded(store, "kept")).expires == LATER + 50

    @clause
    async def test_many_leases_are_renewed_at_once(self, store: StoreBackend) -> None:
        """`renew` accepts thousands of leases in one call, and reports each lost one."""
        for run_id in ("first", "last"):
            await store.create(new_run(run_id))
        gone = [f"gone {number}" for number in range(5000)]

        assert sorted(await store.renew("me", dict.fromkeys(["first", *gone, "last"], 1), LATER + 5)) == sorted(gone)
        assert [(await loaded(store, run_id)).expires for run_id in ("first", "last")] == [LATER + 5] * 2

    @clause
    async def test_renewing_saves_a_lease_that_nobody_took(self, store: StoreBackend) -> None:
        """An expired lease is renewed like any other, if no other holder has claimed the run."""
        await store.create(new_run(expires=NOW - 99))

        assert list(await store.renew("me", {"run": 1}, LATER)) == []
        assert await store.claim("run", "another", NOW, LATER) is None

    @clause
    async def test_releasing_frees_the_lease(self, store: StoreBackend) -> None:
        """After `release`, the run has no holder and can be claimed at once; its token and all else do not change."""
        await store.create(new_run(data=values(store, a=1)))
        await store.release("run", 1)

        assert await loaded(store) == new_run(data=values(store, a=1), holder=None, expires=None)
        assert await store.claim("run", "another", NOW, LATER) == 2

    @clause
    async def test_releasing_with_a_stale_token_is_harmless(self, store: StoreBackend) -> None:
        """`release` with another token than the run's, or of a run that does not exist, does nothing."""
        await store.create(new_run(token=2))
        for token in (0, 1, 3):
            await store.release("run", token)
        await store.release("never", 1)

        assert await loaded(store) == new_run(token=2)
        assert await store.load("never") is None
