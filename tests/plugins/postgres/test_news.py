"""Notifications: the contract says what is sent; these tests say what is not."""

from __future__ import annotations

import asyncio
import json

import psycopg
import pytest
from cano import RunStatus, Signal, Wait
from cano.testing.contract_base import LATER, NOW, free_run, new_run, note, step
from cano_msgspec import ends
from cano_postgres import PostgresBackend
from psycopg import sql


async def test_no_more_is_told_than_helps(url: str, schema: str, store: PostgresBackend) -> None:
    """Each change that may let a run continue is sent once; other changes, and a backend's own, are not."""
    told: list[str | None] = []
    heard = asyncio.Event()

    def tell(run_id: str | None) -> None:
        told.append(run_id)
        if run_id == "end":
            heard.set()

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
    await other.release("ключ {} \n", 1)
    await other.delete("held")
    for own in ("mine", "mine too"):
        await store.create(free_run(own))
        await store.delete(own)
    await other.create(free_run("x" * 9000))
    for number in range(3):
        await other.create(new_run(f"run {number}"))
        await other.commit(step(1, f"run {number}", status=RunStatus.FAILED, release=True))
    await other.create(new_run("end"))
    await other.commit(step(1, "end", status=RunStatus.PARKED, release=True))
    await heard.wait()

    assert told == ["ключ {} \n", "early", "ключ {} \n", "held", None, "run 0", "run 1", "run 2", "end"]
    await other.close()


async def test_many_ends_are_told_together(
    url: str, schema: str, store: PostgresBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One notification names many runs that ended; closing sends the last one at once."""
    monkeypatch.setattr(ends, "GAP", 3600.0)
    monkeypatch.setattr(ends, "_LAST", 60.0)
    other = PostgresBackend(url, schema=schema)
    await other.open()
    names = [f"{number} {'ж' * 100}" for number in range(100)]
    await asyncio.gather(*(other.create(new_run(name)) for name in names))
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(schema)))
        await asyncio.gather(*(other.commit(step(1, name, status=RunStatus.SUCCEEDED)) for name in names))
        await other.close()
        notices = []
        async for notice in connection.notifies():
            notices.append(json.loads(notice.payload[16:]))
            if sum(map(len, notices)) == len(names):
                break

    assert sorted(name for some in notices for name in some) == sorted(names)
    assert 2 < len(notices) < 10  # one for the first runs, and as many as 7,900 bytes need for the others


async def test_notifications_of_others(url: str, schema: str, store: PostgresBackend) -> None:
    """The store takes each message of an earlier version or another program as one of any run."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch(told.put_nowait)
    odd = ["17", "null", '"run"', "{}", "[1]", "[]", "run", "", "[" * 7000]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for text in (*odd, '["run"]'):
            await connection.execute("SELECT pg_notify(%s, %s)", (schema, "another process " + text))

    assert [await told.get() for _ in range(len(odd) + 1)] == [*[None] * len(odd), "run"]


async def test_stores_are_apart(url: str, schema: str, store: PostgresBackend) -> None:
    """Each schema of a database has notifications of its own."""
    told: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch(told.put_nowait)
    for name in (schema + "x", schema):
        other = PostgresBackend(url, schema=name)
        await other.open()
        await other.create(free_run(name))
        await other.close()

    assert await told.get() == schema
    assert told.empty()
