"""The event loop's thread commits a single run's step, if the loop is otherwise idle."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from cano import Commit, ConflictError, RunStatus, SerializationError, StoreUnavailableError
from cano.testing.contract_base import NOW, entries, loaded, new_run, step
from cano_sqlite import SqliteBackend
from cano_sqlite.shortcut import MOST, Shortcut, has_time
from cano_sqlite.writer import Writer

Ask = Callable[..., list[Any]]
Locked = Callable[[], AbstractContextManager[None]]


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteBackend]:
    """An open store that does not compact in these tests, and is quick on any disk."""
    store = SqliteBackend(path, snapshot_every=100_000, synchronous="normal")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each commit, whether it took the shortcut."""
    made: list[bool] = []
    original = Shortcut.take

    def spied(self: Shortcut, commit: Commit) -> bool:
        assert threading.current_thread() is threading.main_thread()
        made.append(original(self, commit))
        return made[-1]

    monkeypatch.setattr(Shortcut, "take", spied)
    return made


async def test_a_lone_commit_takes_it(store: SqliteBackend, taken: list[bool], path: Path) -> None:
    """An idle loop's thread commits by itself: completely, to the file, and visible to all."""
    await store.create(new_run(data={"gone": b"1"}))
    for seq in range(1, 5):
        await store.commit(step(seq, changed={f"k{seq}": b"v"}, removed=["gone"]))
    assert taken == [True] * 4

    other = SqliteBackend(path)
    await other.open()
    assert (await loaded(other)).data == {f"k{seq}": b"v" for seq in range(1, 5)}
    assert [entry[0] for entry in entries(await other.history("run"))] == [0, 1, 2, 3, 4]
    assert (await loaded(other)).updated == NOW + 4
    await other.close()


async def test_it_is_not_taken_while_others_commit(store: SqliteBackend, taken: list[bool]) -> None:
    """Runs that commit at once share a transaction."""
    for run_id in ("a", "b", "c"):
        await store.create(new_run(run_id))
    await asyncio.gather(*(store.commit(step(1, run_id)) for run_id in ("a", "b", "c")))

    assert taken == [False] * 3
    assert [(await loaded(store, run_id)).seq for run_id in ("a", "b", "c")] == [1, 1, 1]


async def test_what_is_more_than_a_step_does_not_take_it(path: Path, taken: list[bool]) -> None:
    """The thread commits large values, the end of a run, and a step that is due for compaction."""
    store = SqliteBackend(path, snapshot_every=5, synchronous="normal")
    await store.open()
    await store.create(new_run())
    for seq in range(1, 11):
        await store.commit(step(seq))  # two of ten are followed by a compaction
    assert taken == [False, True, True, True, True] * 2
    await store.commit(step(11, changed={"large": b"x" * 100_000}))
    await store.commit(step(12, status=RunStatus.SUCCEEDED, release=True))

    assert taken[10:] == [False, False]
    assert (await loaded(store)).seq == 12
    await store.close()


async def test_the_loop_turns_now_and_then(store: SqliteBackend, taken: list[bool]) -> None:
    """In a long row of commits, some go to the thread."""
    await store.create(new_run())
    for seq in range(1, 2 * MOST + 3):
        await store.commit(step(seq))

    assert taken == ([True] * MOST + [False]) * 2


async def test_a_stale_commit_is_refused(store: SqliteBackend, taken: list[bool], ask: Ask) -> None:
    """The file decides, not what this process remembers: another may have continued, claimed or replaced the run."""
    await store.create(new_run())
    await store.commit(step(1))
    with pytest.raises(ConflictError, match="has made 1 transitions, not 4"):
        await store.commit(step(5))

    ask("UPDATE runs SET token = 2")
    with pytest.raises(ConflictError, match="its token is 2, not 1"):
        await store.commit(step(2))
    ask("UPDATE runs SET token = 1, id = 7")
    ask("UPDATE journal SET run = 7")
    ask("UPDATE definitions SET run = 7")
    await store.commit(step(2))
    await store.commit(step(3))
    ask("UPDATE runs SET status = 'parked'")
    await store.commit(step(4))
    assert await loaded(store) == new_run(seq=4, state="S4", updated=NOW + 4, data={})

    ask("DELETE FROM runs")
    with pytest.raises(ConflictError, match="it does not exist"):
        await store.commit(step(5))
    assert ask("SELECT count(*) FROM journal") == [(5,)]
    assert taken == [True, False, False, False, True, False, False]


