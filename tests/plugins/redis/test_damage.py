"""Damaged and hostile keys: a clear error that names the run, nothing run or built, and other runs go on."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cano import CanoError, RunFilter, RunRecord, RunStatus, SerializationError, Signal
from cano.testing.contract_base import LATER, NOW, loaded, new_run, step
from cano_redis import RedisBackend

from tests.plugins.redis.conftest import Ask

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = b"0123456789abcdef0000000000000008"

EXTRAS = [
    b"\xc1", "text", pack(5), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": TODAY}, None, None)), DEEP,
]  # fmt: skip
"""What cannot be the error, wait and payload of a record."""

RECORDS: list[tuple[Any, ...]] = [
    *(("HSET", ":run:run", "extra", extra) for extra in EXTRAS),
    *(("HDEL", ":run:run", field) for field in ("workflow", "state", "seq", "status", "extra", "created", "token")),
    *(("HSET", ":run:run", field, "x") for field in ("seq", "status", "created", "updated", "expires", "token")),
    *(("HSET", ":run:run", field, b"\xff") for field in ("workflow", "version", "state", "holder", "parent", "seq")),
    ("DEL", ":run:run"),
    ("SET", ":run:run", "text"),
]
"""What a list shows of too."""

DATA: list[tuple[Any, ...]] = [
    ("HDEL", ":data:run", "a"),
    ("HSET", ":data:run", "c", "1"),
    ("ZREM", ":keys:run", "a"),
    ("ZADD", ":keys:run", "1", "c"),
    ("DEL", ":data:run"),
    ("DEL", ":keys:run"),
    ("SET", ":data:run", "text"),
    ("SET", ":keys:run", "text"),
    ("SET", ":lines:run", "text"),
    ("RPOP", ":lines:run"),
    ("DEL", ":lines:run"),
]

LINES = [
    b"", b"short", HEAD[:16] + b"x" * 16, HEAD + b"\xc1", HEAD + pack(5), HEAD + pack(("S", "odd", 1.0, {}, [])),
    HEAD + pack(("S", "running", "x", {}, [])), HEAD + pack(("S", "running", 1.0, {"a": 1}, [])), HEAD + DEEP,
    HEAD + pack(("S", "running", 1.0, {}, [1])), HEAD + pack(("S", "running", 1.0, {}, [])) + b"\0", HEAD,
    HEAD[:31] + b"2" + pack(("S", "running", 1.0, {}, [])),
]  # fmt: skip
"""What cannot be the line of the third transition."""


async def with_a_neighbour(store: RedisBackend) -> None:
    """A run that is to be damaged, and one that is not."""
    for run_id in ("run", "other"):
        await store.create(new_run(run_id, data={"a": b"0", "b": b"0"}))
        for seq in range(1, 9):
            await store.commit(step(seq, run_id, changed={"a": b"%d" % seq}))


@pytest.mark.parametrize("damage", [*RECORDS, *DATA], ids=lambda damage: " ".join(map(str, damage))[:50])
async def test_a_damaged_run(store: RedisBackend, ask: Ask, damage: tuple[Any, ...]) -> None:
    """Loading a damaged run raises an error that names it; it is still listed, and can be deleted; others go on."""
    await with_a_neighbour(store)
    await ask(*damage)
    with pytest.raises(SerializationError, match="'run' cannot be read") as caught:
        await store.load("run")
    assert caught.value.run_id == "run"
    with pytest.raises(SerializationError):
        await store.create(new_run())

    listed = {run.run_id: run for run in await store.runs(RunFilter())}
    assert sorted(listed) == ["other", "run"]
    assert (listed["run"].error is not None) == (damage in RECORDS)
    assert "other" in [run.run_id for run in await store.ready(LATER + 1)]
    assert await store.renew("me", {"run": 1, "other": 1}, LATER) in (["run"], [])
    for seq in range(9, 12):
        await store.commit(step(seq, "other", changed={"b": b"%d" % seq}))
    assert await loaded(store, "other") == new_run(
        "other", seq=11, state="S11", updated=NOW + 11, data={"a": b"8", "b": b"11"}
    )
    assert len(await store.history("other")) == 12

    assert await store.delete("run")
    assert [run.run_id for run in await store.runs(RunFilter())] == ["other"]
    assert await store.create(new_run(data={"c": b""})) == new_run(data={"c": b""})
    assert await loaded(store) == new_run(data={"c": b""})


async def test_a_listed_damaged_run_says_so(store: RedisBackend, ask: Ask) -> None:
    """In a list a run that cannot be read has what is wrong as its error, and no status that it may not have."""
    await store.create(new_run())
    await ask("HSET", ":run:run", "status", "odd")

    assert list(await store.runs(RunFilter(workflow="flow"))) == [
        RunRecord(
            run_id="run", workflow="flow", version="", fingerprint="", state="", status=RunStatus.INTERRUPTED,
            error={
                "type": "SerializationError",
                "message": "the run 'run' cannot be read from the store: its record is damaged: "
                "there is no status b'odd'",
            },
        )
    ]  # fmt: skip


@pytest.mark.parametrize("line", LINES)
async def test_damaged_history(store: RedisBackend, ask: Ask, line: bytes) -> None:
    """A history that is not one unbroken line is an error, and never a part of it; those of others are whole."""
    await with_a_neighbour(store)
    await ask("LSET", ":lines:run", "3", line)
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.history("run")

    assert [each.seq for each in await store.history("other")] == [*range(9)]


async def test_a_history_with_a_gap(store: RedisBackend, ask: Ask) -> None:
    """Nor may lines be missing."""
    await with_a_neighbour(store)
    await ask("LTRIM", ":lines:run", "1", "-1")
    with pytest.raises(SerializationError, match="lines of its history are missing"):
        await store.history("run")


@pytest.mark.parametrize("key", [":run:run", ":lines:run", ":data:run", ":keys:run"])
async def test_commits_to_a_damaged_run(store: RedisBackend, ask: Ask, key: str) -> None:
    """A commit whose keys hold something else is an error that names the run."""
    await store.create(new_run(data={"a": b"1"}))
    await ask("SET", key, "text")
    with pytest.raises(SerializationError, match="'run' cannot be read") as caught:
        await store.commit(step(1, changed={"a": b"2"}))
    assert caught.value.run_id == "run"


async def test_damaged_signals(store: RedisBackend, ask: Ask) -> None:
    """A signal that cannot be read is an error that names its run; the signals of others can be read."""
    for run_id in ("run", "other"):
        await store.put_signal(run_id, Signal("1", "go", b"1"))
    for damage in (("HSET", ":signals:run", "1", "x"), ("HDEL", ":signals:run", "1"), ("SET", ":signals:run", "x")):
        if damage[0] == "SET":
            await ask("DEL", damage[1])
        await ask(*damage)
        with pytest.raises(SerializationError, match="'run' cannot be read"):
            await store.next_signal("run", "go")
        assert await store.next_signal("other", "go") == Signal("1", "go", b"1")
    with pytest.raises(SerializationError):
        await store.signals("run")


async def test_many_mutations(store: RedisBackend, ask: Ask) -> None:
    """Whatever stands in the keys, reading them ends in a record or in an error of Cano's."""
    chance = random.Random(4)
    await with_a_neighbour(store)
    record = await ask("HGETALL", ":run:run")
    fields = [*(record if isinstance(record, dict) else record[::2])]
    good = await ask("LINDEX", ":lines:run", "3")
    for _ in range(100):
        spoilt = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
        value = chance.choice([*EXTRAS, *LINES, bytes(spoilt)])
        field = chance.choice(fields)
        before = await ask("HGET", ":run:run", field)
        await ask("LSET", ":lines:run", "3", value)
        await ask("HSET", ":run:run", field, value)
        for call in (store.load("run"), store.history("run"), store.claim("run", "x", NOW, NOW)):
            with suppress(CanoError):
                await call
        assert len(await store.runs(RunFilter())) == 2
        await store.ready(NOW)
        await ask("HSET", ":run:run", field, before)
        assert (await loaded(store, "other")).seq == 8
