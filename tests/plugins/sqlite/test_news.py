"""Notifications: the contract says what is sent; these tests say what is not, and when the store looks."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from cano import ConflictError, Kernel, RunStatus, Signal, Wait, Workflow, wait_for
from cano.testing.contract_base import LATER, NOW, free_run, new_run, note, step
from cano_sqlite import SqliteBackend, news
from cano_sqlite.connection import connect_for_reading
from cano_sqlite.settings import Settings

from tests.waiting import until

Ask = Callable[..., list[Any]]


class Told:
    """The notifications of a store."""

    def __init__(self, store: SqliteBackend) -> None:
        self.ids: list[str | None] = []
        self._heard = asyncio.Event()
        store.watch(self._tell)

    def _tell(self, run_id: str | None) -> None:
        self.ids.append(run_id)
        self._heard.set()

    async def until(self, last: str | None) -> set[str | None]:
        """Return what has been told once `last` is among it."""
        while last not in self.ids:
            self._heard.clear()
            await self._heard.wait()
        ids, self.ids = set(self.ids), []
        return ids


@pytest.fixture
async def other(path: Path, store: SqliteBackend) -> AsyncIterator[SqliteBackend]:
    """Another store on the file."""
    other = SqliteBackend(path, synchronous="normal")
    await other.open()
    yield other
    await other.close()


def threads() -> list[str]:
    """The threads that look for changes."""
    return [thread.name for thread in threading.enumerate() if thread.name == "cano-sqlite news"]


def gated_looks(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Let each store wait before its next look until the returned event is set."""
    honest, gate = news.newest, threading.Event()

    def gated(connection: Any) -> news.Newest:
        gate.wait(60)
        return honest(connection)

    monkeypatch.setattr(news, "newest", gated)
    return gate


async def test_no_more_is_told_than_helps(store: SqliteBackend, other: SqliteBackend) -> None:
    """Each change that may let a run continue is told; other changes, and a store's own, are not."""
    told = Told(store)
    await other.create(new_run("held"))
    await other.create(new_run("steps"))
    await other.commit(step(1, "steps"))
    await other.renew("me", {"held": 1}, LATER + 1)
    await other.create(free_run("free"))
    await other.claim("free", "me", NOW, LATER)
    await other.put_signal("early", Signal("1", "go"))
    for own in ("mine", "mine too"):
        await store.create(free_run(own))
        await store.commit(note(0, own, token=0, status=RunStatus.SUCCEEDED))
    await other.commit(step(1, "held", status=RunStatus.PARKED, wait=Wait(then="B", signal="go"), release=True))
    assert await told.until("held") - {"free"} == {"early", "held"}  # it may have seen "free" before the claim

    with pytest.raises(ConflictError):
        await store.commit(step(9, "steps", status=RunStatus.FAILED))
    await other.commit(step(2, "steps", status=RunStatus.FAILED))
    assert await told.until("steps") == {"steps"}
    await other.delete("steps")
    assert await told.until("steps") == {"steps", None}


