"""Damaged rows: a clear error that names the run, nothing run or built, and other runs go on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from cano import RunFilter, RunRecord, RunStatus, SerializationError, Signal, StoreUnavailableError
from cano.testing.contract_base import LATER, NOW, loaded, new_run, step
from cano_postgres import PostgresBackend

Ask = Callable[..., list[Any]]

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
EXTENSION = pack(({"a": msgspec.msgpack.Ext(5, b"os.system")}, []))

CHANGES = [
    b"", b"\xc1", b"no msgpack", pack(None), pack([]), pack(({}, [], [])), pack(({"a": "text"}, [])),
    pack(({"a": 1}, [])), pack(({1: b""}, [])), pack(({}, [1])), pack({"a": b""}), pack(({"a": b""}, []))[:-1],
    pack(({}, [])) + b"\0", b"\x92\x81\xa1\xff\xc4\x00\x90", DEEP, EXTENSION,
]  # fmt: skip
"""What cannot be the changes of a line."""

EXTRAS = [
    b"", b"\xc1", pack(None), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": datetime.now(UTC)}, None, None)), DEEP,
]  # fmt: skip
"""What cannot be the error, wait and payload of a run."""

MINE = "run = (SELECT id FROM runs WHERE run_id = 'run')"
LAST = f"{MINE} AND line = (SELECT head FROM runs WHERE run_id = 'run')"
ROWS: list[tuple[Any, ...]] = [
    *((f"UPDATE journal SET changes = %s WHERE {LAST}", blob) for blob in CHANGES),
    *(("UPDATE runs SET extra = %s WHERE run_id = 'run'", blob) for blob in EXTRAS),
    (f"DELETE FROM journal WHERE {LAST}",),
    (f"DELETE FROM journal WHERE {MINE}",),
    (f"UPDATE journal SET line = 77 WHERE {LAST}",),
    (f"UPDATE journal SET run = 77 WHERE {LAST}",),
    ("UPDATE runs SET head = 0 WHERE run_id = 'run'",),
    ("UPDATE runs SET head = 99 WHERE run_id = 'run'",),
    ("UPDATE runs SET folded = -1 WHERE run_id = 'run'",),
    ("UPDATE runs SET folded = head + 1 WHERE run_id = 'run'",),
    ("UPDATE runs SET status = 'os.system' WHERE run_id = 'run'",),
    (f"UPDATE snapshot SET key = '\\xff' WHERE {MINE} AND key = 'b'",),
]


async def with_a_neighbour(store: PostgresBackend) -> None:
    """A run that is to be damaged, part of which is folded, and one that is not."""
    for run_id in ("run", "other"):
        await store.create(new_run(run_id, data={"a": b"0", "b": b"0"}))
        for seq in range(1, 7):
            await store.commit(step(seq, run_id, changed={"a": b"%d" % seq}))


@pytest.fixture
def in_part(ask: Ask) -> Callable[[], None]:
    """Makes sure that the run is folded in part."""

    def check() -> None:
        assert all(0 < folded < head for folded, head in ask("SELECT folded, head FROM runs"))

    return check


@pytest.mark.parametrize("damage", ROWS, ids=[f"{row[0][:60]} {number}" for number, row in enumerate(ROWS)])
async def test_a_damaged_run(store: PostgresBackend, ask: Ask, in_part: Any, damage: tuple[Any, ...]) -> None:
    """Loading a damaged run raises an error that names it; it is still listed, and can be deleted; others go on."""
    await with_a_neighbour(store)
    in_part()
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

    for seq in range(7, 20):
        await store.commit(step(seq, "other", changed={"b": b"%d" % seq}))
    assert await loaded(store, "other") == new_run(
        "other", seq=19, state="S19", updated=NOW + 19, data={"a": b"6", "b": b"19"}
    )
    assert len(await store.history("other")) == 20
    assert await store.delete("run")
    assert await store.create(new_run(data={"c": b""})) == new_run(data={"c": b""})
    assert await loaded(store) == new_run(data={"c": b""})


async def test_a_listed_damaged_run_says_so(store: PostgresBackend, ask: Ask) -> None:
    """In a list a run that cannot be read has what is wrong as its error, and no status that it may not have."""
    await with_a_neighbour(store)
    ask("UPDATE runs SET status = 'odd' WHERE run_id = 'run'")

    assert list(await store.runs(RunFilter(workflow="flow"))) == [
        RunRecord(
            run_id="other", workflow="flow", version="1", fingerprint="f1", state="S6", seq=6, created=NOW,
            updated=NOW + 6, holder="me", expires=LATER, token=1,
        ),
        RunRecord(
            run_id="run", workflow="flow", version="", fingerprint="", state="", status=RunStatus.INTERRUPTED,
            error={
                "type": "SerializationError",
                "message": "the run 'run' cannot be read from the store: its row is damaged",
            },
        ),
    ]  # fmt: skip


async def test_a_damaged_signal(store: PostgresBackend, ask: Ask) -> None:
    """A signal that cannot be read is an error that names its run; the signals of others can be read."""
    for run_id in ("run", "other"):
        await store.put_signal(run_id, Signal("1", "go", b"1"))
    ask("UPDATE signals SET signal = '\\xff' WHERE run_id = 'run'")
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.next_signal("run", "go")
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.signals("run")

    assert await store.next_signal("other", "go") == Signal("1", "go", b"1")


@pytest.mark.parametrize(
    "damage",
    [
        f"DELETE FROM journal WHERE {MINE} AND seq = 3",
        f"DELETE FROM journal WHERE {MINE} AND seq = 0",
        f"UPDATE journal SET seq = 9 WHERE {MINE} AND seq = 3",
        f"UPDATE journal SET status = 'odd' WHERE {MINE} AND seq = 3",
        f"UPDATE journal SET run = 77 WHERE {MINE} AND seq = 3",
        f"UPDATE journal SET changes = '' WHERE {MINE} AND seq = 3",
    ],
)
async def test_damaged_history(store: PostgresBackend, ask: Ask, damage: str) -> None:
    """A history that is not one unbroken line is an error, and never a part of it; those of others are whole."""
    await with_a_neighbour(store)
    ask(damage)
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.history("run")

    assert [line.seq for line in await store.history("other")] == [*range(7)]


async def test_commits_to_a_damaged_run(store: PostgresBackend, ask: Ask) -> None:
    """What is damaged is not folded, nor made worse; commits are kept beside it."""
    await with_a_neighbour(store)
    ask(f"UPDATE journal SET changes = '\\x00' WHERE {LAST}")
    before = ask("SELECT * FROM snapshot ORDER BY run, place")
    for seq in range(7, 30):
        await store.commit(step(seq))

    assert ask("SELECT * FROM snapshot ORDER BY run, place") == before
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.load("run")


async def test_mutations(store: PostgresBackend, ask: Ask) -> None:
    """Whatever stands in the rows, reading them ends in a record or in an error of Cano's."""
    chance = random.Random(4)
    await with_a_neighbour(store)
    ((good,),) = ask(f"SELECT changes FROM journal WHERE {LAST}")
    for _ in range(200):
        blob = bytearray(good)
        for _ in range(chance.randrange(1, 4)):
            blob[chance.randrange(len(blob))] = chance.randrange(256)
        ask(f"UPDATE journal SET changes = %s WHERE {LAST}", bytes(blob))
        answers: list[Any] = await asyncio.gather(store.load("run"), return_exceptions=True)
        run = answers[0]
        if isinstance(run, SerializationError):
            assert run.run_id == "run"
        else:
            assert isinstance(run, RunRecord)
            assert all(type(key) is str and type(value) is bytes for key, value in run.data.items())


async def test_tables_that_are_gone(store: PostgresBackend, ask: Ask, schema: str) -> None:
    """When somebody drops the tables, or puts others in their place, the error says so."""
    await store.create(new_run())
    ask("ALTER TABLE journal RENAME TO elsewhere")
    for call in (store.commit(step(1)), store.load("run"), store.history("run")):
        with pytest.raises(StoreUnavailableError, match="its tables are gone; open the store anew"):
            await call
    ask("ALTER TABLE elsewhere RENAME TO journal")

    await store.commit(step(1))
    assert (await loaded(store)).seq == 1
