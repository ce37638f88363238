"""What cannot be copied is refused and named: other content, what went on, what moves, what does not come back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from cano import (
    Appended,
    Commit,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    StoreUnavailableError,
    Transition,
    Wait,
)
from cano.testing import Faults, FaultyStore
from cano_cli.contents import LayeredStore
from cano_cli.copied_audit import Importer
from cano_cli.copying import HOLDER, Kind
from cano_cli.migration import Tally, migrate
from cano_memory import MemoryBackend

from tests.plugins.cli.stored import everything
from tests.plugins.cli.test_migrate_random import Ticking, check_equal, copied

RUN = RunRecord(run_id="a", workflow="flow", version="1", fingerprint="f", state="S", created=1.0, updated=1.0)


def commit(seq: int, **fields: Any) -> Commit:
    """The commit of the run that leads from the transition before to number `seq`, unless told otherwise."""
    given: dict[str, Any] = {
        "token": 0, "expected_seq": seq - 1, "state": "S", "status": RunStatus.RUNNING, "at": float(seq + 1),
    }  # fmt: skip
    return Commit(run_id="a", seq=seq, **given | fields)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ({"workflow": "other"}, "another run has this id in DST: its workflow is 'other', not 'flow'"),
        ({"data": {"k": b"other"}}, "its history in DST differs from seq 0"),
        ({"created": 5.0}, "another run has this id in DST: its created is 5.0, not 1.0"),
    ],
)
async def test_another_run_is_refused(spoil: dict[str, Any], why: str) -> None:
    """An id that the target has already, for something else, is named; nothing is overwritten, others are copied."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    run = RunRecord(run_id="a", workflow="flow", version="1", fingerprint="f", state="S", created=1.0, updated=1.0)
    await source.create(run)
    await source.create(run._replace(run_id="b"))
    await target.create(run._replace(**spoil))
    before = await target.load("a")

    tally = await copied(source, target, clock)

    assert [(each.run_id, each.kind, each.detail) for each in tally.problems] == [("a", Kind.REFUSED, why)]
    assert tally.counts[Kind.COPIED] == 1
    assert await target.load("a") == before


@pytest.mark.parametrize("past", [False, True])
async def test_keys_that_were_the_engines_are_refused(past: bool) -> None:
    """A source that was not migrated has the engine's values among the data; in a copy they would do nothing."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.create(RUN._replace(data={"\0deadline": b"1"}))
    if past:
        await source.commit(commit(1, removed=["\0deadline"]))
    [refused] = (await copied(source, target, clock)).problems
    assert (refused.kind, "'\\x00deadline', which begins with NUL" in refused.detail) == (Kind.REFUSED, True)
    assert await everything(target) == {}


@pytest.mark.parametrize("past", [False, True])
async def test_a_store_without_parts_gets_none(past: bool) -> None:
    """A list that was appended to, now or earlier, is not copied to a store that does not keep parts."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    target.capabilities = target.capabilities._replace(appends=False)
    await source.create(RUN._replace(data={"log": b"0"}))
    await source.commit(commit(1, changed={"log": Appended((b"1",))}))
    if past:
        await source.commit(commit(2, changed={"log": b"2"}))
    [refused] = (await copied(source, target, clock)).problems
    assert (refused.kind, "the list of its key 'log' in parts" in refused.detail) == (Kind.REFUSED, True)
    assert await everything(target) == {}


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"seq": 1}, "it is at seq 1 in DST, but at seq 0 in SRC"),
        ({"status": RunStatus.CANCELLED}, "it was changed in DST: its status is cancelled, not running"),
        ({"consumed": ["1"]}, "its signal '1' is consumed in DST"),
    ],
)
async def test_what_went_on_in_the_target_is_refused(fields: dict[str, Any], why: str) -> None:
    """What was done to a run in the target after it had been copied is never undone."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    run = RunRecord(run_id="a", workflow="flow", version="1", fingerprint="f", state="S", created=1.0, updated=1.0)
    await source.create(run)
    await source.put_signal("a", Signal("1", "go"))
    await copied(source, target, clock)
    given: dict[str, Any] = {"seq": 0, "state": "S", "status": RunStatus.RUNNING, **fields}
    await target.commit(Commit(run_id="a", token=0, expected_seq=0, at=clock.time(), **given))
    before = await everything(target)

    [refused] = (await copied(source, target, clock)).problems

    assert refused.kind is Kind.REFUSED
    assert refused.detail.startswith(why)
    assert await everything(target) == before


async def test_a_signal_that_came_to_the_target_is_no_copy() -> None:
    """A signal that only the target has got is named."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.put_signal("early", Signal("1", "go"))
    await target.put_signal("early", Signal("2", "go"))

    [refused] = (await copied(source, target, clock)).problems

    assert refused.detail == "it has a signal '2' in DST, but not in SRC"


