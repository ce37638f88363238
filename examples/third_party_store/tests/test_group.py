"""Group commit: which calls share a transaction, what a refused or failed one does to others, and cancellation."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from cano import Commit, ConflictError, RunRecord, RunStatus, SerializationError
from lmdb_runs.plugin import PROMISES
from lmdb_runs.store import LmdbStore

T = TypeVar("T")
IDS = [f"{number}" for number in range(10)]


class Busy:
    """Keeps the store's thread busy with a call."""

    def __init__(self, store: LmdbStore) -> None:
        self._begun, self._gate = threading.Event(), threading.Event()
        self._call = asyncio.create_task(store.do(self._work, True))

    def _work(self, txn: Any) -> None:
        self._begun.set()
        self._gate.wait()
        txn.put(b"busy", b"done")

    async def begun(self) -> None:
        """Wait until the thread has taken the call, so that later calls wait."""
        await asyncio.to_thread(self._begun.wait)

    def end(self) -> None:
        """Let the thread continue."""
        self._gate.set()

    async def cancelled(self) -> None:
        """Cancel the call twice, and check that it waits until it is done."""
        for _ in range(2):
            self._call.cancel()
            await turns()
            assert not self._call.done()
        self.end()
        with pytest.raises(asyncio.CancelledError):
            await self._call


async def turns() -> None:
    """Let the other tasks of the loop run."""
    for _ in range(5):
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[tuple[LmdbStore, Busy]]:
    """A store with ten runs, whose thread is busy."""
    store = LmdbStore(str(path / "runs.mdb"), PROMISES)
    await store.open()
    for run_id in IDS:
        await store.create(RunRecord(run_id, "flow", "1", "f", "S0"))
    busy = Busy(store)
    await busy.begun()
    try:
        yield store, busy
    finally:
        busy.end()
        await store.close()


def step(run_id: str, seq: int = 1, value: object = b"value") -> Commit:
    """Return the commit of a step."""
    return Commit(run_id, 0, seq - 1, seq, f"S{seq}", RunStatus.RUNNING, changed={"key": value})


async def together(busy: Busy, *calls: Awaitable[T]) -> list[T | BaseException]:
    """Make calls while the thread is busy, and return their results or errors."""
    waiting = asyncio.gather(*calls, return_exceptions=True)
    await turns()
    busy.end()
    return await waiting


async def seqs(store: LmdbStore) -> list[int]:
    """Return the seq of each run."""
    return [run.seq for run_id in IDS if (run := await store.load(run_id)) is not None]


def test_what_waits_is_done_in_one_transaction(tmp_path: Path) -> None:
    """Calls that arrive while the thread is busy share a transaction."""

    def work(txn: Any) -> int:
        txn.put(b"written", b"%d" % txn.id())  # an empty transaction would leave its number to the next one
        number: int = txn.id()
        return number

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            numbers = await together(busy, *(store.do(work, True) for _ in range(10)))
            assert len(numbers) == 10
            assert len(set(numbers)) == 1
            assert await store.do(work, True) not in numbers

    asyncio.run(main())


@pytest.mark.parametrize(
    ("wrong", "error"), [(step("4", seq=7), ConflictError), (step("4", value="no bytes"), SerializationError)]
)
def test_one_that_is_refused_or_fails_undoes_no_other(
    tmp_path: Path, wrong: Commit, error: Callable[..., Exception]
) -> None:
    """Of ten commits in one transaction, nine are applied, and nothing of the failed one is."""

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            answers = await together(busy, *(store.commit(wrong if each == "4" else step(each)) for each in IDS))
            assert [type(answer) for answer in answers] == [error if each == "4" else type(None) for each in IDS]
            assert await seqs(store) == [0 if each == "4" else 1 for each in IDS]
            assert [len(await store.history(each)) for each in IDS] == [1 if each == "4" else 2 for each in IDS]

    asyncio.run(main())


def test_a_cancelled_call_that_waits_is_dropped(tmp_path: Path) -> None:
    """A waiting call that is cancelled ends at once, and is never done; the others are."""

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            calls = [asyncio.create_task(store.commit(step(each))) for each in IDS]
            await turns()
            calls[4].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[4]
            busy.end()
            await asyncio.wait(calls)
            assert await seqs(store) == [0 if each == "4" else 1 for each in IDS]

    asyncio.run(main())


def test_a_cancelled_call_that_has_begun_is_done_first(tmp_path: Path) -> None:
    """A call that the thread has taken completes before its cancellation is raised, however often it is cancelled."""

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            await busy.cancelled()
            assert await store.do(lambda txn: txn.get(b"busy"), False) == b"done"

    asyncio.run(main())


def test_a_slow_transaction_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    """While the thread is busy, the loop runs other tasks."""

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            call = asyncio.create_task(store.commit(step("4")))
            await turns()
            assert not call.done()
            busy.end()
            await call

    asyncio.run(main())


def test_several_event_loops_use_a_store(tmp_path: Path) -> None:
    """Callers in other threads share the store's thread, and are woken in their own loops."""

    async def main() -> None:
        async with opened(tmp_path) as (store, busy):
            await together(busy, *(asyncio.to_thread(asyncio.run, store.commit(step(each))) for each in IDS))
            assert await seqs(store) == [1] * 10

    asyncio.run(main())
