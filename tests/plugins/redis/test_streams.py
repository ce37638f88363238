"""Streams in Redis: commits that have other things besides, corrupt chunks, and which keys are left."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cano import AuditEntry, RunStatus, SerializationError, StreamChunk
from cano.testing.contract_base import LATER, NOW, new_run, step
from cano.testing.contract_streams import chunk, contents
from cano_redis import RedisBackend

from tests.plugins.redis.conftest import Ask
from tests.servers.redis import RedisServer

CHUNK = StreamChunk("answer", 1, 1, b"one")


@pytest.mark.parametrize("audited", [False, True])
@pytest.mark.parametrize("attributes", [None, {"tenant": b"acme", "amount": b"5"}])
async def test_a_commit_has_everything_at_once(
    store: RedisBackend, attributes: dict[str, bytes] | None, audited: bool
) -> None:
    """A commit with chunks may have attributes and an entry for the audit, too: all are stored, or none."""
    entry = AuditEntry("run", "cancel", "ada", NOW)
    some = [chunk(store, 1), chunk(store, 3, size=2), chunk(store, 1, "other")]
    await store.create(new_run())
    commit = step(1, chunks=some, attributes=attributes, changed={"n": b"1"})
    given = (entry,) if audited else ()
    with pytest.raises(Exception, match="stale"):
        await store.commit(commit._replace(token=2), *given)
    assert await contents(store) == []
    assert list(await store.audit(None, None)) == []
    await store.commit(commit, *given)
    assert await contents(store) == some[:2]
    assert await contents(store, channel="other") == some[2:]
    assert list(await store.audit(None, None)) == list(given)
    assert sorted(name for name, _ in await store.attribute_names()) == sorted(attributes or ())


async def test_a_deleted_run_leaves_no_key(store: RedisBackend, ask: Ask) -> None:
    """Deleting and pruning delete each channel of a run; what an earlier version left is not of the next run."""
    for run_id in ("run", "pruned"):
        await store.create(new_run(run_id))
        await store.write_stream(run_id, 1, [CHUNK, chunk(store, 1, "\0 {}")])
    assert len(await ask("KEYS", "*stream*")) >= 6
    await store.delete("run")
    await store.commit(step(1, "pruned", status=RunStatus.SUCCEEDED, release=True))
    await store.delete_finished(["pruned"], LATER)
    prefix = store._settings.keys.decode()
    kept = [key for key in await ask("KEYS", "*stream*") if key.startswith(prefix.encode())]
    assert kept == []


async def test_a_corrupt_chunk(store: RedisBackend, ask: Ask) -> None:
    """A chunk that another program wrote is an error that names run and channel. Other channels are read."""
    await store.create(new_run())
    await store.write_stream("run", 1, [CHUNK, chunk(store, 1, "other")])
    key = b":stream" + await ask("HGET", ":run:run", "n") + b"answer"
    for members in ({"text": 2}, {"3:2:x": 2}, {"x:2:x": 2}, {"1:1:two": 2}, {"2:2": 2}):
        for member, score in members.items():
            await ask("ZADD", key.decode(), score, member)
            with pytest.raises(SerializationError, match="a chunk of its channel 'answer' is corrupt") as caught:
                await store.read_stream("run", "answer", 0, 9)
            assert caught.value.run_id == "run"
            await ask("ZREM", key.decode(), member)
    await ask("SET", key.decode(), "text")
    with pytest.raises(SerializationError, match="'run'"):
        await store.read_stream("run", "answer", 0, 9)
    assert await contents(store, channel="other") == [chunk(store, 1, "other")]


@pytest.mark.parametrize(
    "odd", [CHUNK._replace(value="text"), CHUNK._replace(last=-1), CHUNK._replace(channel="\ud800")]
)
async def test_a_chunk_that_cannot_be_stored(store: RedisBackend, odd: Any) -> None:
    """A chunk that is not one of bytes with whole offsets is refused, alone and in a commit, and nothing is written."""
    await store.create(new_run())
    with pytest.raises(SerializationError, match="'run'"):
        await store.write_stream("run", 1, [CHUNK, odd])
    with pytest.raises(SerializationError, match="'run'"):
        await store.commit(step(1, chunks=[CHUNK, odd]))
    assert await contents(store) == []


async def test_a_second_watcher_replaces_the_first(store: RedisBackend, redis: RedisServer, prefix: str) -> None:
    """The store listens to chunks on one connection, however often `watch_streams` is called."""
    first: asyncio.Queue[str | None] = asyncio.Queue()
    second: asyncio.Queue[str | None] = asyncio.Queue()
    store.watch_streams(first.put_nowait)
    store.watch_streams(second.put_nowait)
    assert await second.get() is None
    other = RedisBackend(path=str(redis.socket), prefix=prefix)
    await other.open()
    await other.create(new_run())
    await other.write_stream("run", 1, [CHUNK])
    await other.close()
    assert await second.get() == "run"
    assert first.empty()
    assert second.empty()
