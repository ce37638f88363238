"""Damaged and hostile rows: a clear error that names the run, nothing run or built, and other runs go on."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cano import RunFilter, RunRecord, RunStatus, SerializationError, Signal, StoreUnavailableError
from cano.testing.contract_base import LATER, NOW, loaded, new_run, step
from cano_sqlite import SqliteBackend

Ask = Callable[..., list[Any]]

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
EXTENSION = pack(({"a": msgspec.msgpack.Ext(5, b"os.system")}, []))

CHANGES = [
    b"", b"\xc1", b"no msgpack", "text", 5, pack(None), pack([]), pack(({}, [], [])), pack(({"a": "text"}, [])),
    pack(({"a": 1}, [])), pack(({1: b""}, [])), pack(({}, [1])), pack({"a": b""}), pack(({"a": b""}, []))[:-1],
    pack(({}, [])) + b"\0", b"\x92\x81\xa1\xff\xc4\x00\x90", DEEP, EXTENSION,
]  # fmt: skip
"""What cannot be the changes of a line."""

EXTRAS = [
    b"", b"\xc1", "text", 5, pack(None), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": datetime.now(UTC)}, None, None)), DEEP,
]  # fmt: skip
"""What cannot be the error, wait and payload of a line."""

ITS_ID = "(SELECT id FROM runs WHERE run_id = 'run')"
LAST = "(SELECT head FROM runs WHERE run_id = 'run')"
ROWS: list[tuple[Any, ...]] = [
    *((f"UPDATE journal SET changes = ? WHERE id = {LAST}", blob) for blob in CHANGES),
    *((f"UPDATE journal SET extra = ? WHERE id = {LAST}", blob) for blob in EXTRAS),
    (f"UPDATE journal SET run = 77 WHERE id = {LAST}",),
    (f"UPDATE journal SET prev = 0 WHERE id = {LAST}",),
    (f"UPDATE journal SET prev = id WHERE id = {LAST}",),
    (f"UPDATE journal SET prev = id + 1 WHERE id = {LAST}",),
    (f"UPDATE journal SET prev = 'text' WHERE id = {LAST}",),
    (f"UPDATE journal SET seq = 2 WHERE id = {LAST}",),
    (f"UPDATE journal SET status = 'failed' WHERE id = {LAST}",),
    (f"UPDATE journal SET state = x'00' WHERE id = {LAST}",),
    (f"DELETE FROM journal WHERE id = {LAST}",),
    (f"DELETE FROM journal WHERE id = (SELECT prev FROM journal WHERE id = {LAST})",),
    (f"DELETE FROM journal WHERE run = {ITS_ID}",),
    ("UPDATE runs SET head = 0 WHERE run_id = 'run'",),
    ("UPDATE runs SET head = (SELECT head FROM runs WHERE run_id = 'other') WHERE run_id = 'run'",),
    ("UPDATE runs SET head = 'text' WHERE run_id = 'run'",),
    ("UPDATE runs SET folded = -1 WHERE run_id = 'run'",),
    ("UPDATE runs SET folded = head + 1 WHERE run_id = 'run'",),
    ("UPDATE runs SET folded = 'text' WHERE run_id = 'run'",),
    ("UPDATE runs SET seq = 9 WHERE run_id = 'run'",),
    ("UPDATE runs SET seq = 'text' WHERE run_id = 'run'",),
    ("UPDATE runs SET token = x'01' WHERE run_id = 'run'",),
    ("UPDATE runs SET status = 'os.system' WHERE run_id = 'run'",),
    ("UPDATE runs SET status = 'failed' WHERE run_id = 'run'",),
    (f"UPDATE definitions SET workflow = x'ff' WHERE run = {ITS_ID}",),
    (f"UPDATE definitions SET fingerprint = x'ff' WHERE run = {ITS_ID}",),
    (f"DELETE FROM definitions WHERE run = {ITS_ID}",),
    ("UPDATE runs SET parent = x'ff' WHERE run_id = 'run'",),
    ("UPDATE runs SET created = 'text' WHERE run_id = 'run'",),
    ("UPDATE runs SET expires = 'text' WHERE run_id = 'run'",),
    (f"UPDATE snapshot SET value = 'text' WHERE run = {ITS_ID}",),
    (f"UPDATE snapshot SET key = x'ff' WHERE run = {ITS_ID} AND key = 'b'",),
]


async def with_a_neighbour(store: SqliteBackend) -> None:
    """A run that is to be damaged, part of which is folded, and one that is not."""
    for run_id in ("run", "other"):
        await store.create(new_run(run_id, data={"a": b"0", "b": b"0"}))
        for seq in range(1, 9):
            await store.commit(step(seq, run_id, changed={"a": b"%d" % seq}))


@pytest.mark.parametrize("damage", ROWS, ids=[f"{row[0][:60]} {number}" for number, row in enumerate(ROWS)])
async def test_a_damaged_run(store: SqliteBackend, ask: Ask, damage: tuple[Any, ...]) -> None:
    """Loading a damaged run raises an error that names it; it is still listed, and can be deleted; others go on."""
    await with_a_neighbour(store)
    ask(*damage)

    with pytest.raises(SerializationError, match="'run' cannot be read") as caught:
        await store.load("run")
    assert caught.value.run_id == "run"
    with pytest.raises(SerializationError):
        await store.create(new_run())
    listed = {run.run_id: run for run in await store.runs(RunFilter())}
    assert sorted(listed) == ["other", "run"]
    if damage[0].startswith("UPDATE runs SET status"):
        assert not listed["run"].status.finished or listed["run"].error is not None
    assert "other" in [run.run_id for run in await store.ready(LATER + 1)]

    for seq in range(9, 20):
        await store.commit(step(seq, "other", changed={"b": b"%d" % seq}))
    assert await loaded(store, "other") == new_run(
        "other", seq=19, state="S19", updated=NOW + 19, data={"a": b"8", "b": b"19"}
    )
    assert len(await store.history("other")) == 20
    assert await store.delete("run")
    assert await store.create(new_run(data={"c": b""})) == new_run(data={"c": b""})
    assert await loaded(store) == new_run(data={"c": b""})


async def test_a_listed_damaged_run_says_so(store: SqliteBackend, ask: Ask) -> None:
    """In a list a run that cannot be read has what is wrong as its error, and no status that it may not have."""
    await with_a_neighbour(store)
    ask("UPDATE runs SET status = 'odd' WHERE run_id = 'run'")

    assert list(await store.runs(RunFilter(workflow="flow"))) == [
        RunRecord(
            run_id="other", workflow="flow", version="1", fingerprint="f1", state="S8", seq=8, created=NOW,
            updated=NOW + 8, holder="me", expires=LATER, token=1,
        ),
        RunRecord(
            run_id="run", workflow="flow", version="", fingerprint="", state="", status=RunStatus.INTERRUPTED,
            error={
                "type": "SerializationError",
                "message": "the run 'run' cannot be read from the store: its row is damaged",
            },
        ),
    ]  # fmt: skip


async def test_a_definition_that_was_left_behind(store: SqliteBackend, ask: Ask) -> None:
    """What is there of a run that is not keeps no other from being made."""
    ask("INSERT INTO definitions VALUES (1, 'gone', '0', 'f0')")
    assert await store.create(new_run()) == new_run()
    assert await loaded(store) == new_run()


async def test_a_damaged_signal(store: SqliteBackend, ask: Ask) -> None:
    """A signal that cannot be read is an error that names its run; the signals of others can be read."""
    for run_id in ("run", "other"):
        await store.put_signal(run_id, Signal("1", "go", b"1"))
    for damage in ("payload = 'text'", "payload = 5", "signal = x'00', payload = NULL"):
        ask(f"UPDATE signals SET {damage} WHERE run_id = 'run'")
        with pytest.raises(SerializationError, match="'run' cannot be read"):
            await store.next_signal("run", "go")
        assert await store.next_signal("other", "go") == Signal("1", "go", b"1")


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM journal WHERE run = 1 AND seq = 3",
        "DELETE FROM journal WHERE run = 1 AND seq = 0",
        "UPDATE journal SET seq = 9 WHERE run = 1 AND seq = 3",
        "UPDATE journal SET seq = 'text' WHERE run = 1 AND seq = 3",
        "UPDATE journal SET state = x'00' WHERE run = 1 AND seq = 3",
        "UPDATE journal SET status = 'odd' WHERE run = 1 AND seq = 3",
        "UPDATE journal SET at = 'text' WHERE run = 1 AND seq = 3",
        "UPDATE journal SET run = 2 WHERE run = 1 AND seq = 3",
        "UPDATE journal SET changes = x'' WHERE run = 1 AND seq = 3",
    ],
)
async def test_damaged_history(store: SqliteBackend, ask: Ask, damage: str) -> None:
    """A history that is not one unbroken line is an error, and never a part of it; those of others are whole."""
    await with_a_neighbour(store)
    ask(damage)
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.history("run")

    assert [line.seq for line in await store.history("other")] == [*range(9)]


async def test_commits_to_a_damaged_run(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A commit that would have to fold what is damaged is refused, and leaves everything as it is."""
    await with_a_neighbour(store)
    ask(f"UPDATE journal SET changes = x'00' WHERE id = {LAST}")
    seq, error = 8, None
    another = SqliteBackend(path, snapshot_every=5, synchronous="normal")  # which has not written the lines itself
    await another.open()
    while error is None:
        before = ask("SELECT * FROM journal"), ask("SELECT * FROM snapshot"), ask("SELECT * FROM runs")
        seq += 1
        (error,) = await asyncio.gather(another.commit(step(seq)), return_exceptions=True)

    assert isinstance(error, SerializationError)
    assert error.run_id == "run"
    assert (ask("SELECT * FROM journal"), ask("SELECT * FROM snapshot"), ask("SELECT * FROM runs")) == before
    await another.close()


