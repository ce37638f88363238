"""Compaction: `load` reads a snapshot and a short tail, and the result is the same."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cano import ConflictError, RunStatus, SerializationError, Signal, Wait
from cano.testing.contract_base import LATER, NOW, free_run, loaded, new_run, note, step
from cano_msgspec.packing import unpack_changes
from cano_sqlite import SqliteBackend

from tests.plugins.history_pages import check_pages_are_read_alone

Ask = Callable[..., list[Any]]

TAIL = """
    SELECT count(journal.id) FROM runs LEFT JOIN journal ON journal.run = runs.id AND journal.id > runs.folded
    WHERE runs.run_id = ?"""


@asynccontextmanager
async def opened(path: Path, **options: Any) -> AsyncIterator[SqliteBackend]:
    """An open store, quick on any disk."""
    store = SqliteBackend(path, synchronous="normal", **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.mark.parametrize("every", [1, 2, 3, 7, 100])
async def test_folding_changes_nothing(path: Path, every: int) -> None:
    """Whatever is committed, through whichever store, the data and their order are those of a dict."""
    chance = random.Random(every)
    data: dict[str, bytes] = {"k0": b"", "k1": b"1"}
    history: list[tuple[Any, ...]] = [(0, dict(data), [])]
    async with opened(path, snapshot_every=every) as one, opened(path, snapshot_every=every + 1) as two:
        await one.create(new_run(data=dict(data)))
        seq = 0
        for number in range(120):
            changed = {f"k{chance.randrange(8)}": bytes([number]) for _ in range(chance.randrange(4))}
            removed = [f"k{chance.randrange(8)}" for _ in range(chance.randrange(3))]
            moves = chance.random() < 0.8
            status = RunStatus.RUNNING if chance.random() < 0.7 else RunStatus.PARKED
            commit = step(seq + 1, status=status) if moves else note(seq, status=status)
            store = one if chance.random() < 0.5 else two
            await store.commit(commit._replace(changed=changed, removed=removed))
            for key in removed:
                data.pop(key, None)
            data |= changed
            if moves:
                seq += 1
                history.append((seq, changed, removed))
            run = await loaded(chance.choice((one, two)))
            assert list(run.data.items()) == list(data.items())
            assert (run.seq, run.status, run.updated) == (seq, status, commit.at)

        assert [(line.seq, line.changed, line.removed) for line in await two.history("run")] == history


@pytest.mark.parametrize("kind", ["steps", "notes", "parked", "jumps"])
async def test_the_tail_is_short(path: Path, ask: Ask, kind: str) -> None:
    """However a run is committed to, its tail has at most `snapshot_every` entries."""
    async with opened(path, snapshot_every=10) as store:
        await store.create(new_run())
        seq = 0
        for number in range(64):
            value = {"a": bytes([number])}
            if kind == "steps":
                commit = step(seq + 1, changed=value)
            elif kind == "notes":
                commit = note(seq, changed=value)
            elif kind == "parked":
                wait = Wait(then="B", signal="go")
                commit = step(seq + 1, changed=value, status=RunStatus.PARKED, wait=wait)
            else:
                commit = step(seq + 3, changed=value, expected_seq=seq)
            seq = commit.seq
            await store.commit(commit)
            assert ask(TAIL, "run")[0][0] <= 10
        assert (await loaded(store)).data == value


async def test_the_tails_of_many_runs_are_short(path: Path, ask: Ask) -> None:
    """Runs that step together are compacted together, at the latest when one is due a second time."""
    async with opened(path, snapshot_every=10) as store:

        async def drive(run_id: str) -> None:
            await store.create(new_run(run_id))
            for seq in range(1, 56):
                await store.commit(step(seq, run_id, changed={"a": bytes([seq])}))
                assert ask(TAIL, run_id)[0][0] <= 20

        await asyncio.gather(*(drive(f"run {number}") for number in range(40)))
        assert [(await loaded(store, f"run {number}")).data for number in range(40)] == [{"a": bytes([55])}] * 40


async def test_large_values_are_folded_at_once(path: Path, ask: Ask) -> None:
    """A value of many megabytes is compacted at once, so that it is not read again and again."""
    async with opened(path) as store:
        await store.create(new_run())
        for seq in range(1, 4):
            await store.commit(step(seq, changed={"large": bytes([seq]) * 8_000_000}))
            assert ask(TAIL, "run") == [(0,)]
        assert (await loaded(store)).data == {"large": bytes([3]) * 8_000_000}


async def test_folding_in_the_middle_of_a_transaction(path: Path) -> None:
    """Many runs whose compactions share transactions all keep their data."""
    async with opened(path, snapshot_every=4) as store:

        async def drive(run_id: str) -> None:
            await store.create(new_run(run_id, data={"id": run_id.encode()}))
            for seq in range(1, 31):
                await store.commit(step(seq, run_id, changed={f"k{seq % 3}": f"{run_id} {seq}".encode()}))

        ids = [f"run {number}" for number in range(60)]
        await asyncio.gather(*map(drive, ids))
        for run_id in ids:
            assert (await loaded(store, run_id)).data == {
                "id": run_id.encode(), **{f"k{seq % 3}": f"{run_id} {seq}".encode() for seq in (28, 29, 30)}
            }  # fmt: skip
            assert [line.seq for line in await store.history(run_id)] == [*range(31)]


async def test_what_a_process_remembers_is_not_read_again(path: Path, ask: Ask) -> None:
    """Compaction uses the remembered tail, even if its entries are gone."""
    async with opened(path, snapshot_every=5) as store:
        await store.create(new_run())
        for seq in range(1, 41):
            await store.commit(step(seq, changed={f"k{seq % 3}": b"%d" % seq}, removed=["k1"] if seq % 7 == 0 else []))
            if 20 < seq <= 30:
                ask("UPDATE journal SET packed = x'00'")
        run = await loaded(store)

    assert run.data == {"k2": b"38", "k0": b"39", "k1": b"40"}


@pytest.mark.parametrize("kind", ["another store", "a new lease", "a note", "a refused commit", "anew", "large"])
async def test_what_a_process_remembers_is_never_taken_for_more(path: Path, kind: str) -> None:
    """If another process has written, or a step was rolled back, compaction reads the entries."""
    async with opened(path, snapshot_every=6) as store, opened(path, snapshot_every=1000) as other:
        for turn in range(1, 13):  # to reach each place between two compactions
            run_id, seq, token = f"run {turn}", 0, 1
            data: dict[str, bytes] = {}

            async def commit(to: SqliteBackend, key: str) -> None:
                nonlocal seq
                seq += 1
                value = data[key] = f"{key} {seq}".encode()  # noqa: B023  # called within this turn only
                await to.commit(step(seq, run_id, token=token, changed={key: value}))  # noqa: B023

            await store.create(new_run(run_id))
            for number in range(1, 31):
                await commit(store, f"k{number % 4}")
                if number != 12 + turn:
                    continue
                if kind == "another store":
                    await commit(other, "k0")
                    await commit(other, "theirs")
                elif kind == "a new lease":
                    await store.release(run_id, token)
                    taken = await other.claim(run_id, "me", NOW, LATER)
                    assert taken is not None
                    token = taken
                    await commit(other, "theirs")
                elif kind == "a note":
                    data["theirs"] = b"noted"
                    await other.commit(note(seq, run_id, changed={"theirs": b"noted"}))
                elif kind == "a refused commit":
                    lost = step(seq, run_id, expected_seq=seq - 1, changed={"k0": b"never"})
                    good = asyncio.ensure_future(commit(store, "k1"))
                    refused, _ = await asyncio.gather(store.commit(lost), good, return_exceptions=True)
                    assert isinstance(refused, ConflictError)
                elif kind == "anew":
                    await other.delete(run_id)
                    await store.create(new_run(run_id))
                    seq = 0
                    data.clear()
                else:
                    data["large"] = os.urandom(100_000)
                    seq += 1
                    await store.commit(step(seq, run_id, changed={"large": data["large"]}))
            assert (await loaded(store, run_id)).data == data


async def test_deleting_leaves_nothing(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A deleted run leaves no row, except an empty entry whose id must not be reused."""
    for run_id in ("a", "b"):
        await store.create(new_run(run_id, data={"x": b"1"}))
        for seq in range(1, 13):
            await store.commit(step(seq, run_id, changed={"y": b"2"}))
    for run_id in ("a", "b"):
        assert await store.delete(run_id)

    tables = ("runs", "definitions", "snapshot", "signals")
    assert [ask(f"SELECT count(*) FROM {table}") for table in tables] == [[(0,)]] * 4
    assert ask("SELECT * FROM journal") == [(26, 0, 0, 0, "", "", 0.0, None, b"")]