async def test_of_two_migrations_at_once_one_waits() -> None:
    """A copy that another process has begun, and still works at, is held by it until it falls silent."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    run = RunRecord(run_id="a", workflow="flow", version="1", fingerprint="f", state="S", created=1.0, updated=1.0)
    await source.create(run)
    await source.commit(Commit(run_id="a", token=0, expected_seq=0, seq=1, state="T", status=RunStatus.RUNNING, at=2.0))
    faults = Faults()
    faults.at_call("commit", 1).fail(StoreUnavailableError("as it was told to"))
    with pytest.raises(StoreUnavailableError):
        await copied(source, FaultyStore(target, faults), clock)
    begun = clock.now

    tally = await copied(source, target, clock)

    assert tally.problems == []
    assert clock.now > begun + 2
    await check_equal(source, target, clock)


async def test_signals_in_another_order() -> None:
    """Signals that the target has got the other way round are not put in order: nothing there is changed."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    for ids, store in (("12", source), ("21", target)):
        for id in ids:
            await store.put_signal("a", Signal(id, "go"))

    [refused] = (await copied(source, target, clock)).problems

    assert refused.detail == "its signals wait in a different order in DST"
    assert await target.load("a") is None


async def test_the_clocks_of_its_workers_differ() -> None:
    """A run whose next transition was made by a machine with a slow clock is updated all the same."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    await source.commit(commit(1, at=50.0))
    await copied(source, target, clock)
    await source.commit(commit(2, at=49.0))

    tally = await copied(source, target, clock)

    assert (tally.problems, tally.counts[Kind.UPDATED]) == ([], 1)
    await check_equal(source, target, clock)


async def test_changed_at_the_same_moment() -> None:
    """What was changed in the target at the very time of the last change in the source is a change all the same."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    await copied(source, target, clock)
    await target.commit(commit(0, expected_seq=0, status=RunStatus.FAILED, at=1.0))

    [refused] = (await copied(source, target, clock)).problems

    assert refused.detail == "it was changed in DST: its status is failed, not running"


async def test_somebody_drives_it_in_the_target() -> None:
    """A run that is driven in the target, and behind the source, is left alone."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    await copied(source, target, clock)
    await source.commit(commit(1))
    await target.claim("a", "worker", clock.time(), clock.now + 100)

    [refused] = (await copied(source, target, clock)).problems

    assert refused.kind is Kind.REFUSED
    assert refused.detail.startswith("it is held in DST by worker (lease expires in 9")


class Moving(MemoryBackend):
    """A store in which a worker goes on with a run each time its signals are asked for."""

    left = 2

    async def signals(self, run_id: str) -> Any:
        """First what they were, then the worker's commit."""
        found = await super().signals(run_id)
        run = await self.load(run_id)
        if self.left and run is not None:
            self.left -= 1
            await self.commit(commit(run.seq + 1))
        return found