async def test_too_much_for_one_look(
    store: SqliteBackend, other: SqliteBackend, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many changes it is told at once that any run may have changed; and old news are not kept."""
    monkeypatch.setattr(news, "MOST", 5)
    await asyncio.gather(*(other.create(new_run(str(number))) for number in range(20)))
    await asyncio.gather(*(other.commit(step(1, str(number), status=RunStatus.PARKED)) for number in range(20)))
    told = Told(store)
    assert None in await told.until(None)
    await asyncio.gather(*(other.release(str(number), 1) for number in range(20)))
    assert await told.until(None) == {None}
    assert ask("SELECT count(*) FROM news") == [(5,)]
    monkeypatch.setattr(news, "MOST_ENTRIES", 3)
    await asyncio.gather(*(other.commit(step(2, str(number))) for number in range(4)))
    assert await told.until(None) == {None}


async def test_it_looks_while_it_is_wanted(store: SqliteBackend, other: SqliteBackend) -> None:
    """Without a watcher, and while nothing is wanted, no thread looks; what happened meanwhile is told afterwards."""
    assert threads() == []
    told = Told(store)
    assert len(threads()) == 1
    store.attend(False)
    await other.put_signal("meanwhile", Signal("1", "go"))
    store.attend(True)
    store.attend(True)
    await told.until("meanwhile")
    await until(lambda: len(threads()) == 1)  # the first one has ended
    await store.close()
    await until(lambda: threads() == [])  # it has disconnected, and ends at once


async def test_a_kernel_wants_it_while_it_waits(path: Path) -> None:
    """A kernel that executes nothing, waits for nothing and recovers nothing lets no thread look."""
    gate, begun = asyncio.Event(), asyncio.Event()

    async def hold(store: Any) -> str:
        begun.set()
        await gate.wait()
        return "end"

    flow = Workflow("hold", name="hold").register("hold", hold).add_exit_state("end")
    async with Kernel(store=f"sqlite:///{path}", poll=0.01) as kernel:
        await kernel.runs()
        assert threads() == []
        handle = await kernel.start(flow, {}, run_id="r")
        await begun.wait()
        assert len(threads()) == 1
        gate.set()
        await handle.result()
        await until(lambda: threads() == [])
        await kernel.recover(flow)
        assert len(threads()) == 1
    await until(lambda: threads() == [])


async def test_an_error_is_not_the_end(
    store: SqliteBackend, other: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a look fails, the next one tells what it would have told."""
    monkeypatch.setattr(news, "LONG_PAUSE", 0.001)
    honest, failed = news.newest, threading.Event()

    def failing(connection: Any) -> news.Newest:
        if not failed.is_set():
            failed.set()
            raise OSError("not now")
        return honest(connection)

    monkeypatch.setattr(news, "newest", failing)
    told = Told(store)
    await other.put_signal("signalled", Signal("1", "go"))
    await told.until("signalled")
    assert failed.is_set()


async def test_a_run_of_its_own_that_others_change(
    store: SqliteBackend, other: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What others do to a run that the store itself has just parked or ended is told, in the same look, too."""
    await store.create(new_run("signalled"))
    await store.create(new_run("continued"))
    gate = gated_looks(monkeypatch)
    told = Told(store)
    for run_id in ("signalled", "continued"):
        parked = step(1, run_id, status=RunStatus.PARKED, wait=Wait(then="B", signal="go"), release=True)
        await store.commit(parked)
    await other.put_signal("signalled", Signal("1", "go"))
    await other.commit(step(2, "continued", status=RunStatus.SUCCEEDED))
    gate.set()

    assert await told.until("continued") == {"signalled", "continued"}


async def test_a_signal_with_the_number_of_a_deleted_one(
    store: SqliteBackend, other: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal is told that has the number of one that was deleted, with the id of a run that never was."""
    told = Told(store)
    await other.put_signal("early", Signal("1", "go"))
    await told.until("early")
    store.attend(False)
    await until(lambda: threads() == [])
    gate = gated_looks(monkeypatch)
    store.attend(True)
    assert not await other.delete("early")
    await other.put_signal("late", Signal("1", "go"))
    gate.set()

    assert None in await told.until(None)


def test_a_kernel_of_two_event_loops_is_notified_in_the_second(path: Path) -> None:
    """A kernel that is used in a second event loop does not wait for its poll there, which is an hour away."""
    kernel = Kernel(store=f"sqlite:///{path}", poll=3600, lease=36_000)
    flow = Workflow("ask", name="ask").add_exit_state("end")
    flow.register("ask", lambda store: wait_for("answer", then="end"))

    async def use(run_id: str) -> None:
        await kernel.open()
        handle = await kernel.start(flow, run_id=run_id)
        await until(lambda: run_id not in kernel.active)
        async with Kernel(store=f"sqlite:///{path}") as another, asyncio.timeout(60):
            await another.signal(run_id, "answer")
            assert (await handle.result()).state == "end"

    asyncio.run(use("first"))
    asyncio.run(use("second"))
    asyncio.run(kernel.close())
    asyncio.run(until(lambda: threads() == []))


async def test_sqlite_is_not_asked_while_nothing_is_written(
    store: SqliteBackend, other: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the log has not been written for a while, the thread only asks for its time; the next write is told."""
    asked, counts = list[str](), list[int]()
    written = news._written

    def connected(settings: Settings) -> sqlite3.Connection:
        connection = connect_for_reading(settings)
        connection.set_trace_callback(asked.append)
        return connection

    def noting(log: str) -> tuple[int, int] | None:
        counts.append(len(asked))
        return written(log)

    for name, value in {"PAUSE": 0.001, "QUIET_PAUSE": 0.001, "SETTLED": 0, "_written": noting}.items():
        monkeypatch.setattr(news, name, value)
    monkeypatch.setattr(news, "connect_for_reading", connected)
    told = Told(store)
    for run_id in ("one", "two"):
        await other.put_signal(run_id, Signal("1", "go"))
        await told.until(run_id)
        counts.clear()
        await until(lambda: len(counts) > 50 and len(set(counts[-50:])) == 1)


async def test_a_write_in_the_same_moment_is_told(
    store: SqliteBackend, other: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the log's time is so new that another write need not change it, SQLite is asked."""
    moment = time_ns() + 3_600_000_000_000
    monkeypatch.setattr(news, "_written", lambda log: (moment, 0))
    told = Told(store)
    async with asyncio.timeout(60):
        for run_id in ("one", "two"):
            await other.put_signal(run_id, Signal("1", "go"))
            await told.until(run_id)
