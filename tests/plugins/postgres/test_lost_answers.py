"""Connections that die after a call was made, and before its answer came: it is not made a second time."""

from __future__ import annotations

import asyncio

import pytest
from cano import ConflictError, RunStatus, Signal, StoreUnavailableError, Wait
from cano.testing.contract_base import LATER, NOW, free_run, loaded, new_run, note, step
from cano_postgres import PostgresBackend, writer

from tests.plugins.postgres.relay import Relay


async def test_commits_are_made_once(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """Steps and commits without a transition, whose answers are lost, are made once, and reported as made."""
    await store.create(new_run())
    for seq in range(1, 6):
        between.lose = True
        await remote.commit(step(seq, changed={f"k{seq}": b"1"}))
        between.lose = True
        await remote.commit(note(seq, changed={"n": b"%d" % seq}))

    assert between.lost == 10
    assert [line.seq for line in await store.history("run")] == [*range(6)]
    assert (await loaded(store)).data == {"k1": b"1", "n": b"5", "k2": b"1", "k3": b"1", "k4": b"1", "k5": b"1"}


async def test_a_refusal_stays_one(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """A stale commit whose refusal is lost is refused again, and changes nothing."""
    await store.create(new_run())
    await store.commit(step(1))
    for stale in (step(1), step(3), note(0), note(1, token=9)):
        between.lose = True
        with pytest.raises(ConflictError):
            await remote.commit(stale)

    assert between.lost == 4
    assert (await loaded(store)).seq == 1


async def test_a_commit_that_others_followed_is_recognised(
    store: PostgresBackend, remote: PostgresBackend, between: Relay
) -> None:
    """A commit whose answer is lost was made, though others have claimed the run and gone on before it is repeated."""
    await store.create(new_run())
    between.lose = True
    commit = asyncio.ensure_future(remote.commit(step(1, changed={"a": b"1"})))
    await between.loss.wait()
    between.silent.clear()
    assert await store.claim("run", "another", LATER + 1, LATER + 2) == 2
    for seq in range(2, 30):
        await store.commit(step(seq, token=2))
    between.silent.set()
    await commit

    assert [line.seq for line in await store.history("run")] == [*range(30)]


async def test_many_commits_at_once(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """Of many commits whose answers are lost together each is made once."""
    ids = [f"run {number}" for number in range(50)]
    await asyncio.gather(*(remote.create(new_run(run_id)) for run_id in ids))
    for seq in range(1, 5):
        between.lose = True
        await asyncio.gather(*(remote.commit(step(seq, run_id)) for run_id in ids))

    for run_id in ids:
        assert [line.seq for line in await store.history(run_id)] == [*range(5)]
    assert between.lost == 4


async def test_all_other_calls_are_made_once(store: PostgresBackend, remote: PostgresBackend, between: Relay) -> None:
    """Whatever else is asked for, the answer is the one that was lost, and it is done once."""
    run = free_run(status=RunStatus.PARKED, wait=Wait(then="B", signal="go"))
    between.lose = True
    assert await remote.create(run) == run
    between.lose = True
    await remote.put_signal("run", Signal("1", "go", b"1"))
    between.lose = True
    assert await remote.claim("run", "me", NOW, LATER) == 1
    between.lose = True
    assert await remote.renew("me", {"run": 1, "other": 1}, LATER + 1) == ["other"]
    assert await loaded(store) == run._replace(holder="me", expires=LATER + 1, token=1)
    between.lose = True
    await remote.release("run", 1)
    assert [each.run_id for each in await store.ready(NOW)] == ["run"]
    assert await store.claim("run", "me", NOW, LATER) == 2
    between.lose = True
    await remote.commit(note(0, token=2, consumed=["1"]))
    assert [list(each) for each in await store.signals("run")] == [[], ["1"]]
    between.lose = True
    assert await remote.delete("run")
    between.lose = True
    assert not await remote.delete("run")

    assert between.lost == 8
    assert await store.load("run") is None


async def test_a_call_that_was_cancelled_is_not_repeated(
    store: PostgresBackend, remote: PostgresBackend, between: Relay
) -> None:
    """A caller who is cancelled while the connection is down is let go at once, and nothing is done later."""
    await store.create(new_run())
    await remote.load("run")
    between.lose = True
    made = asyncio.ensure_future(remote.commit(step(1)))
    await between.loss.wait()
    between.silent.clear()
    assert remote._backend is not None
    while remote._backend._writer._connection is not None:
        await store.load("run")  # which takes a turn or two
    late = asyncio.ensure_future(remote.commit(step(2)))
    await asyncio.sleep(0)
    for commit in (made, late):
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    between.silent.set()
    await remote.put_signal("run", Signal("1", "go"))

    assert (await loaded(store)).seq == 1


async def test_a_server_that_falls_silent(
    store: PostgresBackend, between: Relay, database: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that answers no more is given up, and what it was asked for is done now or never, and not later."""
    monkeypatch.setattr(writer, "ANSWER_WITHIN", 0.2)
    url = f"postgresql:///{database}?host={between.folder}&user=cano&connect_timeout=2"
    remote = PostgresBackend(url, schema=schema, retry_for=0.2)
    await remote.open()
    await store.create(new_run())
    between.silent.clear()
    with pytest.raises(StoreUnavailableError, match="what was asked for may have been done"):
        await remote.commit(step(1))
    between.silent.set()
    await remote.put_signal("run", Signal("1", "go"))
    seq = (await loaded(store)).seq
    await remote.commit(note(seq, changed={"a": b""}))

    assert (await loaded(store)).seq == seq
    await remote.close()
