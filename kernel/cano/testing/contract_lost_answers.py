"""The store contract for stores on a server: a connection breaks after a call was sent and before its answer came."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from cano.errors import ConflictError
from cano.optional_stores import ClaimingStore, PruningStore
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.run_filter import RunFilter
from cano.search_attributes import encoded, ranges
from cano.signals import Signal
from cano.testing.contract_audit import auditing, entry
from cano.testing.contract_base import (
    FLOW,
    LATER,
    NOW,
    Contract,
    clause_of_url,
    deleted,
    entries,
    free_run,
    loaded,
    new_run,
    note,
    promised,
    raised,
    step,
    value,
    values,
)
from cano.testing.relay import Relay


class LostAnswersContract(Contract):
    """The behaviour of a store on a server if it does not know whether the server has executed a call.

    Each call is done once, and its caller gets the answer that was lost. A subclass puts a relay before the server.
    """

    def relayed(self, url: str) -> AbstractAsyncContextManager[tuple[str, Relay]]:
        """Return the URL that reaches the store at `url` through a `Relay`, and that relay, which is listening."""
        raise NotImplementedError(f"{type(self).__name__} must put a relay between: def relayed(self, url)")

    @asynccontextmanager
    async def far(self, url: str) -> AsyncIterator[tuple[StoreBackend, Relay]]:
        """Open a backend that reaches the store at `url` through a relay."""
        async with self.relayed(url) as (there, relay), self.opened(there) as store:
            yield store, relay

    @clause_of_url
    async def test_a_commit_whose_answer_is_lost_is_made_once(self, url: str) -> None:
        """If the answer is lost, a commit with or without a transition is applied once, and reported as applied."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            await near.create(new_run())
            for seq in range(1, 6):
                relay.lose = True
                await far.commit(step(seq, changed=values(near, **{f"k{seq}": seq})))
                relay.lose = True
                await far.commit(note(seq, changed=values(near, n=seq)))

            assert relay.lost == 10
            assert [line.seq for line in await near.history("run")] == promised(near, range(6))
            run = await loaded(near)
            assert (run.seq, run.data) == (5, values(near, k1=1, n=5, k2=2, k3=3, k4=4, k5=5))

    @clause_of_url
    async def test_a_refusal_that_is_lost_stays_a_refusal(self, url: str) -> None:
        """If the refusal of a stale commit is lost, the commit is refused all the same, and changes nothing."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            await near.create(new_run())
            await near.commit(step(1))
            before = await loaded(near), entries(await near.history("run"))
            stale = (step(1), step(3), note(0), note(1, token=9))
            for commit in stale:
                relay.lose = True
                await raised(ConflictError, far.commit(commit))

            assert relay.lost == len(stale)
            assert (await loaded(near), entries(await near.history("run"))) == before

    @clause_of_url
    async def test_a_commit_that_others_followed_is_recognised(self, url: str) -> None:
        """A commit whose answer is lost is reported as applied, even if another holder has continued the run."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            await near.create(new_run())
            relay.lose = True
            commit = asyncio.ensure_future(far.commit(step(1, changed=values(near, a=1))))
            await relay.loss.wait()
            relay.hold()
            assert await near.claim("run", "another", LATER + 1, LATER + 2) == 2
            for seq in range(2, 40):
                await near.commit(step(seq, token=2))
            relay.let_go()
            await commit

            assert [line.seq for line in await near.history("run")] == promised(near, range(40))
            assert (await loaded(near)).data == values(near, a=1)

    @clause_of_url
    async def test_many_commits_whose_answers_are_lost_are_made_once(self, url: str) -> None:
        """Of many commits whose answers are lost together, each is applied once."""
        ids = [f"run {number}" for number in range(50)]
        async with self.opened(url) as near, self.far(url) as (far, relay):
            await asyncio.gather(*(far.create(new_run(run_id)) for run_id in ids))
            for seq in range(1, 5):
                relay.lose = True
                await asyncio.gather(*(far.commit(step(seq, run_id)) for run_id in ids))

            assert relay.lost == 4
            for run_id in ids:
                assert (await loaded(near, run_id)).seq == 4
                assert [line.seq for line in await near.history(run_id)] == promised(near, range(5))

    @clause_of_url
    async def test_every_call_whose_answer_is_lost_is_made_once(self, url: str) -> None:
        """Any other call whose answer is lost is done once, and returns the lost answer."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            run = free_run(status=RunStatus.PARKED, wait=Wait(then="B", signal="go"))
            relay.lose = True
            assert await far.create(run) == run
            relay.lose = True
            await far.put_signal("run", Signal("1", "go", value(near, 1)))
            relay.lose = True
            assert await far.claim("run", "me", NOW, LATER) == 1
            relay.lose = True
            assert list(await far.renew("me", {"run": 1, "other": 1}, LATER + 1)) == ["other"]
            assert await loaded(near) == run._replace(holder="me", expires=LATER + 1, token=1)
            relay.lose = True
            await far.release("run", 1)
            assert [each.run_id for each in await near.ready(NOW)] == ["run"]
            assert await near.claim("run", "me", NOW, LATER) == 2
            relay.lose = True
            await far.commit(note(0, token=2, consumed=["1"]))
            assert [list(each) for each in await near.signals("run")] == [[], ["1"], [], []]
            assert relay.lost == 6
            relay.lose = True
            if near.capabilities.retention:
                assert await far.delete("run")
                relay.lose = True
                assert not await far.delete("run")
            else:
                assert not await deleted(far, "run")

    @clause_of_url
    async def test_attributes_whose_answer_is_lost_are_written_once(self, url: str) -> None:
        """A run is found by the attributes of its creation and of its last commit, and never by those of an earlier one
        that is asked for again. For a store without `attributes`, this ends at once.
        """
        async with self.opened(url) as near, self.far(url) as (far, relay):
            if not near.capabilities.attributes:
                return

            async def check(found: str) -> None:
                for value in "abcd":
                    wanted = RunFilter(attributes={"x": ranges("=", [encoded(value)])})
                    assert [run.run_id for run in await near.runs(wanted)] == ["run"] * (value == found)

            relay.lose = True
            await far.create(new_run(attributes={"x": encoded("a")}))
            await check("a")
            relay.lose = True
            await far.commit(step(1, attributes={"x": encoded("b"), "y": encoded(1)}))
            await check("b")
            relay.lose = True
            relay.loss.clear()
            commit = asyncio.ensure_future(far.commit(step(2, attributes={"x": encoded("c")})))
            await relay.loss.wait()
            relay.hold()
            assert await near.claim("run", "another", LATER + 1, LATER + 2) == 2
            await near.commit(step(3, token=2, attributes={"x": encoded("d")}))
            relay.let_go()
            await commit
            await check("d")
            assert relay.lost == 3

    @clause_of_url
    async def test_a_claim_of_many_whose_answer_is_lost_is_made_once(self, url: str) -> None:
        """The claimed runs are returned all the same, each claimed once. For a store without `claims`, this ends."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            if not isinstance(far, ClaimingStore):
                return
            runs = [free_run("a"), free_run("b"), free_run("c", status=RunStatus.PARKED, wait=Wait("B", until=NOW))]
            for run in runs:
                await near.create(run)
            relay.lose = True
            claimed = await far.claim_ready([FLOW], 9, "me", NOW, LATER)

            assert relay.lost == 1
            held = [run._replace(holder="me", expires=LATER, token=1) for run in runs]
            assert sorted((each.run_id, each.token) for each in claimed) == [("a", 1), ("b", 1), ("c", 1)]
            assert sorted([each.record for each in claimed if each.record], key=lambda run: run.run_id) == held
            assert [await loaded(near, run.run_id) for run in runs] == held
            assert list(await far.claim_ready([FLOW], 9, "me", NOW, LATER)) == []

    @clause_of_url
    async def test_a_deletion_of_many_whose_answer_is_lost_is_reported(self, url: str) -> None:
        """`delete_finished` returns the ids of the deleted runs all the same. Without `prune`, this ends."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            if not isinstance(far, PruningStore):
                return
            for run_id in "abc":
                await near.create(free_run(run_id, status=RunStatus.FAILED if run_id < "c" else RunStatus.RUNNING))
            relay.lose = True

            assert sorted(await far.delete_finished([*"abc"], NOW)) == ["a", "b"]
            assert relay.lost == 1
            assert [run.run_id for run in await near.runs(RunFilter())] == ["c"]

    @clause_of_url
    async def test_an_action_whose_answer_is_lost_leaves_one_entry(self, url: str) -> None:
        """An action is in the audit once, if its answer is lost. For a store without an audit, this ends at once."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            if (here := auditing(near)) is None or (there := auditing(far)) is None:
                return
            made = [entry(each, at=NOW + n) for n, each in enumerate(["fork", "signal", "resume", "import", "delete"])]
            relay.lose = True
            await there.create(new_run(), made[0])
            relay.lose = True
            await there.put_signal("run", Signal("1", "go"), made[1])
            relay.lose = True
            await there.commit(step(1), made[2])
            relay.lose = True
            await there.add_audit([made[3]])
            if near.capabilities.retention:
                relay.lose = True
                assert await there.delete("run", made[4])
            count = 5 if near.capabilities.retention else 4
            assert relay.lost == count
            assert list(await here.audit("run", None)) == made[:count]

    @clause_of_url
    async def test_a_cancelled_commit_is_not_asked_for_again(self, url: str) -> None:
        """A commit that is cancelled while its connection breaks is applied or not, and is not applied later."""
        async with self.opened(url) as near, self.far(url) as (far, relay):
            await near.create(new_run())
            for turns in range(12):
                seq = (await loaded(near)).seq
                relay.lose = True
                commit = asyncio.ensure_future(far.commit(step(seq + 1)))
                for _ in range(turns):
                    await asyncio.sleep(0)
                commit.cancel()
                (answer,) = await asyncio.gather(commit, return_exceptions=True)
                assert answer is None or isinstance(answer, asyncio.CancelledError)
                seen = await loaded(far)
                assert seen.seq in (seq, seq + 1)
                for _ in range(20):  # a commit behind the caller's back would show here
                    assert await loaded(near) == seen
            await far.commit(step(seen.seq + 1))

            assert [line.seq for line in await near.history("run")] == promised(near, range(seen.seq + 2))
