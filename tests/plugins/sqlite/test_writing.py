"""The writer: which jobs share a transaction, and what happens to them and to waiting callers."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
from cano import ConflictError, RunStatus, SerializationError, Signal, StoreUnavailableError, Wait
from cano.testing.contract_base import LATER, NOW, loaded, new_run, note, step
from cano_sqlite import SqliteBackend
from cano_sqlite.connection import patiently
from cano_sqlite.job import Job
from cano_sqlite.journal import Append, Made, heads_of, step_all
from cano_sqlite.settings import Settings
from cano_sqlite.worker import Desk
from cano_sqlite.writer import Writer

from tests.plugins.renewals import with_a_renewal
from tests.plugins.stale_commits import check_refusals

Ask = Callable[..., list[Any]]
Locked = Callable[[], AbstractContextManager[None]]


class Watched:
    """A desk that records what is taken from it."""

    def __init__(self, desk: Desk, taken: Callable[[int], None]) -> None:
        self.deliver = desk.deliver
        self.hurried = desk.hurried
        self._desk = desk
        self._taken = taken
        self._count = 0

    def take(self) -> list[Job]:
        """Take the waiting jobs."""
        jobs = self._desk.take()
        self._count += len(jobs)
        self._taken(len(jobs))
        return jobs

    def put_back(self) -> None:
        """Return them to the queue."""
        self._taken(-self._count)
        self._count = 0
        self._desk.put_back()


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of jobs in each transaction that was tried."""
    sizes: list[int] = []
    original = Writer.carry_out

    def spied(self: Writer, desk: Desk) -> None:
        sizes.append(0)

        def count(taken: int) -> None:
            sizes[-1] += taken

        original(self, Watched(desk, count))

    monkeypatch.setattr(Writer, "carry_out", spied)
    return sizes


async def make(store: SqliteBackend, count: int) -> list[str]:
    """Create runs, and return their ids."""
    ids = [f"run {number}" for number in range(count)]
    await asyncio.gather(*(store.create(new_run(run_id)) for run_id in ids))
    return ids


async def test_of_many_commits_only_the_stale_are_refused(store: SqliteBackend) -> None:
    """Of commits that are made together, each stale one gets its own error, and all others are applied."""
    await check_refusals(store)


async def at_once(locked: Locked, *calls: Any) -> list[Any]:
    """Return the results of calls that are all made while the file is locked."""
    with locked():
        tasks = [asyncio.ensure_future(call) for call in calls]
        await asyncio.sleep(0)  # each call queues its job before it first waits
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_concurrent_commits_share_a_transaction(
    store: SqliteBackend, locked: Locked, transactions: list[int]
) -> None:
    """Jobs that arrive while the file is busy share a transaction; of many, half go into the next one."""
    ids = await make(store, 100)
    transactions.clear()

    assert await at_once(locked, *(store.commit(step(1, run_id)) for run_id in ids)) == [None] * 100
    assert transactions == [50, 50]
    assert [(await loaded(store, run_id)).seq for run_id in ids] == [1] * 100


async def test_a_transaction_has_an_end(store: SqliteBackend, locked: Locked, transactions: list[int]) -> None:
    """A transaction takes a limited number of jobs and bytes; the rest goes into the next one."""
    ids = await make(store, 1200)
    transactions.clear()
    await at_once(locked, *(store.commit(step(1, run_id)) for run_id in ids))
    assert transactions == [100] * 12

    transactions.clear()
    large = {"a": bytes(3_000_000)}
    await at_once(locked, *(store.commit(step(2, run_id, changed=large)) for run_id in ids[:7]))
    assert transactions == [3, 3, 1]
    assert [(await loaded(store, run_id)).data for run_id in ids[:7]] == [large] * 7


async def test_a_refusal_concerns_nobody_else(store: SqliteBackend, locked: Locked, transactions: list[int]) -> None:
    """Of commits in one transaction, the stale ones are refused and all others applied."""
    ids = await make(store, 20)
    transactions.clear()
    answers = await at_once(
        locked, *(store.commit(step(1 + (n % 7 == 3), ids[n], changed={"a": b"1"})) for n in range(20))
    )

    assert sum(transactions) == 20
    for number, (run_id, answer) in enumerate(zip(ids, answers, strict=True)):
        stale = number % 7 == 3
        assert isinstance(answer, ConflictError) if stale else answer is None
        run = await loaded(store, run_id)
        assert (run.seq, run.data) == ((0, {}) if stale else (1, {"a": b"1"}))
        assert len(await store.history(run_id)) == run.seq + 1


