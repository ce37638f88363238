"""The store contract: the queues of submitted runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from cano.lanes import Lane
from cano.optional_stores import QueueStore, read_ready
from cano.protocols import StoreBackend
from cano.records import RunRecord, RunStatus, Wait
from cano.run_filter import RunFilter
from cano.testing.contract_base import FLOW, LATER, NOW, Contract, clause, free_run, loaded, new_run, note, step, values

OTHER = ("flow", "2", "f2")
"""Another definition."""
DEFAULT = Lane()
WAIT = Wait("S0", until=LATER)
"""The wait of a run that was submitted with a delay."""


def queued(run_id: str, queue: str = "default", priority: int = 0, key: str = "", **fields: Any) -> RunRecord:
    """Return a submitted run."""
    return free_run(run_id, lane=Lane(queue, priority, key), **fields)


def delayed(run_id: str, until: float = LATER, *, lane: Lane = DEFAULT, **fields: Any) -> RunRecord:
    """Return a run that was submitted with a delay."""
    return free_run(run_id, lane=lane, status=RunStatus.PARKED, wait=WAIT._replace(until=until), **fields)


async def claimed(
    store: QueueStore,
    limit: int = 99,
    *queues: str,
    now: float = NOW,
    holder: str = "me",
    definitions: Sequence[tuple[str, str, str]] = (FLOW,),
) -> list[str]:
    """Claim runs as a kernel does, until there are as many, or no more of them. Return their ids, in that order."""
    ids = list[str]()
    while len(ids) < limit:
        given = limit - len(ids), holder, now, now + 30, (), queues or None
        found = await store.claim_ready(list(definitions), *given)
        new = [each.run_id for each in found]
        assert len(new) <= limit - len(ids), "more runs were claimed than asked for"
        ids += new
        if not new:
            break
    return ids


class QueueClauses(Contract):
    """A store with `capabilities.queues` is a `QueueStore`; others have no `queue_sizes`."""

    @clause
    async def test_a_run_keeps_its_lane(self, store: StoreBackend) -> None:
        """A lane is stored with a run, of any status, and does not change; runs without one have none."""
        assert isinstance(store, QueueStore) == store.capabilities.queues, "queues and queue_sizes go together"
        if not isinstance(store, QueueStore):
            return
        runs = [
            queued("new", "a", 7, "tenant"), queued("default"), delayed("delayed", lane=Lane("größe", key="ß €")),
            new_run("held", lane=Lane("b", -7)), free_run("ended", status=RunStatus.FAILED, lane=Lane(key="x")),
            free_run("forked", token=1, seq=3, lane=Lane("a")), free_run("none"), new_run("none held"),
        ]  # fmt: skip
        for run in runs:
            assert await store.create(run) == run
            assert await store.create(run) == run
        for run in runs:
            assert await loaded(store, run.run_id) == run
            for entry in await store.history(run.run_id):
                assert (entry.seq, entry.status) == (run.seq, run.status)
        assert {run.run_id: run.lane for run in await store.runs(RunFilter())} == {run.run_id: run.lane for run in runs}
        for status in (RunStatus.RUNNING, RunStatus.PARKED):
            found = await store.runs(RunFilter(status=status, limit=9))
            assert sorted(run.run_id for run in found) == sorted(run.run_id for run in runs if run.status is status)
            assert {run.status for run in found} == {status}

        claims = {each.run_id: each.record for each in await store.claim_ready([FLOW], 9, "me", LATER, LATER + 9)}
        claims |= {
            each.run_id: each.record for each in await store.claim_ready([FLOW], 9, "me", LATER, LATER + 9)
        }  # those in a queue may come after the others
        claims |= {each.run_id: each.record for each in await store.claim_ready([FLOW], 9, "me", LATER, LATER + 9)}
        assert sorted(claims) == ["default", "delayed", "forked", "new", "none"]
        for run in runs:
            if run.run_id in claims:
                run = run._replace(holder="me", expires=LATER + 9, token=run.token + 1)
                assert claims[run.run_id] == run
                await store.commit(step(run.seq + 1, run.run_id, token=run.token))
                assert (await loaded(store, run.run_id)).lane == run.lane

    @clause
    async def test_runs_begin_by_priority_and_age(self, store: StoreBackend) -> None:
        """Runs that have begun come first; then larger priorities, and of one lane, those that were stored first."""
        if not isinstance(store, QueueStore):
            return
        for number, priority in enumerate((0, 5, -1, 0, 5, 32_000, -32_000)):
            await store.create(queued(f"{number}", priority=priority, created=NOW - number))
        await store.create(new_run("begun", lane=Lane(priority=-9)))
        await store.release("begun", 1)
        await store.create(free_run("woken", status=RunStatus.PARKED, wait=Wait("B", until=NOW), token=1, lane=Lane()))
        await store.create(free_run("no lane"))

        found = await claimed(store, 5)
        assert sorted(found[:3]) == ["begun", "no lane", "woken"]
        assert found[3:] == ["5", "1"]
        await store.create(queued("late", priority=1))
        assert await claimed(store) == ["4", "late", "0", "3", "2", "6"]

    @clause
    async def test_keys_take_turns(self, store: StoreBackend) -> None:
        """Keys with work differ by one turn at most, however many runs they have, and however few a claim takes."""
        if not isinstance(store, QueueStore):
            return
        sizes = {"": 4, "a": 40, "b": 9, "a b": 9, "ä": 9, "c\x01": 2, "z": 1}
        runs = [queued(f"{key} {n}", key=key) for key, size in sizes.items() for n in range(size)]
        await asyncio.gather(*map(store.create, runs))
        for run in runs[:6]:  # of the first two keys, those that were put back
            assert await store.claim(run.run_id, "me", NOW, LATER) == 1
            await store.commit(note(0, run.run_id, state=run.state, at=run.created - 1, release=True))
        taken, left = Counter[str](), Counter(sizes)
        for limit in (1, 1, 3, 2, 7, 1, 5, 8, 4, 1, 1, 2, 9, 20):
            now = Counter(run_id.rpartition(" ")[0] for run_id in await claimed(store, limit))
            assert sum(now.values()) == min(limit, left.total())
            taken, left = taken + now, left - now
            turns = [taken[key] for key, rest in left.items() if rest > 0]
            assert not turns or max(turns) - min(turns) <= 1, taken
        assert len(await claimed(store)) == len(runs) - taken.total()

    @clause
    async def test_many_keys_take_turns(self, store: StoreBackend) -> None:
        """Of more keys than a claim takes, each has a run begun before any has its second; of each priority."""
        if not isinstance(store, QueueStore):
            return
        for priority in (1, 0):
            keys = [f"key {number}" for number in range(12)]
            runs = [queued(f"{priority} {key}-{n}", priority=priority, key=key) for key in keys for n in range(2)]
            await asyncio.gather(*map(store.create, runs))
        for priority in (1, 0):
            for _ in range(2):
                found = [run_id for _ in range(4) for run_id in await claimed(store, 3)]
                assert sorted(run_id.rpartition("-")[0] for run_id in found) == sorted(f"{priority} {k}" for k in keys)
        assert await claimed(store) == []

    @clause
    async def test_definitions_and_queues_take_turns(self, store: StoreBackend) -> None:
        """Runs of other definitions or queues with the same key take turns, too, and hold up no other."""
        if not isinstance(store, QueueStore):
            return
        for queue in ("a", "b"):
            for name, (workflow, version, fingerprint) in (("one", FLOW), ("two", OTHER)):
                its: dict[str, Any] = {"workflow": workflow, "version": version, "fingerprint": fingerprint}
                for n in range(3):
                    await store.create(queued(f"{name} {queue} {n}", queue, **its))
        first = await claimed(store, 2, "a", definitions=[FLOW, OTHER])
        assert sorted(first) == ["one a 0", "two a 0"]
        assert await claimed(store, 9, "b", "none") == ["one b 0", "one b 1", "one b 2"]
        assert await claimed(store, 9, "none") == []
        assert await claimed(store, 9) == ["one a 1", "one a 2"]
        found = await claimed(store, 3, definitions=[FLOW, OTHER])
        assert sorted(found) in (["two a 1", "two b 0", "two b 1"], ["two a 1", "two a 2", "two b 0"])
        assert len(await claimed(store, definitions=[OTHER])) == 2

    @clause
    async def test_queues_are_those_of_all_runs(self, store: StoreBackend) -> None:
        """A claim of some queues takes no run of others: not one that has begun, nor one without a lane by default."""
        if not isinstance(store, QueueStore):
            return
        wait = Wait("B", until=NOW)
        for queue in ("a", "default"):
            lane = Lane(queue)
            await store.create(queued(f"{queue} new", queue))
            await store.create(free_run(f"{queue} begun", token=1, lane=lane))
            await store.create(free_run(f"{queue} woken", token=1, status=RunStatus.PARKED, wait=wait, lane=lane))
        await store.create(free_run("none"))
        assert sorted(await claimed(store, 9, "a")) == ["a begun", "a new", "a woken"]
        assert sorted(await claimed(store, 9, "default")) == ["default begun", "default new", "default woken", "none"]

    @clause
    async def test_a_delayed_run_enters_its_queue(self, store: StoreBackend) -> None:
        """A run that is parked for a time is in no queue before; then it begins by its priority, and stays parked."""
        if not isinstance(store, QueueStore):
            return
        await store.create(delayed("soon", LATER, lane=Lane(priority=1)))
        await store.create(delayed("now", NOW, lane=Lane(priority=2)))
        await store.create(delayed("late", LATER + 99, lane=Lane(priority=9)))
        await store.create(queued("other"))
        ready = sorted(run.run_id for run in await store.ready(NOW))
        assert ready == ["now", "other"]
        assert sorted(await claimed(store)) == ["now", "other"]
        for number in range(3):
            await store.create(queued(f"another {number}"))
        assert sorted(run.run_id for run in await store.ready(LATER))[3:] == ["soon"]
        found = [*await store.claim_ready([FLOW], 1, "me", LATER, LATER + 9)]  # it may enter its queue now
        found += await store.claim_ready([FLOW], 1, "me", LATER, LATER + 9)
        record = delayed("soon", LATER, lane=Lane(priority=1))
        assert record._replace(holder="me", expires=LATER + 9, token=1) in [each.record for each in found]
        assert len(await claimed(store, now=LATER)) == 2
        assert await store.claim("late", "me", NOW, LATER) == 1
        assert (await loaded(store, "late")).status is RunStatus.PARKED
        assert await claimed(store, now=LATER + 999) == []

    @clause
    async def test_a_claimed_run_leaves_its_queue(self, store: StoreBackend) -> None:
        """A run that was claimed, alone or in a group, is in no queue again; nor is one that has ended or is gone."""
        if not isinstance(store, QueueStore):
            return
        for number, run_id in enumerate(("alone", "group", "ended", "gone", "stays")):
            await store.create(queued(run_id, created=NOW + number))
        assert await store.claim("alone", "me", NOW, LATER) == 1
        assert await claimed(store, 1) == ["group"]
        assert await store.claim("ended", "me", NOW, LATER) == 1
        await store.commit(step(1, "ended", status=RunStatus.SUCCEEDED, release=True))
        if store.capabilities.retention:
            await store.delete("gone")
        else:
            await store.claim("gone", "me", NOW, LATER)
        stays = await loaded(store, "stays")
        assert await store.queue_sizes([FLOW], 9) == {"default": 1}
        assert await store.queued_before(stays, 9) == (0, 0)
        for run_id in ("alone", "group"):
            await store.release(run_id, 1)
        assert sorted(await claimed(store, 2)) == ["alone", "group"], "these have begun, so they come first"
        assert await claimed(store) == ["stays"]

    @clause
    async def test_a_run_that_is_released_unclaimed_enters_its_queue(self, store: StoreBackend) -> None:
        """A copy of a submitted run is created under a lease, and enters the queue when that is released."""
        if not isinstance(store, QueueStore):
            return
        await store.create(queued("copy", priority=1)._replace(holder="copier", expires=LATER))
        await store.create(queued("other"))
        assert await store.queue_sizes([FLOW], 9) == {"default": 1}
        await store.release("copy", 0)
        assert await store.queue_sizes([FLOW], 9) == {"default": 2}
        assert await claimed(store) == ["copy", "other"]
        assert (await loaded(store, "copy")).status is RunStatus.RUNNING

    @clause
    async def test_a_run_that_is_put_back_has_its_place_again(self, store: StoreBackend) -> None:
        """A run that was claimed enters its queue in its old place if a commit says that it has not begun."""
        if not isinstance(store, QueueStore):
            return
        small = Lane(priority=-2)
        for run in (queued("first"), queued("second"), queued("last", priority=-1), delayed("soon", lane=small)):
            await store.create(run)
            back = {"state": run.state, "status": run.status, "wait": run.wait, "at": run.created - 1, "release": True}
            if run.run_id != "second":
                for token in (1, 2):
                    assert await store.claim(run.run_id, "me", NOW, LATER) == token
                    await store.commit(note(0, run.run_id, token=token, **back))
                assert await store.claim(run.run_id, "me", NOW, LATER) == 3
                await store.release(run.run_id, 3)
            assert (await loaded(store, run.run_id)).in_queue
        last = await loaded(store, "last")
        assert (last.status, last.token, last.updated) == (RunStatus.RUNNING, 3, last.created - 1)
        assert await store.queue_sizes([FLOW], 9) == {"default": 3}
        assert await store.queued_before(last, 9) == (2, 0)
        assert await claimed(store, 2) == ["first", "second"]
        await store.create(queued("other"))
        soon = await loaded(store, "soon")
        assert (soon.status, soon.wait) == (RunStatus.PARKED, WAIT)
        assert await claimed(store) == ["other", "last"]
        assert await claimed(store, now=LATER) + await claimed(store, now=LATER) == ["soon"]

    @clause
    async def test_few_runs_of_a_queue_are_ready(self, store: StoreBackend) -> None:
        """`ready` returns at most 100 of each definition and queue, at least one, and all that are in none."""
        if not isinstance(store, QueueStore):
            return
        runs = [queued(f"a {n}", "a", key=f"{n % 3}", data=values(store, a=1)) for n in range(120)]
        runs += [queued("b", "b"), queued("other", "a", workflow="other"), free_run("begun", token=1, lane=Lane("a"))]
        for at in range(0, len(runs), 50):
            await asyncio.gather(*map(store.create, runs[at : at + 50]))
        every = {run.run_id: run for run in runs}
        for names in ({"flow"}, {"flow", "other"}):
            found = await read_ready(store, NOW, names)
            count = Counter((run.workflow, run.queue, run.in_queue) for run in found)
            assert len({run.run_id for run in found}) == len(found)
            assert 1 <= count["flow", "a", True] <= 100
            assert count["flow", "b", True] == count["flow", "a", False] == 1
            assert count["other", "a", True] == ("other" in names)
            assert all(run == every[run.run_id]._replace(data={}) for run in found)

    @clause
    async def test_claims_from_queues_at_once_share(self, store: StoreBackend) -> None:
        """If many holders claim at once, no run goes to two, and in the end each has begun."""
        if not isinstance(store, QueueStore):
            return
        runs = [queued(f"run {n}", key=f"{n % 5}", priority=n % 2) for n in range(40)]
        await asyncio.gather(*map(store.create, runs))
        found = await asyncio.gather(*(claimed(store, 5, holder=f"holder {n}") for n in range(8)))
        rest = await claimed(store)
        assert sorted(sum(found, rest)) == sorted(run.run_id for run in runs)
        for number, run_ids in enumerate(found):
            for run_id in run_ids:
                assert ((await loaded(store, run_id)).holder, len(run_ids) <= 5) == (f"holder {number}", True)

    @clause
    async def test_queues_have_sizes(self, store: StoreBackend) -> None:
        """The sizes of queues count what waits, of the given definitions, up to a number of each."""
        if not isinstance(store, QueueStore):
            return
        for n in range(5):
            await store.create(queued(f"a {n}", "a", key=f"{n % 2}", priority=n % 3))
        await store.create(queued("b", "b", version="2", fingerprint="f2"))
        for run in (free_run("begun", token=1, lane=Lane("a")), new_run("held", lane=Lane("a")), free_run("none"),
                    delayed("delayed", lane=Lane("a"))):  # fmt: skip
            await store.create(run)
        for definitions, most, expected in (
            ([FLOW], 9, {"a": 5}), ([FLOW, OTHER], 9, {"a": 5, "b": 1}), ([OTHER], 9, {"b": 1}),
            ([FLOW, OTHER], 3, {"a": 3, "b": 1}), ([], 9, {}),
        ):  # fmt: skip
            found = await store.queue_sizes(definitions, most)
            assert {queue: size for queue, size in found.items() if size} == expected

    @clause
    async def test_runs_before_a_queued_one_are_counted(self, store: StoreBackend) -> None:
        """Those with a larger priority, and the older ones of the same lane, each up to a number."""
        if not isinstance(store, QueueStore):
            return
        for n in range(4):
            await store.create(queued(f"a {n}", "a", 1, "x", created=NOW + n))
            await store.create(queued(f"key {n}", "a", 1, "y", created=NOW + n))
            await store.create(queued(f"queue {n}", "b", 2, "x", created=NOW + n))
            await store.create(queued(f"less {n}", "a", 0, "x", created=NOW + n))
            await store.create(queued(f"more {n}", "a", 2 + n, f"{n}", created=NOW + 9))
            await store.create(queued(f"flow {n}", "a", 9, workflow="other"))
        for n in range(4):
            run = await loaded(store, f"a {n}")
            assert await store.queued_before(run, 9) == (4, n)
            assert await store.queued_before(run, 2) == (2, min(n, 2))

    @clause
    async def test_held_runs_are_listed(self, store: StoreBackend) -> None:
        """`RunFilter.held` tells runs with a holder from the others, page by page."""
        if not isinstance(store, QueueStore):
            return
        runs = [
            queued("a", created=NOW + 1), new_run("b", created=NOW + 2), free_run("c", created=NOW + 3),
            new_run("d", expires=NOW - 9, created=NOW + 4, lane=Lane("x")), queued("e", created=NOW + 5),
            new_run("f", status=RunStatus.PARKED, wait=WAIT, created=NOW + 6), delayed("g", created=NOW + 7),
        ]  # fmt: skip
        for run in runs:
            await store.create(run)
        for held, status, expected in (
            (True, RunStatus.RUNNING, "db"), (False, RunStatus.RUNNING, "eca"), (True, None, "fdb"),
            (False, RunStatus.PARKED, "g"), (None, RunStatus.RUNNING, "edcba"), (None, RunStatus.PARKED, "gf"),
        ):  # fmt: skip
            filter = RunFilter(status=status, held=held)
            assert "".join(run.run_id for run in await store.runs(filter)) == expected, filter
            if not store.capabilities.pages:
                continue
            page, after = list[str](), None
            while found := await store.runs(filter._replace(limit=2, after=after)):
                page += [run.run_id for run in found]
                after = found[-1].place
            assert "".join(page) == expected, filter
