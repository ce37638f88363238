"""The store contract: leases and their fencing tokens."""

from __future__ import annotations

import asyncio
import math

from cano.protocols import StoreBackend
from cano.records import RunFilter, RunStatus
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    free_run,
    loaded,
    new_run,
    step,
    told,
    values,
)


class LeaseClauses(Contract):
    """Leases and their fencing tokens."""

    @clause
    async def test_a_free_run_can_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a run that nobody holds returns its token plus one, notes the lease, and changes nothing else."""
        await store.create(free_run(data=values(store, a=1)))

        assert await store.claim("run", "me", NOW, LATER) == 1
        assert await loaded(store) == new_run(data=values(store, a=1))
        assert [line.seq for line in await store.history("run")] == told(store, [0])

    @clause
    async def test_a_held_run_cannot_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a run that is held returns None and changes nothing, also where the holder itself claims again."""
        await store.create(new_run())

        assert await store.claim("run", "another", NOW, LATER + 9) is None
        assert await store.claim("run", "me", NOW, LATER + 9) is None
        assert await loaded(store) == new_run()

    @clause
    async def test_a_lease_ends_after_its_last_moment(self, store: StoreBackend) -> None:
        """A lease holds while `now <= expires`: it is free as soon as `expires < now`, and not at `expires` itself."""
        await store.create(new_run())

        assert await store.claim("run", "another", LATER, LATER + 9) is None
        assert await store.claim("run", "another", math.nextafter(LATER, math.inf), LATER + 9) == 2
        assert await loaded(store) == new_run(holder="another", expires=LATER + 9, token=2)

    @clause
    async def test_the_token_grows_by_one_with_each_claim(self, store: StoreBackend) -> None:
        """Each claim has the next token, whether the lease before it ran out or was freed, and whoever claims."""
        await store.create(free_run())
        for token in range(1, 7):
            assert await store.claim("run", "me" if token < 4 else "another", NOW + token, NOW + token) == token
            if token % 2:
                await store.release("run", token)
            assert (await loaded(store)).token == token

    @clause
    async def test_an_unknown_run_cannot_be_claimed(self, store: StoreBackend) -> None:
        """A claim of a run that is not there returns None, and makes none."""
        assert await store.claim("run", "me", NOW, LATER) is None
        assert await store.load("run") is None
        assert list(await store.runs(RunFilter())) == []

    @clause
    async def test_a_run_can_be_claimed_in_any_status(self, store: StoreBackend) -> None:
        """A claim looks at the lease alone: a run may be claimed in any status, a finished one too."""
        for status in RunStatus:
            await store.create(free_run(status.value, status=status))
            assert await store.claim(status.value, "me", NOW, LATER) == 1
            assert await loaded(store, status.value) == new_run(status.value, status=status)

    @clause
    async def test_of_twenty_claims_at_once_one_wins(self, store: StoreBackend) -> None:
        """Of many who claim a free run at once, or one whose lease has run out, exactly one gets it."""
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
        """`renew` moves the expiry of every lease that is still held by this holder and token, and changes no more."""
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
        """`renew` returns the ids that this holder and token no longer hold, leaves those alone, extends the others.

        Lost is a run that was claimed by another, freed, deleted, or that is held by the same token but another name.
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
        """`renew` takes thousands of leases in one call, and answers for each of them."""
        for run_id in ("first", "last"):
            await store.create(new_run(run_id))
        gone = [f"gone {number}" for number in range(5000)]

        assert sorted(await store.renew("me", dict.fromkeys(["first", *gone, "last"], 1), LATER + 5)) == sorted(gone)
        assert [(await loaded(store, run_id)).expires for run_id in ("first", "last")] == [LATER + 5] * 2

    @clause
    async def test_renewing_saves_a_lease_that_nobody_took(self, store: StoreBackend) -> None:
        """A lease that has run out, but that nobody claimed, is renewed like any other."""
        await store.create(new_run(expires=NOW - 99))

        assert list(await store.renew("me", {"run": 1}, LATER)) == []
        assert await store.claim("run", "another", NOW, LATER) is None

    @clause
    async def test_releasing_frees_the_lease(self, store: StoreBackend) -> None:
        """After `release` nobody holds the run, its token and all else stay, and it can be claimed at once."""
        await store.create(new_run(data=values(store, a=1)))
        await store.release("run", 1)

        assert await loaded(store) == new_run(data=values(store, a=1), holder=None, expires=None)
        assert await store.claim("run", "another", NOW, LATER) == 2

    @clause
    async def test_releasing_with_a_stale_token_is_harmless(self, store: StoreBackend) -> None:
        """`release` with another token than the run's, or of a run that is not there, does nothing."""
        await store.create(new_run(token=2))
        for token in (0, 1, 3):
            await store.release("run", token)
        await store.release("never", 1)

        assert await loaded(store) == new_run(token=2)
        assert await store.load("never") is None
