"""Steps of the only active run: its caller sends each, and the connection stays usable."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable
from typing import Any

import pytest
from cano import ConflictError
from cano.testing import Relay
from cano.testing.contract_base import loaded, new_run, step
from cano_postgres import PostgresBackend
from cano_postgres.quick import QuickConnection


def writing(store: PostgresBackend) -> QuickConnection:
    """Return the writing connection."""
    assert store._backend is not None
    connection = store._backend._writer._connection
    assert connection is not None
    return connection


async def test_cancelled_steps(store: PostgresBackend) -> None:
    """Callers that are cancelled, once or twice, leave whole commits, no task, and no answer for the next call."""
    chance = random.Random(4)
    await store.create(new_run())
    tasks, made = len(asyncio.all_tasks()), 0
    for _ in range(60):
        commit = asyncio.ensure_future(store.commit(step(made + 1)))
        for turns in chance.choices(range(4), k=chance.randrange(1, 3)):
            for _ in range(turns):
                await asyncio.sleep(0)
            commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        assert len(asyncio.all_tasks()) <= tasks
        seq = (await loaded(store)).seq
        assert seq in (made, made + 1)
        with pytest.raises(ConflictError):
            await store.commit(step(seq + 2))
        made = seq
    await store.commit(step(made + 1))

    assert 0 < made < 60
    assert [line.seq for line in await store.history("run")] == [*range(made + 2)]


async def test_a_step_that_is_cancelled_on_its_way(
    store: PostgresBackend, remote: PostgresBackend, between: Relay
) -> None:
    """The cancellation is raised when the answer has come, and not before."""
    await store.create(new_run())
    between.hold()
    commit = asyncio.ensure_future(remote.commit(step(1)))
    await asyncio.sleep(0)
    for _ in range(3):
        commit.cancel()
        assert await store.load("nobody") is None  # which takes many turns
        assert not commit.done()
    between.let_go()
    with pytest.raises(asyncio.CancelledError):
        await commit

    assert (await loaded(store)).seq == 1
    await remote.commit(step(2))


async def test_closing(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """A step that was sent is committed, or refused with its reason, before the store is closed."""
    await store.create(new_run())
    assert remote._backend is not None
    writer = remote._backend._writer
    between.hold()
    stale = asyncio.ensure_future(remote.commit(step(3)))
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(remote.close())
    while not writer._closing:
        await store.load("run")
    assert not stale.done()
    between.let_go()
    with pytest.raises(ConflictError, match="it has made 0 transitions, not 2"):
        await stale
    await closing


async def test_answers_in_pieces(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """An answer that arrives byte by byte is read to its end, also a refusal."""
    await store.create(new_run())
    between.crumbs = True
    await remote.commit(step(1))
    with pytest.raises(ConflictError):
        await remote.commit(step(3))
    await remote.commit(step(2))

    assert [line.seq for line in await store.history("run")] == [0, 1, 2]


async def test_a_step_that_does_not_go_out_at_once(
    store: PostgresBackend, remote: PostgresBackend, between: Relay
) -> None:
    """What the socket does not take yet is sent later, even if the caller is cancelled meanwhile."""
    await store.create(new_run())
    with socket.socket(fileno=os.dup(writing(remote).pgconn.socket)) as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for seq in range(1, 4):
        between.hold()
        commit = asyncio.ensure_future(remote.commit(step(seq, changed={"a": bytes(60_000)})))
        await asyncio.sleep(0)
        if seq == 2:
            commit.cancel()
        between.let_go()
        await asyncio.wait((commit,))
        assert commit.cancelled() == (seq == 2)

    assert [line.seq for line in await store.history("run")] == [0, 1, 2, 3]


async def test_a_connection_that_ends_between_steps(store: PostgresBackend, ask: Callable[..., list[Any]]) -> None:
    """If the watched connection ends between two steps, the loop stops watching it; the next step gets another one."""
    await store.create(new_run())
    await store.commit(step(1))
    connection = writing(store)
    assert connection._watched is not None
    assert ask("SELECT pg_terminate_backend(%s)", connection.info.backend_pid) == [(True,)]
    while connection._watched is not None:
        await store.load("run")
    await store.commit(step(2))

    assert writing(store) is not connection
    assert [line.seq for line in await store.history("run")] == [0, 1, 2]


async def test_runs_that_are_not_alone(url: str, schema: str, ask: Callable[..., list[Any]]) -> None:
    """The commits of many runs share one transaction, time after time."""
    store = PostgresBackend(url, schema=schema)
    await store.open()
    ids = [f"run {number}" for number in range(20)]
    for run_id in ids:
        await store.create(new_run(run_id))
    for seq in range(1, 6):
        await asyncio.gather(*(store.commit(step(seq, run_id)) for run_id in ids))
    await store.close()

    transactions = ask("SELECT count(DISTINCT xmin::text) FROM journal GROUP BY line ORDER BY line")
    assert transactions == [(20,), (2,), (1,), (1,), (1,), (1,)]