async def test_a_thousand_mutations(store: SqliteBackend, ask: Ask) -> None:
    """Whatever stands in the rows, reading them imports nothing, and ends in a record or in an error of Cano's."""
    chance = random.Random(4)
    hostile = [*CHANGES, *EXTRAS, b"\xc7\x05\x01cos\nsystem\n", b"\x80\x04\x95", b"!!python/object/apply:os.system"]
    await with_a_neighbour(store)
    with pytest.raises(SerializationError):
        await store.create(new_run(data={"a": object()}))
    good = ask(f"SELECT changes FROM journal WHERE id = {LAST}")[0][0]
    imports: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("import", "exec", "compile", "subprocess.Popen", "os.system", "pickle.find_class"):
            imports.append(f"{event} {arguments[:1]}")

    sys.addaudithook(watch)
    try:
        for _ in range(1000):
            blob: Any = chance.choice(hostile)
            if chance.random() < 0.7:
                blob = bytearray(good)
                for _ in range(chance.randrange(1, 4)):
                    blob[chance.randrange(len(blob))] = chance.randrange(256)
                blob = bytes(blob)
            column = chance.choice(("changes", "extra"))
            ask(f"UPDATE journal SET {column} = ? WHERE id = {LAST}", blob)
            run = (await asyncio.gather(store.load("run"), return_exceptions=True))[0]
            if isinstance(run, RunRecord):
                assert all(type(key) is str and type(value) is bytes for key, value in run.data.items())
            else:
                assert isinstance(run, SerializationError)
                assert run.run_id == "run"
            assert len(await store.runs(RunFilter())) == 2
            ask(f"UPDATE journal SET changes = ?, extra = NULL WHERE id = {LAST}", good)
    finally:
        watching = False

    assert imports == []
    assert (await loaded(store, "other")).seq == 8


async def test_a_damaged_file(path: Path) -> None:
    """A file whose pages are damaged is an error that names it, and what can be done."""
    store = SqliteBackend(path)
    await store.open()
    await with_a_neighbour(store)
    await store.close()
    spoil(path)

    store = SqliteBackend(path)
    (opened,) = await asyncio.gather(store.open(), return_exceptions=True)
    error = opened or (await asyncio.gather(store.load("run"), return_exceptions=True))[0]
    assert isinstance(error, StoreUnavailableError)
    assert f"the store {path} cannot be used: it is damaged; restore a copy" in str(error)
    await store.close()


def spoil(path: Path) -> None:
    """Overwrite all pages but the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