async def test_others_that_write_are_waited_for(store: SqliteBackend, locked: Locked, taken: list[bool]) -> None:
    """While another program holds the write lock, the commit goes to the thread, and the loop runs."""
    await store.create(new_run())
    with ExitStack() as other:
        other.enter_context(locked())
        asyncio.get_running_loop().call_later(0.1, other.close)
        await store.commit(step(1))

    assert taken == [False]
    assert (await loaded(store)).seq == 1


async def test_what_cannot_be_kept_is_named(store: SqliteBackend) -> None:
    """A value that SQLite refuses is refused with the run's id; the next commit works."""
    await store.create(new_run())
    with pytest.raises(SerializationError, match="'run'"):
        await store.commit(step(1, state="\ud800"))
    await store.commit(step(1))
    assert (await loaded(store)).seq == 1


async def test_a_closed_store_says_so(store: SqliteBackend) -> None:
    """After `close`, the shortcut is closed too."""
    await store.create(new_run())
    await store.commit(step(1))
    await store.close()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        await store.commit(step(2))


async def test_when_a_loop_has_time() -> None:
    """The loop is not idle if it has a callback, a timer that is due within 20 ms, or a socket."""
    loop = asyncio.get_running_loop()
    assert has_time(loop)
    later = loop.call_later(60, print)
    assert has_time(loop)
    later.cancel()

    soon = loop.call_later(0.001, print)
    assert not has_time(loop)
    soon.cancel()
    loop.call_soon(lambda: None)
    assert not has_time(loop)
    await asyncio.sleep(0)

    one, other = socket.socketpair()
    with one, other:
        loop.add_reader(one, print)
        assert not has_time(loop)
        loop.remove_reader(one)


def test_a_loop_of_another_make_has_no_time() -> None:
    """A loop that is not asyncio's own is not inspected."""
    assert not has_time(cast("asyncio.AbstractEventLoop", object()))


@pytest.mark.parametrize("name", ["_scheduled", "_ready", "_selector"])
async def test_a_loop_whose_private_attributes_changed_has_no_time(name: str) -> None:
    """If a later Python changes what the shortcut reads, commits go to the thread, and nothing is raised."""
    loop = asyncio.get_running_loop()
    assert has_time(loop)
    had = getattr(loop, name)
    setattr(loop, name, object())
    changed = has_time(loop)
    delattr(loop, name)
    gone = has_time(loop)
    setattr(loop, name, had)

    assert (changed, gone) == (False, False)


def test_steps_in_a_loop_of_another_make(path: Path, taken: list[bool]) -> None:
    """In an event loop that is not asyncio's own, such as uvloop's, every step goes to the thread, and is made."""

    class Another(asyncio.SelectorEventLoop):
        """Another loop."""

    async def steps() -> int:
        store = SqliteBackend(path)
        await store.open()
        await store.create(new_run())
        for seq in range(1, 6):
            await store.commit(step(seq))
        made = (await loaded(store)).seq
        await store.close()
        return made

    with asyncio.Runner(loop_factory=Another) as runner:
        assert runner.run(steps()) == 5
    assert taken == [False] * 5


async def test_no_time_where_tasks_begin_at_once() -> None:
    """A loop with a task factory may start several runs before it polls, so it is not idle."""
    loop = asyncio.get_running_loop()
    loop.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))
    assert not has_time(loop)
    loop.set_task_factory(None)
    assert has_time(loop)


async def test_a_signal_that_raises_leaves_the_store_usable(
    store: SqliteBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a signal handler raises during a commit, later commits work, and the store can be closed."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    await store.create(new_run())
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "let_commits_checkpoint", interrupted)
        with pytest.raises(KeyboardInterrupt):
            await store.commit(step(1))
    await store.commit(step(1))
    await store.commit(step(2, status=RunStatus.SUCCEEDED, release=True))
    assert (await loaded(store)).seq == 2
