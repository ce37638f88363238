"""Connections that die after a call was made, and before its answer came: it is not made a second time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cano import ConflictError, RunStatus, Signal, Wait
from cano.testing.contract_base import LATER, NOW, free_run, loaded, new_run, note, step
from cano_redis import RedisBackend

from tests.plugins.redis.relay import Relay, relay
from tests.servers.redis import RedisServer


@pytest.fixture
async def between(redis: RedisServer) -> AsyncIterator[Relay]:
    """A relay to the server."""
    with tempfile.TemporaryDirectory(prefix="cano-", dir="/tmp") as folder:  # the path of a socket must be short
        async with relay(Path(folder), redis.socket) as between:
            yield between


@pytest.fixture
async def remote(between: Relay, prefix: str) -> AsyncIterator[RedisBackend]:
    """A store behind the relay, the same as `store`."""
    remote = RedisBackend(path=str(between.socket), prefix=prefix)
    await remote.open()
    yield remote
    await remote.close()


async def test_commits_are_made_once(store: RedisBackend, remote: RedisBackend, between: Relay) -> None:
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


async def test_a_refusal_stays_one(store: RedisBackend, remote: RedisBackend, between: Relay) -> None:
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
    store: RedisBackend, remote: RedisBackend, between: Relay
) -> None:
    """A commit whose answer is lost was made, though others have claimed the run and gone on before it is repeated."""
    await store.create(new_run())
    between.lose = True
    commit = asyncio.ensure_future(remote.commit(step(1, changed={"a": b"1"})))
    while (await loaded(store)).seq == 0:
        pass
    assert await store.claim("run", "another", LATER + 1, LATER + 2) == 2
    for seq in range(2, 60):
        await store.commit(step(seq, token=2))
    await commit

    assert [line.seq for line in await store.history("run")] == [*range(60)]


async def test_many_commits_at_once(store: RedisBackend, remote: RedisBackend, between: Relay) -> None:
    """Of many commits whose answers are lost together each is made once."""
    ids = [f"run {number}" for number in range(100)]
    await asyncio.gather(*(remote.create(new_run(run_id)) for run_id in ids))
    for seq in range(1, 5):
        between.lose = True
        await asyncio.gather(*(remote.commit(step(seq, run_id)) for run_id in ids))

    for run_id in ids:
        assert [line.seq for line in await store.history(run_id)] == [*range(5)]
    assert between.lost == 4


async def test_all_other_calls_are_made_once(store: RedisBackend, remote: RedisBackend, between: Relay) -> None:
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


async def test_what_is_stuck_on_an_old_connection_is_never_done(
    store: RedisBackend, between: Relay, prefix: str
) -> None:
    """A commit that got stuck on its way is made by the next connection, and not a second time when it arrives.

    One whose caller was cancelled is not made at all, however late it arrives.
    """
    remote = RedisBackend(path=str(between.socket), prefix=prefix, timeout=0.3)
    await remote.open()
    await store.create(new_run())
    between.hold()
    await remote.commit(note(0, changed={"a": b"old"}))
    await remote.commit(note(0, changed={"a": b"new"}))
    between.let_go()
    assert (await loaded(store)).data == {"a": b"new"}

    between.hold()
    commit = asyncio.ensure_future(remote.commit(step(1)))
    for _ in range(20):
        await asyncio.sleep(0)
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert (await loaded(remote)).seq == 0
    between.let_go()
    await remote.create(new_run("later"))
    for _ in range(100):
        assert (await loaded(store)).seq == 0
    assert (await loaded(store)).data == {"a": b"new"}
    await remote.close()


async def test_a_cancelled_commit_is_made_or_not(store: RedisBackend, remote: RedisBackend, between: Relay) -> None:
    """A commit that is cancelled while its connection dies is not sent again, and the store goes on."""
    await store.create(new_run())
    before = asyncio.all_tasks()
    for turns in range(12):
        seq = (await loaded(store)).seq
        between.lose = True
        commit = asyncio.ensure_future(remote.commit(step(seq + 1)))
        for _ in range(turns):
            await asyncio.sleep(0)
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
        seen = await loaded(remote)
        assert await loaded(store) == seen
        assert seen.seq in (seq, seq + 1)

    assert not [task for task in asyncio.all_tasks() - before if "cano_redis" in repr(task)]
    assert [line.seq for line in await store.history("run")] == [*range((await loaded(store)).seq + 1)]
