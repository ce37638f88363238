"""The server is killed, restarted, frozen or busy while runs commit to it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cano import StoreUnavailableError
from cano.testing import RestartContract
from cano.testing.contract_base import loaded, new_run, step
from cano_redis import RedisBackend

from tests.servers.redis import RedisServer
from tests.waiting import until

Start = Callable[..., RedisServer]


class TestRestarts(RestartContract):
    """The contract of servers that go away, on one that syncs each commit."""

    @pytest.fixture(autouse=True)
    def _server(self, a_server: Start) -> None:
        self.server = a_server()

    def make_url(self, tmp_path: Path) -> str:
        """An unused prefix."""
        return self.server.new_url()

    def impatient_url(self, url: str) -> str:
        """The same, with a short wait."""
        return f"{url}&retry_for=0.2"

    def kill_server(self) -> None:
        """Kill it."""
        self.server.kill()

    def start_server(self) -> None:
        """Start it."""
        self.server.start()

    def strikes(self) -> Sequence[Callable[[], object]]:
        """Killed, restarted, or without its connections."""
        return [*super().strikes(), self.server.restart, self.cut_off]

    def cut_off(self) -> None:
        """End all connections."""
        for kind in ("normal", "pubsub"):
            self.server.cli("client", "kill", "type", kind)


async def test_a_frozen_server(a_server: Start) -> None:
    """If the server does not answer for `timeout` seconds, the store reconnects; the sent call is done once."""
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
    """Runs survive SCRIPT FLUSH."""
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
    """Calls wait for a server that another script blocks."""
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
    """A server that became a replica is not written to; when it is a primary again, calls work."""
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
