"""Notifications: the contract says what is sent; these tests say what is not, and how the connection is kept."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from cano import Kernel, RunStatus, Signal, Wait, Workflow, wait_for
from cano.testing.contract_base import LATER, NOW, free_run, new_run, note, step
from cano_msgspec import ends
from cano_redis import RedisBackend
from redis.asyncio import Redis

from tests.servers.redis import RedisServer


async def test_no_more_is_told_than_helps(redis: RedisServer, prefix: str, store: RedisBackend) -> None:
    """Each change that may let a run continue is sent once; other changes, and a backend's own, are not."""
    told: list[str | None] = []
    heard = asyncio.Event()

    def tell(run_id: str | None) -> None:
        told.append(run_id)
        if run_id == "end":
            heard.set()

    other = RedisBackend(path=str(redis.socket), prefix=prefix)
    await other.open()
    store.watch(tell)
    await other.create(free_run("ключ {} \n"))
    await other.create(new_run("held"))
    await other.commit(step(1, "held"))
    await other.commit(note(1, "held", status=RunStatus.PARKED, wait=Wait(then="B", signal="go")))
    await other.renew("me", {"held": 1}, LATER + 1)
    await other.claim("ключ {} \n", "me", NOW, LATER)
    await other.put_signal("early", Signal("\0", "\0"))
    await other.put_signal("early", Signal("\0", "\0"))
    await other.delete("never")
    await other.delete("held")
    for own in ("mine", "mine too"):
        await store.create(free_run(own))
        await store.delete(own)
    for number in range(3):
        await other.create(new_run(f"run {number}"))
        await other.commit(step(1, f"run {number}", status=RunStatus.FAILED))
    await other.create(new_run("end"))
    await other.commit(step(1, "end", status=RunStatus.PARKED, release=True))
    await heard.wait()

    assert told == ["ключ {} \n", "early", "held", "run 0", "run 1", "run 2", "end"]
    await other.close()


async def test_many_ends_are_told_together(redis: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One notification names many runs that ended; closing sends the last one at once."""
    monkeypatch.setattr(ends, "GAP", 3600.0)
    monkeypatch.setattr(ends, "_LAST", 60.0)
    other = RedisBackend(path=str(redis.socket), prefix=prefix)
    await other.open()
    names = [str(number) for number in range(100)]
    await asyncio.gather(*(other.create(new_run(name)) for name in names))
    async with Redis(unix_socket_path=str(redis.socket)) as client, client.pubsub() as messages:
        await messages.subscribe(f"{{{prefix}}}:news:0")
        await asyncio.gather(*(other.commit(step(1, name, status=RunStatus.SUCCEEDED)) for name in names))
        await other.close()
        told: list[list[str]] = []
        while len([name for some in told for name in some]) < len(names):
            message = await messages.get_message(ignore_subscribe_messages=True, timeout=60)
            if message is not None:
                told.append(json.loads(message["data"][8:]))

    assert sorted(name for some in told for name in some) == sorted(names)
    assert len(told) < 5


async def test_messages_of_others(redis: RedisServer, prefix: str, store: RedisBackend) -> None:
    """The store takes each message of an earlier version or another program as one of any run, and continues."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch(told.put_nowait)
    odd = ["17", "null", '"run"', "{}", "[1]", "[]", "run", "", "[" * 100_000]
    async with Redis(unix_socket_path=str(redis.socket)) as client:
        for text in (*odd, '["run"]'):
            await client.publish(f"{{{prefix}}}:news:0", b"another." + text.encode())

    assert [await told.get() for _ in range(len(odd) + 1)] == [*[None] * len(odd), "run"]


async def test_stores_are_apart(redis: RedisServer, store: RedisBackend, prefix: str) -> None:
    """Each prefix and each database of a server has notifications of its own."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch(told.put_nowait)
    for options in ({"prefix": prefix + "x"}, {"db": 1, "prefix": prefix}, {"prefix": prefix}):
        other = RedisBackend(path=str(redis.socket), **options)
        await other.open()
        await other.create(free_run(str(options.get("db", 0)) + str(options["prefix"])))
        await other.close()

    assert await told.get() == f"0{prefix}"
    assert told.empty()


async def test_a_silent_connection_is_asked(redis: RedisServer, prefix: str) -> None:
    """A connection without messages gets a PING, and is kept."""
    one = RedisBackend(path=str(redis.socket), prefix=prefix, timeout=1.5)  # a later answer ends the connection
    two = RedisBackend(path=str(redis.socket), prefix=prefix)
    told: asyncio.Queue[str | None] = asyncio.Queue()
    for store in (one, two):
        await store.open()
    one.watch(told.put_nowait)
    asked = 0
    async with Redis(unix_socket_path=str(redis.socket)) as client, client.monitor() as monitor:
        async for command in monitor.listen():
            asked += command["command"] == "PING"
            if asked == 2:
                break
    assert any("cmd=ping" in line and "sub=1" in line for line in redis.cli("client", "list").splitlines())
    await two.put_signal("run", Signal("1", "go"))

    assert await told.get() == "run"
    assert told.empty()
    for store in (one, two):
        await store.close()


async def test_a_watcher_that_raises_is_reported(
    store: RedisBackend, redis: RedisServer, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each exception of a watcher is logged."""
    calls: asyncio.Queue[str | None] = asyncio.Queue()

    def tell(run_id: str | None) -> None:
        calls.put_nowait(run_id)
        raise ValueError("no")

    other = RedisBackend(path=str(redis.socket), prefix=prefix)
    await other.open()
    store.watch(tell)
    await other.create(free_run("run"))
    assert await calls.get() == "run"
    await other.close()

    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_kernel_hears_of_a_signal(redis: RedisServer) -> None:
    """A run that waits in one kernel continues when another kernel signals."""
    url = redis.new_url()
    flow = Workflow("ask", name="approval").add_exit_state("done")

    @flow.on("ask")
    async def ask(store: dict[str, object]) -> Any:
        return wait_for("approved", then="done")

    async with Kernel(store=url) as one, Kernel(store=url) as two:
        handle = await one.start(flow, run_id="run")
        while (await two.backend.load("run")).status is not RunStatus.PARKED:  # type: ignore[union-attr]
            pass
        await two.signal("run", "approved")
        assert (await handle.result()).state == "done"
