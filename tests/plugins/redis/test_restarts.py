"""The server is killed, restarted, frozen or busy while runs commit to it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Callable

import pytest
from cano import StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_redis import RedisBackend

from tests.plugins.redis.conftest import until
from tests.servers.redis import RedisServer

Start = Callable[..., RedisServer]


async def test_killed_in_mid_commits(a_server: Start) -> None:
    """Runs whose server is killed again and again lose nothing, do nothing twice, and are told of no error."""
    server = a_server()
    store = RedisBackend(path=str(server.socket))
    await store.open()
    made, total, goal = dict.fromkeys((f"run {number}" for number in range(20)), 0), 0, 40
    due, enough = asyncio.Event(), asyncio.Event()

    async def drive(run_id: str) -> None:
        nonlocal total
        await store.create(new_run(run_id))
        while not enough.is_set():
            seq = made[run_id] + 1
            await store.commit(step(seq, run_id, changed={f"k{seq % 3}": b"%d" % seq, "last": b"%d" % seq}))
            made[run_id] = seq
            total += 1
            if total >= goal:
                due.set()

    async def kill() -> None:
        nonlocal goal
        for _ in range(5):
            await due.wait()
            server.kill()
            await asyncio.to_thread(server.start)
            goal = total + random.randrange(20, 200)
            due.clear()
        await due.wait()
        enough.set()

    await asyncio.gather(kill(), *map(drive, made))

    for run_id, seq in made.items():
        run = await loaded(store, run_id)
        recent = {f"k{each % 3}": b"%d" % each for each in range(max(1, seq - 2), seq + 1)}
        assert (run.seq, run.data) == (seq, {"last": b"%d" % seq} | recent)
        assert [line.seq for line in await store.history(run_id)] == [*range(seq + 1)]
    await store.close()


async def test_a_server_that_stays_away(a_server: Start) -> None:
    """A call to a server that is gone fails after `retry_for`, in an error that says so, and works when it is back."""
    server = a_server()
    store = RedisBackend(path=str(server.socket), retry_for=0.2, password=None)
    await store.open()
    await store.create(new_run())
    server.kill()
    answers = await asyncio.gather(store.commit(step(1)), store.load("run"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
    assert str(server.socket) in str(answers[0])
    assert answers[0].run_id == "run"  # type: ignore[union-attr]
    with pytest.raises(StoreUnavailableError):
        await RedisBackend(path=str(server.socket)).open()
    server.start()
    await store.commit(step(1))
    assert (await loaded(store)).seq == 1
    await store.close()


async def test_closing_while_the_server_is_away(a_server: Start) -> None:
    """A store whose server is gone closes at once; what waits for it is told so."""
    server = a_server()
    store = RedisBackend(path=str(server.socket))
    await store.open()
    server.kill()
    commit = asyncio.ensure_future(store.commit(step(1)))
    for _ in range(20):
        await asyncio.sleep(0)
    await store.close()

    with pytest.raises(StoreUnavailableError):
        await commit


async def test_a_frozen_server(a_server: Start) -> None:
    """A server that does not answer is given up after `timeout`; what it was sent is done once when it wakes up."""
    server = a_server()
    store = RedisBackend(path=str(server.socket), timeout=0.2)
    await store.open()
    await store.create(new_run())
    assert store._backend is not None
    pump = store._backend._pump
    os.kill(server.pid, signal.SIGSTOP)
    commit = asyncio.ensure_future(store.commit(step(1)))
    await until(lambda: pump._since is not None)
    os.kill(server.pid, signal.SIGCONT)
    await commit

    assert [line.seq for line in await store.history("run")] == [0, 1]
    await store.close()


async def test_the_scripts_are_forgotten(a_server: Start) -> None:
    """Runs do not notice that somebody flushes the scripts."""
    server = a_server()
    store = RedisBackend(path=str(server.socket))
    await store.open()
    ids = [f"run {number}" for number in range(30)]
    await asyncio.gather(*(store.create(new_run(run_id)) for run_id in ids))
    for seq in range(1, 6):
        assert server.cli("script", "flush") == "OK"
        await asyncio.gather(*(store.commit(step(seq, run_id)) for run_id in ids))

    assert [(await loaded(store, run_id)).seq for run_id in ids] == [5] * 30
    await store.close()


async def test_a_busy_server(a_server: Start) -> None:
    """A server that is held up by somebody's script is waited for, though it refuses meanwhile."""
    server = a_server("--lua-time-limit", "1")
    store = RedisBackend(path=str(server.socket))
    await store.open()
    await store.create(new_run())
    endless = await asyncio.create_subprocess_exec(
        "redis-cli", "-s", str(server.socket), "eval", "while true do end", "0", stdout=asyncio.subprocess.DEVNULL
    )
    while "BUSY" not in server.cli("ping"):
        pass
    commit = asyncio.ensure_future(store.commit(step(1)))
    assert store._backend is not None
    pump = store._backend._pump
    await until(lambda: pump._since is not None)
    server.cli("script", "kill")
    await commit
    await endless.wait()

    assert (await loaded(store)).seq == 1
    await store.close()


async def test_a_replica_refuses(a_server: Start) -> None:
    """A server that has become a replica is not written to; when it is a master again, calls go on."""
    server = a_server()
    store = RedisBackend(path=str(server.socket), retry_for=0.2)
    await store.open()
    await store.create(new_run())
    server.cli("replicaof", "127.0.0.1", "1")
    with pytest.raises(StoreUnavailableError, match="replica"):
        await store.commit(step(1))
    with pytest.raises(StoreUnavailableError, match="replica"):
        await RedisBackend(path=str(server.socket)).open()
    server.cli("replicaof", "no", "one")
    await store.commit(step(1))

    assert (await loaded(store)).seq == 1
    await store.close()