@pytest.mark.parametrize(("moves", "copies"), [(2, True), (10_000, False)])
async def test_the_source_moves_meanwhile(moves: int, copies: bool) -> None:
    """A run that moves while it is copied is copied as it is in the end; or it is left, held, while it never rests."""
    clock, source, target = Ticking(), Moving(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    source.left = moves

    tally = await copied(source, target, clock)
    source.left = 0

    if copies:
        assert tally.problems == []
        await check_equal(source, target, clock)
        return
    [held] = tally.problems
    there = await target.load("a")
    assert (held.kind, held.detail) == (Kind.HELD, "it was changed during each of 5 attempts to copy it")
    assert there is None or (there.holder or "").startswith(HOLDER)
    clock.now += 30
    assert (await copied(source, target, clock)).problems == []
    await check_equal(source, target, clock)


class Forgetful(MemoryBackend):
    """A store that does not keep all that it is given."""

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Without the times."""
        return [line._replace(at=0.0) for line in await super().history(run_id)]


async def test_what_does_not_come_back_is_named() -> None:
    """What was read back is compared: where it differs, the copy stays held, and is named each time."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), Forgetful(strict=True)
    await source.create(RUN)

    [first] = (await copied(source, target, clock)).problems
    clock.now += 30
    [second] = (await copied(source, target, clock)).problems

    assert (first.kind, first.detail) == (Kind.DIFFERENT, "the copy differs: its history, from seq 0; it stays leased")
    assert (second.kind, second.detail) == (Kind.REFUSED, "its history in DST differs from seq 0")
    assert list(await target.ready(clock.now + 1e6)) == []


async def test_a_history_that_leads_elsewhere_is_damage() -> None:
    """A run whose history does not end where it stands is named as damaged; nothing is written."""

    class Torn(MemoryBackend):
        """A store that has lost the end of a history."""

        async def history(self, run_id: str) -> Sequence[Transition]:
            """All but the last line."""
            return list(await super().history(run_id))[:-1]

    clock, source, target = Ticking(), Torn(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    await source.commit(commit(1, status=RunStatus.PARKED, wait=Wait(then="S", until=5.0)))

    [damaged] = (await copied(source, target, clock)).problems

    assert (damaged.kind, damaged.detail) == (Kind.CORRUPT, "it is at seq 1, but its history ends at seq 0")
    assert await everything(target) == {}


class Contested(MemoryBackend):
    """A store in which somebody else is quicker once: he finishes the copy, and a worker takes the run."""

    quicker = True

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """After the worker's own."""
        run = await self.load(run_id)
        if self.quicker and run is not None:
            self.quicker = False
            await self.release(run_id, run.token)
            await super().claim(run_id, "worker", 1_000.0, 2_000.0)
        return await super().claim(run_id, holder, now, expires)


async def test_somebody_else_finishes_the_copy() -> None:
    """An unfinished copy that is finished, and driven, just before it would be taken over is given back at once."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), Contested(strict=True)
    await source.create(RUN)
    faults = Faults()
    faults.at_call("release", 1).fail(StoreUnavailableError("as it was told to"))
    with pytest.raises(StoreUnavailableError):
        await copied(source, FaultyStore(target, faults), clock)
    clock.now += 30

    tally = await copied(source, target, clock)

    assert (tally.problems, tally.counts[Kind.UP_TO_DATE], tally.counts[Kind.COPIED]) == ([], 1, 0)
    await check_equal(source, target, clock)


async def half_copied(source: MemoryBackend, target: MemoryBackend, clock: Ticking) -> None:
    """What a migration leaves that ends just before the copy is whole; the run is then pruned in the source."""
    await source.create(RUN)
    await source.put_signal("a", Signal("1", "go"))
    faults = Faults()
    faults.at_call("release", 1).fail(StoreUnavailableError("as it was told to"))
    with pytest.raises(StoreUnavailableError):
        await copied(source, FaultyStore(target, faults), clock)
    await source.delete("a")


async def test_half_a_copy_of_a_run_that_is_gone() -> None:
    """It is removed by the next migration, once that which began it is silent; what is whole there stays."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await target.create(RUN._replace(run_id="whole"))
    await target.create(RUN._replace(run_id="driven", holder="somebody", expires=1e9))
    before = await everything(target)
    await half_copied(source, target, clock)
    await source.put_signal("a", Signal("2", "go"))  # for another run of this id, which may come
    begun = clock.now

    tally = await copied(source, target, clock)

    assert clock.now > begun + 2
    assert (tally.problems, tally.counts[Kind.REMOVED], tally.done, tally.total) == ([], 1, 1, 1)
    assert await everything(target) == {**before, "a": ([Signal("2", "go")], [], [])}


async def test_a_run_that_is_deleted_while_it_is_copied() -> None:
    """The same migration removes what it has begun."""

    class Fleeting(MemoryBackend):
        """A store in which a run moves, and is deleted, while it is read again."""

        async def signals(self, run_id: str) -> Any:
            """What they were; the second time the run goes."""
            self.asked += 1
            if self.asked == 2:
                await self.delete(run_id)
            return await super().signals(run_id)

        asked = 0

    clock, source, target = Ticking(), Fleeting(strict=True), MemoryBackend(strict=True)
    await source.create(RUN)
    await source.put_signal("a", Signal("1", "go"))

    tally = await copied(source, target, clock)

    assert (tally.problems, tally.counts[Kind.GONE], tally.counts[Kind.REMOVED]) == ([], 1, 1)
    assert await everything(target) == {}


async def test_half_a_copy_that_has_to_stay() -> None:
    """Of a run that cannot be read; that somebody finishes just then; or, as is said, where nothing can be deleted."""

    class Torn(MemoryBackend):
        """A store whose runs are damaged."""

        async def load(self, run_id: str) -> RunRecord | None:
            """None can be read."""
            raise SerializationError("damaged")

    clock, source, target = Ticking(), MemoryBackend(strict=True), Contested(strict=True)
    await half_copied(source, target, clock)
    clock.now += 30
    assert (await copied(Torn(strict=True), target, clock)).counts[Kind.REMOVED] == 0
    assert (await copied(source, target, clock)).counts[Kind.REMOVED] == 0
    assert list(await everything(target)) == ["a"]

    keeping = MemoryBackend(strict=True)
    await half_copied(source, keeping, clock)
    clock.now += 30
    keeping.capabilities = keeping.capabilities._replace(retention=False)
    [refused] = (await copied(source, keeping, clock)).problems
    assert (refused.kind, refused.detail.partition(",")[0]) == (Kind.REFUSED, "SRC no longer has this run")


@pytest.mark.parametrize("dry", [False, True])
async def test_half_a_copy_of_another_workflow(dry: bool) -> None:
    """With a workflow named, only its unfinished copies are removed; a dry run counts them."""
    clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
    await half_copied(source, target, clock)
    clock.now += 30
    for workflow, count in (("other", 0), ("flow", 1)):
        tally, there = Tally(), LayeredStore(target)
        await migrate(
            LayeredStore(source), there, clock, tally, workflow=workflow, dead_after=3.0,
            importer=Importer(target, "Ada", "SRC"), dry=dry,
        )  # fmt: skip
        assert tally.counts[Kind.REMOVED] == count
    assert (await target.load("a") is None) is not dry
