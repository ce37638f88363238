"""Whatever a store has been through, its copy is the same: broken off anywhere, continued when the source has moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cano import Appended, Commit, RunRecord, RunStatus, Signal, StoreBackend, StoreUnavailableError, Wait
from cano.testing import Faults, FaultyStore
from cano_cli.contents import LayeredStore
from cano_cli.copied_audit import Importer
from cano_cli.copying import Kind
from cano_cli.migration import Tally, migrate
from cano_memory import MemoryBackend
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plugins.cli.stored import everything

IDS = ("a", "b", "c")
NAMES = st.sampled_from(("", "go", "stop\0"))
KEYS = st.sampled_from(("k", "l", "m", "n", "hidden\0", ""))
VALUES = st.binary(max_size=3)
DATA = st.dictionaries(KEYS, VALUES | st.builds(Appended, st.lists(VALUES, min_size=1, max_size=2)), max_size=3)
SIGNALS = st.sampled_from(("1", "2", "3", "4"))
SENT = st.one_of(
    st.builds(Signal, SIGNALS, NAMES, st.none() | VALUES, own=st.booleans(), to=st.none()),
    st.builds(Signal, SIGNALS, NAMES, st.none() | VALUES, own=st.just(False), to=st.integers(0, 1)),
)
WAITS = st.none() | st.builds(Wait, then=st.just("S"), signal=st.none() | NAMES, until=st.none() | st.just(9.5),
                              own=st.booleans())  # fmt: skip
ERRORS = st.none() | st.fixed_dictionaries({"type": st.just("E"), "attempt": st.integers(1, 3)})

COMMITS = st.fixed_dictionaries(
    {
        "seq": st.sampled_from((0, 0, 1, 1, 2, 7)),  # by how much it grows
        "state": st.sampled_from(("S", "T")),
        "status": st.sampled_from(RunStatus),
        "changed": DATA,
        "removed": st.lists(KEYS, max_size=2),
        "error": ERRORS,
        "wait": WAITS,
        "payload": st.none() | VALUES,
        "consumed": st.lists(SIGNALS, max_size=2),
        "own": st.dictionaries(KEYS, VALUES, max_size=2),
        "own_removed": st.lists(KEYS, max_size=2),
        "own_consumed": st.lists(SIGNALS, max_size=2),
        "answered": st.lists(st.tuples(st.integers(0, 1), SIGNALS), max_size=2),
    }
)
CREATES = st.fixed_dictionaries(
    {
        "seq": st.sampled_from((0, 0, 7)),
        "status": st.sampled_from((RunStatus.RUNNING, RunStatus.PARKED)),
        "data": DATA,
        "own": st.dictionaries(KEYS, VALUES, max_size=2),
        "parent": st.none() | st.sampled_from(IDS),
        "wait": WAITS,
        "payload": st.none() | VALUES,
    }
)
ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.one_of(
            st.tuples(st.just("commit"), COMMITS),
            st.tuples(st.just("create"), CREATES),
            st.tuples(st.just("signal"), SENT),
            st.tuples(st.just("claim"), st.none()),
        ),
    ),
    max_size=25,
)


class Ticking:
    """A clock that shows a later time whenever it is looked at."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        """A bit later than before."""
        self.now += 0.25
        return self.now

    monotonic = time

    async def sleep(self, seconds: float) -> None:
        """It is later at once."""
        self.now += seconds

    def call_at(self, when: float, callback: Callable[[], object]) -> Any:
        """Not needed."""
        raise NotImplementedError


async def play(store: StoreBackend, actions: list[Any], clock: Ticking) -> None:
    """Do with `store` what `actions` say, in so far as it can be done; nothing is held afterwards."""
    for run_id, (what, how) in actions:
        run = await store.load(run_id)
        if what == "signal":
            await store.put_signal(run_id, how)
        elif what == "create":
            now = clock.time()
            fields: dict[str, Any] = {
                "workflow": "flow",
                "version": "1",
                "fingerprint": "f",
                "state": "S",
                "updated": now + 1,
            }
            await store.create(RunRecord(run_id=run_id, created=now, **fields, **how))
        elif run is None:
            continue
        elif what == "claim":
            token = await store.claim(run_id, "me", clock.time(), clock.now + 5)
            assert token is not None
            await store.release(run_id, token)
        else:
            seq, at = run.seq + how["seq"], max(clock.time(), run.updated + 1)
            rest = {**how, "seq": seq}
            await store.commit(Commit(run_id=run_id, token=run.token, expected_seq=run.seq, at=at, **rest))


async def copied(source: StoreBackend, target: StoreBackend, clock: Any, history: bool = True) -> Tally:
    """What a migration tells."""
    tally, here, there = Tally(), LayeredStore(source, history=history), LayeredStore(target, history=history)
    importer = Importer(target, "Ada", "SRC")
    await migrate(here, there, clock, tally, workflow=None, dead_after=3.0, importer=importer, dry=False)
    return tally


async def check_equal(source: StoreBackend, target: StoreBackend, clock: Ticking) -> None:
    """Both have the same runs, of which nobody holds any."""
    before = await everything(source)
    assert await everything(target) == before
    for run_id in IDS:
        mine, its = await source.load(run_id), await target.load(run_id)
        if mine is not None and its is not None:
            assert its.token >= mine.token
            assert (its.holder, its.expires) == (None, None)
    again = await copied(source, target, clock)
    assert again.problems == []
    assert (again.transitions, again.signals, again.counts[Kind.UP_TO_DATE]) == (0, 0, again.total)
    assert await everything(source) == before


@given(ACTIONS, ACTIONS)
@settings(deadline=None)
def test_any_history_is_copied(first: list[Any], then: list[Any]) -> None:
    """A copy is equal to the source, and is so again after the source has moved on."""

    async def work() -> None:
        clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
        for actions in (first, then):
            await play(source, actions, clock)
            tally = await copied(source, target, clock)
            assert tally.problems == []
            await check_equal(source, target, clock)

    asyncio.run(work())


@given(ACTIONS, ACTIONS, st.data())
@settings(deadline=None)
def test_broken_off_anywhere(first: list[Any], then: list[Any], data: st.DataObject) -> None:
    """A copy that is broken off at any call, before or after it was made, is continued; nobody drives half of one."""

    async def work() -> None:
        clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
        await play(source, first, clock)
        for _ in range(3):
            faults = Faults()
            name = data.draw(st.sampled_from(("create", "commit", "put_signal", "claim", "release", "load")))
            number, after = data.draw(st.integers(1, 6)), data.draw(st.booleans())
            faults.at_call(name, number, after=after).fail(StoreUnavailableError("as it was told to"))
            try:
                await copied(source, FaultyStore(target, faults), clock)
            except StoreUnavailableError:
                clock.now += 30
            ready = {run.run_id for run in await target.ready(clock.now + 1e6)}
            whole = await everything(source)
            there = await everything(target)
            assert all(there[run_id] == whole[run_id] for run_id in ready)
        await play(source, then, clock)
        clock.now += 30
        tally = await copied(source, target, clock)
        assert tally.problems == []
        await check_equal(source, target, clock)

    asyncio.run(work())


@given(ACTIONS, ACTIONS)
@settings(deadline=None)
def test_without_history(first: list[Any], then: list[Any]) -> None:
    """Where one of the stores has no history, the present states are equal."""

    async def work() -> None:
        clock, source, target = Ticking(), MemoryBackend(strict=True), MemoryBackend(strict=True)
        for actions in (first, then):
            await play(source, actions, clock)
            tally = await copied(source, target, clock, history=False)
            assert tally.problems == []
            mine, its = await everything(source), await everything(target)
            for kept in (mine, its):
                for run_id, found in kept.items():
                    kept[run_id] = found if len(found) == 3 else (*found[:2], found[3])
            assert mine == its

    asyncio.run(work())