async def test_a_renewal_waits_for_no_other_call(store: SqliteBackend, locked: Locked) -> None:
    """However many calls wait, a renewal is in the first transaction, even if that has enough jobs."""
    done, calls = with_a_renewal(store, 300)
    await at_once(locked, *calls)
    assert done.index("renewal") <= 100


async def test_a_renewal_waits_for_the_lock_with_short_pauses(
    store: SqliteBackend, locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it gets the lock before other processes, which pause for up to 2 ms."""
    pauses: list[float] = []
    paused, short = threading.Event(), threading.Event()
    sleep = time.sleep

    def watched(seconds: float) -> None:
        pauses.append(seconds)
        paused.set()
        if seconds == 0.0002:
            short.set()
        sleep(seconds)

    await store.create(new_run())
    monkeypatch.setattr("cano_sqlite.connection.time.sleep", watched)
    with locked():
        commit = asyncio.ensure_future(store.commit(step(1)))
        assert await asyncio.to_thread(paused.wait, 60)
        assert not short.is_set()
        renewal = asyncio.ensure_future(store.renew("me", {"run": 1}, LATER))
        assert await asyncio.to_thread(short.wait, 60)
    await asyncio.gather(commit, renewal)


@pytest.fixture
def held_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Until this is set, the thread does nothing, so that all earlier jobs wait together."""
    goes_on = threading.Event()
    original = Writer.carry_out

    def waits(self: Writer, desk: Desk) -> None:
        goes_on.wait(60)
        original(self, desk)

    monkeypatch.setattr(Writer, "carry_out", waits)
    yield goes_on
    goes_on.set()


async def test_steps_that_share_a_statement(
    store: SqliteBackend, held_up: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of many runs are one statement, half of them in each; of two steps of one run, the first is applied."""
    sizes: list[int] = []

    def counted(connection: sqlite3.Connection, appends: list[Any]) -> Sequence[int | None]:
        sizes.append(len(appends))
        return step_all(connection, appends)

    monkeypatch.setattr("cano_sqlite.writer.step_all", counted)
    held_up.set()
    ids = await make(store, 40)
    held_up.clear()
    commits = [step(3 if number % 10 == 4 else 1, run_id) for number, run_id in enumerate(ids)]
    tasks = [asyncio.ensure_future(store.commit(commit)) for commit in commits]
    await asyncio.sleep(0)
    held_up.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [number for number, result in enumerate(results) if result is not None] == [4, 14, 24, 34]
    assert {type(result) for result in results if result is not None} == {ConflictError}
    assert [(await loaded(store, run_id)).seq for run_id in ids] == [number % 10 != 4 for number in range(40)]
    assert sizes == [20, 20]

    held_up.clear()
    tasks = [asyncio.ensure_future(store.commit(step(2, "run 0", changed={"a": b"%d" % turn}))) for turn in range(9)]
    await asyncio.sleep(0)
    held_up.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result is None for result in results] == [True] + [False] * 8
    assert (await loaded(store, "run 0")).data == {"a": b"0"}
    assert sizes == [20, 20]


@pytest.mark.parametrize("spoilt", [{"state": "\ud800"}, {"state": object()}, {"at": "\ud800"}, {"token": 2**70}])
async def test_a_failure_concerns_nobody_else(
    store: SqliteBackend, locked: Locked, transactions: list[int], spoilt: dict[str, Any]
) -> None:
    """If SQLite cannot store a value of one commit, that one fails by name, and all others are applied."""
    ids = await make(store, 9)
    transactions.clear()
    answers = await at_once(locked, *(store.commit(step(1, i, **(spoilt if i == "run 4" else {}))) for i in ids))

    assert transactions == [9]
    error = answers.pop(4)
    assert isinstance(error, SerializationError)
    assert error.run_id == "run 4"
    assert answers == [None] * 8
    assert [(await loaded(store, run_id)).seq for run_id in ids] == [1, 1, 1, 1, 0, 1, 1, 1, 1]


async def test_writes_happen_in_the_order_of_the_calls(
    store: SqliteBackend, locked: Locked, transactions: list[int]
) -> None:
    """Calls of different kinds, and several for one run, take effect in their order, in one transaction too."""
    await store.create(new_run())
    transactions.clear()
    answers = await at_once(
        locked,
        store.commit(step(1)),
        store.commit(step(2, changed={"a": b"2"})),
        store.release("run", 1),
        store.claim("run", "another", NOW, LATER),
        store.commit(step(3)),
        store.commit(step(3, token=2, changed={"b": b"3"})),
        store.create(new_run("other")),
        store.commit(step(1, "other")),
        store.create(new_run()),
        store.delete("other"),
        store.commit(step(2, "other")),
        store.put_signal("run", Signal("1", "go")),
        store.commit(note(3, token=2, consumed=["1"])),
    )

    assert transactions == [13]
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [ConflictError] * 2
    run = await loaded(store)
    assert answers[3] == 2
    assert answers[8].seq == 3
    assert (run.seq, run.token, run.holder, run.data) == (3, 2, "another", {"a": b"2", "b": b"3"})
    assert await store.load("other") is None
    assert await store.next_signal("run", "go") is None


async def test_running_is_resumed_from_any_status(store: SqliteBackend) -> None:
    """A plain step of a parked run makes it run again, and ends its wait."""
    for number, status in enumerate(RunStatus):
        wait = Wait(then="B", until=0.0, signal="go")
        await store.create(new_run(str(number), status=status, wait=wait, holder=None, expires=None))
        await store.commit(step(1, str(number)))

        assert await loaded(store, str(number)) == new_run(
            str(number), seq=1, state="S1", updated=NOW + 1, holder=None, expires=None
        )
    assert len(await store.ready(NOW)) == len(RunStatus)


async def test_the_loop_goes_on_while_the_file_is_locked(store: SqliteBackend, locked: Locked) -> None:
    """While a commit waits for the lock, other coroutines run, and reads work."""
    await store.create(new_run())
    with locked():
        commit = asyncio.ensure_future(store.commit(step(1)))
        for _ in range(20):
            assert (await loaded(store)).seq == 0
        assert not commit.done()
    await commit

    assert (await loaded(store)).seq == 1


async def test_a_lock_that_is_never_freed(path: Path, locked: Locked) -> None:
    """A write that has waited for `busy_timeout` fails with a remedy; reads work, and so does the next write."""
    store = SqliteBackend(path, busy_timeout=0.02)
    await store.open()
    await store.create(new_run())
    with locked():
        answers = await asyncio.gather(*(store.commit(step(1)) for _ in range(3)), return_exceptions=True)
        assert (await loaded(store)).seq == 0

    for answer in answers:
        assert isinstance(answer, StoreUnavailableError)
        assert "another process kept it locked for longer than busy_timeout" in str(answer)
        assert answer.run_id == "run"
    await store.commit(step(1))
    await store.close()


async def test_who_comes_late_waits_as_long(path: Path, locked: Locked, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that arrives while an earlier one waits for the lock does not fail together with it."""
    store = SqliteBackend(path, busy_timeout=0.05)
    await store.open()
    ids = await make(store, 2)
    begun, goes_on, unlocked = threading.Event(), threading.Event(), threading.Event()

    def slow(settings: Settings, action: Callable[[], Any], *_: Any) -> Any:
        gate = unlocked if begun.is_set() else goes_on
        begun.set()
        gate.wait(60)
        return patiently(settings, action)

    monkeypatch.setattr("cano_sqlite.writer.patiently", slow)
    with locked():
        early = asyncio.ensure_future(store.commit(step(1, ids[0])))
        await asyncio.to_thread(begun.wait, 60)
        late = asyncio.ensure_future(store.commit(step(1, ids[1])))
        await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(StoreUnavailableError):
            await early
    unlocked.set()
    await late

    assert [(await loaded(store, run_id)).seq for run_id in ids] == [0, 1]
    await store.close()


async def test_others_that_write_between_a_statement_and_the_rest(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps on disk do not wait until each of the stale ones has found the file locked."""
    store = SqliteBackend(path, busy_timeout=0.05)
    await store.open()
    ids = await make(store, 9)
    waits = 0

    def then_locked(connection: sqlite3.Connection, made: Made) -> dict[str, int]:
        heads = heads_of(connection, made)
        other.execute("BEGIN IMMEDIATE")
        return heads

    def counted(settings: Settings, action: Callable[[], Any], *_: Any) -> Any:
        nonlocal waits
        waits += other.in_transaction
        return patiently(settings, action)

    monkeypatch.setattr("cano_sqlite.writer.heads_of", then_locked)
    monkeypatch.setattr("cano_sqlite.writer.patiently", counted)
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        calls = (store.commit(step(1, run_id, token=1 + (number > 4))) for number, run_id in enumerate(ids))
        answers = await asyncio.gather(*calls, return_exceptions=True)

    assert answers[:5] == [None] * 5
    assert [type(answer) for answer in answers[5:]] == [StoreUnavailableError] * 4
    assert {answer.run_id for answer in answers[5:] if isinstance(answer, StoreUnavailableError)} == set(ids[5:])
    assert waits == 1
    await store.close()


async def test_a_cancelled_write_that_waits_is_taken_back(store: SqliteBackend, locked: Locked) -> None:
    """A commit that is cancelled while it waits for the lock is cancelled at once, and never applied."""
    ids = await make(store, 3)
    with locked():
        commits = [asyncio.ensure_future(store.commit(step(1, run_id))) for run_id in ids]
        await asyncio.sleep(0)
        commits[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await commits[1]
    await asyncio.gather(commits[0], commits[2])

    assert [(await loaded(store, run_id)).seq for run_id in ids] == [1, 0, 1]


async def test_a_cancelled_write_that_has_begun_is_awaited(
    store: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that is cancelled while it is applied, even twice, completes before the cancellation is raised."""
    await store.create(new_run())
    begun, goes_on = threading.Event(), threading.Event()

    original = Append.do

    def slow(self: Append, connection: sqlite3.Connection) -> None:
        begun.set()
        goes_on.wait(60)
        original(self, connection)

    monkeypatch.setattr(Append, "do", slow)
    commit = asyncio.ensure_future(store.commit(step(1, release=True)))
    await asyncio.to_thread(begun.wait, 60)
    for _ in range(2):
        commit.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not commit.done()
    goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await commit

    assert (await loaded(store)).seq == 1


async def test_a_write_that_is_cancelled_while_its_turn_is_tried(
    store: SqliteBackend, locked: Locked, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that was taken, and returned because another process writes, is cancelled like a waiting one."""
    ids = await make(store, 9)
    begun, goes_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection, appends: Sequence[Append]) -> Any:
        begun.set()
        goes_on.wait(60)
        return step_all(connection, appends)

    monkeypatch.setattr("cano_sqlite.writer.step_all", slow)
    with locked():
        commits = [asyncio.ensure_future(store.commit(step(1, run_id))) for run_id in ids]
        await asyncio.to_thread(begun.wait, 60)
        commits[1].cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert not commits[1].done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await commits[1]
        assert not any(commit.done() for number, commit in enumerate(commits) if number != 1)
    await asyncio.gather(*commits, return_exceptions=True)

    assert [(await loaded(store, run_id)).seq for run_id in ids] == [1, 0, 1, 1, 1, 1, 1, 1, 1]


async def test_a_cancelled_write_that_was_refused_is_silent(
    store: SqliteBackend, locked: Locked, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of a write whose caller was cancelled is not reported."""
    await store.create(new_run())
    for turns in range(12):
        commit = asyncio.ensure_future(store.commit(step(9)))
        for _ in range(turns):
            await asyncio.sleep(0)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
        del commit

    assert (await loaded(store)).seq == 0
    assert caplog.records == []


async def test_several_event_loops(store: SqliteBackend) -> None:
    """One store serves the event loops of several threads."""

    async def drive(name: str) -> None:
        async def one(run_id: str) -> None:
            await store.create(new_run(run_id))
            for seq in range(1, 11):
                await store.commit(step(seq, run_id))
            assert (await loaded(store, run_id)).seq == 10

        await asyncio.gather(*(one(f"{name} {number}") for number in range(10)))

    await asyncio.gather(*(asyncio.to_thread(asyncio.run, drive(str(number))) for number in range(4)))


async def test_a_loop_that_is_gone(store: SqliteBackend, locked: Locked) -> None:
    """A loop that was closed while it waited for the store does not harm it."""

    async def abandoned() -> None:
        asyncio.get_running_loop().create_task(store.commit(step(1)))
        await asyncio.sleep(0)

    def run_and_abandon() -> None:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(abandoned())
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()

    await store.create(new_run())
    with locked():
        await asyncio.to_thread(run_and_abandon)
    await store.commit(step(2))

    assert (await loaded(store)).seq == 2
