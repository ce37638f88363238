"""The server is killed, restarted, cut off or gone while runs commit to it."""

from __future__ import annotations

import asyncio
import random

import pytest
from cano import StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_postgres import PostgresBackend

from tests.servers.postgres import PostgresServer

CUT_OFF = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"


@pytest.mark.parametrize("how", ["killed", "restarted", "cut off"])
async def test_in_mid_commits(server: PostgresServer, how: str) -> None:
    """Runs whose server is killed again and again lose nothing, do nothing twice, and are told of no error."""
    store = PostgresBackend(server.new_url(), snapshot_every=7)
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

    def strike() -> None:
        if how == "killed":
            server.kill()
            server.start()
        elif how == "restarted":
            server.restart()
        else:
            server.psql(CUT_OFF)

    async def strike_often() -> None:
        nonlocal goal
        for _ in range(12 if how == "cut off" else 3):
            await due.wait()
            await asyncio.to_thread(strike)
            goal = total + random.randrange(20, 200)
            due.clear()
        await due.wait()
        enough.set()

    await asyncio.gather(strike_often(), *map(drive, made))

    for run_id, seq in made.items():
        run = await loaded(store, run_id)
        recent = {f"k{each % 3}": b"%d" % each for each in range(max(1, seq - 2), seq + 1)}
        assert (run.seq, run.data) == (seq, {"last": b"%d" % seq} | recent)
        assert [line.seq for line in await store.history(run_id)] == [*range(seq + 1)]
    await store.close()


async def test_gone_for_too_long(server: PostgresServer) -> None:
    """After `retry_for` seconds calls fail, and say so; when the server is back, everything goes on."""
    store = PostgresBackend(server.new_url(), retry_for=0.3)
    await store.open()
    await store.create(new_run())
    server.kill()
    for call in (store.commit(step(1)), store.load("run"), store.claim("run", "me", 0.0, 1.0)):
        with pytest.raises(StoreUnavailableError, match=r"could not be reached for 0.3 seconds") as caught:
            await call
        assert caught.value.run_id in ("run", None)
    with pytest.raises(StoreUnavailableError, match="could not be reached: "):
        await PostgresBackend(server.url(), retry_for=0.3).open()

    server.start()
    await store.commit(step(1))
    assert (await loaded(store)).seq == 1
    await store.close()


async def test_closing_without_a_server(server: PostgresServer) -> None:
    """A store whose server is gone can be closed, and what was under way fails."""
    store = PostgresBackend(server.new_url())
    await store.open()
    await store.create(new_run())
    server.kill()
    commit, load = asyncio.ensure_future(store.commit(step(1))), asyncio.ensure_future(store.load("run"))
    await asyncio.sleep(0)
    await store.close()
    answers = await asyncio.gather(commit, load, return_exceptions=True)

    assert [type(answer) for answer in answers] == [StoreUnavailableError] * 2
    server.start()
