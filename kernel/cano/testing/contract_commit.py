"""The store contract: commits are atomic, and stale ones are refused."""

from __future__ import annotations

import asyncio

from cano.errors import ConflictError
from cano.protocols import StoreBackend
from cano.records import Commit, RunStatus, Wait
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    loaded,
    new_run,
    note,
    promised,
    raised,
    step,
    stored,
    value,
    values,
)


class CommitClauses(Contract):
    """Commits are atomic, and stale ones are refused."""

    @clause
    async def test_a_commit_makes_the_transition_and_the_changes(self, store: StoreBackend) -> None:
        """State, seq, status, time, changed and removed keys of a commit all take effect together."""
        await store.create(new_run(data=values(store, a=1, b=2)))
        await store.commit(step(1, status=RunStatus.SUCCEEDED, changed=values(store, a=3, c=4), removed=["b"]))

        assert await loaded(store) == new_run(
            state="S1", seq=1, status=RunStatus.SUCCEEDED, updated=NOW + 1, data=values(store, a=3, c=4)
        )

    @clause
    async def test_keys_that_are_not_named_stay(self, store: StoreBackend) -> None:
        """A commit changes the keys that it names and no other; one that names none changes none."""
        await store.create(new_run(data=values(store, a=1, b=2)))
        await store.commit(step(1, changed=values(store, c=3)))
        await store.commit(step(2, removed=["a"]))
        await store.commit(step(3))

        assert (await loaded(store)).data == values(store, b=2, c=3)

    @clause
    async def test_removed_comes_before_changed(self, store: StoreBackend) -> None:
        """A key that is both removed and changed has its new value."""
        await store.create(new_run(data=values(store, a=1)))
        await store.commit(step(1, removed=["a"], changed=values(store, a=2)))

        assert (await loaded(store)).data == values(store, a=2)

    @clause
    async def test_removing_what_is_not_there_is_harmless(self, store: StoreBackend) -> None:
        """A commit may remove a key that the run does not have, or one key twice."""
        await store.create(new_run(data=values(store, a=1, b=2)))
        await store.commit(step(1, removed=["nothing", "b", "b"], changed=values(store, c=3)))

        assert (await loaded(store)).data == values(store, a=1, c=3)

    @clause
    async def test_a_stale_seq_is_refused(self, store: StoreBackend) -> None:
        """A commit that expects another seq than the run's, lower or higher, raises ConflictError and changes nothing.

        It sets no keys, releases no lease and consumes no signals.
        """
        await store.create(new_run(data=values(store, a=1)))
        await store.put_signal("run", Signal("1", "go"))
        await store.commit(step(1))
        before = await stored(store)

        for stale in (step(1), step(3), note(0), note(2)):
            await raised(ConflictError, store.commit(_all_of(stale, store)))
            assert await stored(store) == before

    @clause
    async def test_a_stale_token_is_refused(self, store: StoreBackend) -> None:
        """A commit with another token than the run's, lower or higher, raises ConflictError and changes nothing.

        It sets no keys, releases no lease and consumes no signals.
        """
        await store.create(new_run(data=values(store, a=1)))
        await store.put_signal("run", Signal("1", "go"))
        assert await store.claim("run", "another", LATER + 1, LATER + 9) == 2
        before = await stored(store)

        for token in (0, 1, 3):
            for stale in (step(1, token=token), note(0, token=token)):
                await raised(ConflictError, store.commit(_all_of(stale, store)))
                assert await stored(store) == before
        await store.commit(step(1, token=2))

    @clause
    async def test_a_run_that_is_gone_is_refused(self, store: StoreBackend) -> None:
        """A commit to a run that was deleted, or never existed, raises ConflictError and creates no run."""
        gone = ["never"]
        await store.create(new_run("deleted"))
        gone += ["deleted"] if await deleted(store, "deleted") else []
        for run_id in gone:
            for stale in (step(1, run_id), note(0, run_id), note(0, run_id, token=0)):
                await raised(ConflictError, store.commit(_all_of(stale, store)))
            assert await store.load(run_id) is None
            assert list(await store.history(run_id)) == []
        assert {run.run_id for run in await store.runs(RunFilter())}.isdisjoint(gone)

    @clause
    async def test_a_refusal_names_the_run(self, store: StoreBackend) -> None:
        """A ConflictError has the run's id, as its attribute and in its message."""
        await store.create(new_run())
        for stale in (step(2), step(1, token=2), step(1, "gone")):
            error = await raised(ConflictError, store.commit(stale))
            assert error.run_id == stale.run_id
            assert stale.run_id in str(error)

    @clause
    async def test_the_token_decides_and_not_the_clock(self, store: StoreBackend) -> None:
        """The holder of an expired lease can still commit: only another claim makes its token stale."""
        await store.create(new_run(expires=NOW - 1))
        await store.commit(step(1))
        assert (await loaded(store)).seq == 1

        assert await store.claim("run", "another", NOW, LATER) == 2
        await raised(ConflictError, store.commit(step(2)))

    @clause
    async def test_a_commit_without_a_transition_changes_the_record(self, store: StoreBackend) -> None:
        """A commit whose seq is the expected one changes state, status, wait, error, payload, data; not the seq."""
        await store.create(new_run(data=values(store, a=1)))
        wait, error = Wait(then="B", signal="go"), {"class": "E"}
        for status in (RunStatus.PARKED, RunStatus.FAILED):
            await store.commit(
                note(0, state="X", status=status, wait=wait, error=error, payload=value(store, 5),
                     changed=values(store, b=2), removed=["a"], at=NOW + 8)
            )  # fmt: skip
            assert await loaded(store) == new_run(
                state="X", status=status, wait=wait, error=error, payload=value(store, 5), data=values(store, b=2),
                updated=NOW + 8,
            )  # fmt: skip

    @clause
    async def test_a_commit_keeps_the_lease(self, store: StoreBackend) -> None:
        """A commit leaves holder, expiry and token as they are, whatever status it gives the run."""
        await store.create(new_run())
        for seq, status in enumerate(RunStatus, 1):
            await store.commit(step(seq, status=status))
            run = await loaded(store)
            assert (run.holder, run.expires, run.token) == ("me", LATER, 1)

    @clause
    async def test_a_commit_can_release_the_lease(self, store: StoreBackend) -> None:
        """With `release`, a commit also releases the lease: the run has no holder, and its token does not change."""
        await store.create(new_run())
        await store.commit(step(1, release=True, changed=values(store, a=1)))

        run = await loaded(store)
        assert (run.seq, run.data) == (1, values(store, a=1))
        assert (run.holder, run.expires, run.token) == (None, None, 1)
        assert await store.claim("run", "another", NOW, LATER) == 2

    @clause
    async def test_a_freed_run_commits_until_it_is_claimed(self, store: StoreBackend) -> None:
        """After a release, the last holder can still commit with its token. The commit does not claim the run."""
        await store.create(new_run())
        await store.release("run", 1)
        await store.commit(step(1))
        run = await loaded(store)
        assert (run.seq, run.holder, run.expires, run.token) == (1, None, None, 1)

        assert await store.claim("run", "another", NOW, LATER) == 2
        await raised(ConflictError, store.commit(step(2)))

    @clause
    async def test_a_commit_may_be_large(self, store: StoreBackend) -> None:
        """One commit may change, remove and consume thousands of items; it is applied completely all the same."""
        keys = [f"key {number}" for number in range(5000)]
        await store.create(new_run(data={key: value(store, 0) for key in keys}))
        for each in ("first", "last"):
            await store.put_signal("run", Signal(each, "go"))
        changed = {f"new {key}": value(store, 1) for key in keys}
        await store.commit(step(1, changed=changed, removed=keys, consumed=["first", *keys, "last"]))

        assert (await loaded(store)).data == changed
        history = [(len(entry.changed), list(entry.removed)) for entry in await store.history("run")]
        assert history == promised(store, [(5000, []), (5000, keys)])
        assert await store.next_signal("run", "go") is None

    @clause
    async def test_of_twenty_commits_at_once_one_wins(self, store: StoreBackend) -> None:
        """Of many commits that expect the same seq, exactly one is applied, completely; the others are refused."""
        await store.create(new_run())
        answers = await asyncio.gather(
            *(store.commit(step(1, changed=values(store, a=n, b=n))) for n in range(20)), return_exceptions=True
        )

        winners = [number for number, answer in enumerate(answers) if answer is None]
        assert len(winners) == 1, winners
        assert [type(answer) for answer in answers].count(ConflictError) == 19
        won = values(store, a=winners[0], b=winners[0])
        assert (await loaded(store)).data == won
        assert [(entry.seq, entry.changed) for entry in await store.history("run")] == promised(
            store, [(0, {}), (1, won)]
        )


def _all_of(stale: Commit, store: StoreBackend) -> Commit:
    """Return the same commit, with a change of everything that a commit can change."""
    return stale._replace(
        state="X", status=RunStatus.FAILED, changed=values(store, b=9), removed=["a"], error={"class": "E"},
        wait=Wait(then="B"), payload=value(store, 9), consumed=["1"], release=True, at=NOW + 999,
    )  # fmt: skip
