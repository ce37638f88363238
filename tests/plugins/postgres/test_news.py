"""News: what others do is told soon, what one does oneself is not, and a broken connection is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from cano import RunStatus, Signal, Wait
from cano.testing.contract_base import LATER, NOW, free_run, new_run, note, step
from cano_postgres import PostgresBackend

from tests.servers.postgres import PostgresServer

Ask = Callable[..., list[Any]]


async def test_what_others_do_is_told(url: str, schema: str, store: PostgresBackend) -> None:
    """Each thing that may let somebody go on is told, with any id; what is one's own is not."""
    told: list[str | None] = []
    heard = asyncio.Event()

    def tell(run_id: str | None) -> None:
        told.append(run_id)
        if run_id == "end":
            heard.set()
        if run_id == "early":
            raise ValueError("one that watches and fails")

    other = PostgresBackend(url, schema=schema)
    await other.open()
    store.watch(tell)
    await other.create(free_run("ключ {} \n"))
    await other.create(new_run("held"))
    await other.commit(step(1, "held"))
    await other.commit(note(1, "held", status=RunStatus.PARKED, wait=Wait(then="B", signal="go")))
    await other.renew("me", {"held": 1}, LATER + 1)
    await other.claim("ключ {} \n", "me", NOW, LATER)
    await other.put_signal("early", Signal("\0", "\0"))
    await other.commit(step(2, "held", status=RunStatus.FAILED, release=True))
    await other.release("ключ {} \n", 1)
    await other.delete("held")
    for own in ("mine", "mine too"):
        await store.create(free_run(own))
        await store.delete(own)
    await other.create(free_run("x" * 9000))
    await other.put_signal("end", Signal("1", "go"))
    await heard.wait()

    assert told == ["ключ {} \n", "early", "held", "ключ {} \n", "held", None, "end"]
    await other.close()


async def test_stores_are_apart(url: str, schema: str, store: PostgresBackend) -> None:
    """Other schemas of a database have news of their own."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch(told.put_nowait)
    for name in (schema + "x", schema):
        other = PostgresBackend(url, schema=name)
        await other.open()
        await other.create(free_run(name))
        await other.close()

    assert await told.get() == schema
    assert told.empty()


async def test_a_lost_connection_is_told(server: PostgresServer) -> None:
    """When the connection breaks, None is told as soon as there is a new one, and news are told again."""
    url = server.new_url()
    one, two = PostgresBackend(url), PostgresBackend(url)
    told: asyncio.Queue[str | None] = asyncio.Queue()
    for store in (one, two):
        await store.open()
    one.watch(told.put_nowait)
    everybody = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
    for breaks in (lambda: server.psql(everybody), server.restart):
        await asyncio.to_thread(breaks)
        assert await told.get() is None
        await two.put_signal("run", Signal(str(breaks), "go"))
        assert await told.get() == "run"
    for store in (one, two):
        await store.close()