@pytest.mark.soak
@pytest.mark.timeout(600)
async def test_a_very_long_run(path: Path, ask: Ask) -> None:
    """Memory stays flat, and `load` reads a snapshot and a short tail, after 100,000 transitions too; none is lost."""
    count, group = 100_000 if os.environ.get("CANO_SOAK") else 10_000, 100
    async with opened(path) as store:
        await store.create(new_run())
        blocks = []
        for first in range(1, count, group):
            steps = (step(seq, changed={"n": b"%d" % seq, f"k{seq % 9}": b""}) for seq in range(first, first + group))
            await asyncio.gather(*map(store.commit, steps))
            gc.collect()
            blocks.append(sys.getallocatedblocks())

        half = len(blocks) // 2
        assert max(blocks[half:]) - max(blocks[:half]) < count / 10
        assert ask(TAIL, "run")[0][0] <= 100
        assert ask("SELECT count(*) FROM snapshot") == [(10,)]
        run = await loaded(store)
        assert (run.seq, run.data["n"], len(run.data)) == (count, b"%d" % count, 10)
        assert [line.seq for line in await store.history("run")] == [*range(count + 1)]


async def test_more_runs_than_are_remembered_are_folded(path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many runs step together, each tail stays short."""
    monkeypatch.setattr("cano_sqlite.tails.MOST_TAILS", 20)
    async with opened(path, snapshot_every=10) as store:

        async def drive(run_id: str) -> None:
            await store.create(new_run(run_id))
            for seq in range(1, 41):
                await store.commit(step(seq, run_id, changed={"a": bytes([seq])}))

        await asyncio.gather(*(drive(f"run {number}") for number in range(50)))
        assert ask("SELECT max(tail) <= 20 FROM runs") == [(1,)]
        assert [(await loaded(store, f"run {number}")).data for number in range(50)] == [{"a": bytes([40])}] * 50


async def test_runs_that_are_to_be_folded_and_were_made_anew(path: Path, ask: Ask) -> None:
    """A postponed compaction skips a run that another process has deleted and created again."""
    ids = ["a", "b", "c"]
    async with opened(path, snapshot_every=1) as one, opened(path) as two:
        for run_id in ids:
            await one.create(new_run(run_id))
        await asyncio.gather(*(one.commit(step(1, run_id, changed={"k": b"first"})) for run_id in ids))
        for run_id in ids:
            await two.delete(run_id)
        for run_id in ids:
            await two.create(new_run(run_id))
        await asyncio.gather(*(two.commit(step(1, run_id, changed={"k": b"second"})) for run_id in ids))
        await one.put_signal("other", Signal("1", "go"))

        assert [(await loaded(two, run_id)).data for run_id in ids] == [{"k": b"second"}] * 3
        assert ask("SELECT DISTINCT content FROM snapshot") == [(b"second",)]


async def test_a_corrupt_run_that_is_to_be_folded(path: Path, ask: Ask) -> None:
    """A run that cannot be compacted disturbs neither a single call nor other compactions."""
    ids = ["a", "b", "c", "corrupt"]
    async with opened(path, snapshot_every=4) as store:
        for run_id in [*ids, "other"]:
            await store.create(new_run(run_id))
        for seq in range(1, 31):
            answers = await asyncio.gather(*(store.commit(step(seq, run_id)) for run_id in ids), return_exceptions=True)
            assert answers == [None] * 4
            if seq == 2:
                newest = "(SELECT head FROM runs WHERE run_id = 'corrupt')"
                ask(f"UPDATE journal SET packed = x'00' WHERE id = {newest}")
                assert await store.claim("corrupt", "somebody", LATER + 1, LATER + 2) == 2  # the remembered tail goes
                ask("UPDATE runs SET token = 1 WHERE run_id = 'corrupt'")
            await store.put_signal("other", Signal(str(seq), "go"))
        assert await store.renew("me", {"other": 1}, LATER) == []

        assert ask("SELECT max(tail) <= 6 FROM runs WHERE run_id <> 'corrupt'") == [(1,)]
        assert ask("SELECT tail >= 28 FROM runs WHERE run_id = 'corrupt'") == [(1,)]
        with pytest.raises(SerializationError):
            await store.load("corrupt")


async def test_a_run_that_others_have_made_anew(path: Path) -> None:
    """Nothing remembered of a deleted run gets into a new run with its id."""
    async with opened(path, snapshot_every=10) as one, opened(path, snapshot_every=10) as two:
        await one.create(new_run(data={"k": b"first"}))
        for seq in range(1, 15):
            await one.commit(step(seq, changed={"k": b"first", f"a{seq}": b"1"}))
        await two.delete("run")
        await two.create(free_run(data={"k": b"second", "kept": b"2"}))
        for store, name in ((two, "two"), (one, "one")):
            run = await loaded(store)
            token = await store.claim("run", name, NOW, LATER)
            assert token is not None
            for seq in range(run.seq + 1, run.seq + 15):
                await store.commit(step(seq, token=token, changed={f"b{seq}": b"2"}))
            await store.release("run", token)

        assert (await loaded(one)).data == {"k": b"second", "kept": b"2", **{f"b{seq}": b"2" for seq in range(1, 29)}}


async def test_a_page_of_a_history_is_read_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is read from the next compaction back to its beginning, wherever it lies in a long history."""
    place = "cano_sqlite.snapshot.unpack_changes"
    async with opened(path, snapshot_every=10) as store:
        counts = await check_pages_are_read_alone(store, monkeypatch, place, unpack_changes, 1000)
    assert max(counts) <= 5 + 2 * 15  # a compaction is at most half late


async def test_marks_of_a_run(path: Path, ask: Ask) -> None:
    """A mark that is corrupt is an error, or is not used; a deleted run has none."""
    async with opened(path, snapshot_every=10) as store:
        await store.create(new_run())
        for seq in range(1, 41):
            await store.commit(step(seq))
        marks = ask("SELECT seq, id FROM marks")
        assert len(marks) >= 3
        ask("UPDATE marks SET id = id - 3")
        with pytest.raises(SerializationError, match=r"run 'run'.*the mark of transition"):
            await store.history_page("run", None, 3)
        for broken in ("'text'", "x'00'", "-7", "99999"):
            ask(f"UPDATE marks SET id = {broken}")
            if broken in ("'text'", "x'00'"):
                assert [entry.seq for entry in await store.history_page("run", None, 3)] == [0, 1, 2]
            else:
                with pytest.raises(SerializationError, match="run 'run'"):
                    await store.history_page("run", None, 3)
        assert len(await store.history("run")) == 41
        await store.delete("run")
        assert ask("SELECT * FROM marks") == []
