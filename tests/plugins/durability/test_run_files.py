"""Files of exported runs: what is in them, what is refused, and how much memory they take."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cano import (
    Commit,
    ConfigurationError,
    Kernel,
    RunFileError,
    RunRecord,
    RunStatus,
    Signal,
    SizeLimits,
    Transition,
    Wait,
)
from cano_durability.run_files.frames import Reader, Writer
from cano_durability.run_files.packing import LEFT_OUT, Unpacker, packed
from cano_sqlite import SqliteBackend

from tests.plugins.durability.conftest import CODEC, World

RUN = RunRecord("one", "order", "1", "f", "B", 2, RunStatus.PARKED, {"n": b"\x01"}, wait=Wait("C", "paid"), created=1.0)


def frames(file: bytes) -> list[tuple[dict[str, Any], bytes]]:
    """The frames of a file that is not encrypted, without the last one."""
    return [(dict(frame.meta), frame.values) for frame in Reader(io.BytesIO(file), None, 2**30).frames()]


def made(parts: list[tuple[dict[str, Any], bytes]]) -> bytes:
    """The file of these frames, with all checksums right."""
    writer = Writer(None)
    return b"".join([writer.head(), *(writer.frame(meta, [values]) for meta, values in parts), writer.end()])


def changed(kind: str, /, **fields: Any) -> Callable[[list[tuple[dict[str, Any], bytes]]], object]:
    """A forgery that changes fields of the first frame of a kind."""

    def forge(parts: list[tuple[dict[str, Any], bytes]]) -> None:
        next(meta for meta, _ in parts if meta["kind"] == kind).update(fields)

    return forge


FORGERIES: list[tuple[Callable[[list[tuple[dict[str, Any], bytes]]], object], str]] = [
    (changed("run", run_id="cano.store"), "its run_id: it is that of an encrypted store's own record"),
    (changed("run", run_id="a\0b"), "its run_id: it is empty, or has a NUL"),
    (changed("run", run_id="x" * 600), "the run id, xxxx"),
    (changed("run", run_id=None), "its run_id: it is None, not a text"),
    (changed("run", run_id=7), "its run_id: it is 7, not a text"),
    (changed("run", workflow=""), "its workflow: it is empty"),
    (changed("run", workflow="w" * 600), "the name, wwww"),
    (changed("run", state="a\0"), "its state: it is empty, or has a NUL"),
    (changed("run", seq=-1), "its seq: it is -1, not a number"),
    (changed("run", seq=2**60), "its seq: it is"),
    (changed("run", seq=True), "its seq: it is True"),
    (changed("run", seq=1.5), "its seq: it is 1.5"),
    (changed("run", seq=7), "its history ends at 1, and its run is at 7"),
    (changed("run", created=float("inf")), "its created: it is inf, not a time"),
    (changed("run", updated="now"), "its updated: it is 'now', not a time"),
    (changed("run", status="odd"), "its status: 'odd' is not a valid RunStatus"),
    (changed("run", status="interrupted"), "its status is interrupted"),
    (changed("run", status="running"), "its status is running, and its wait Wait("),
    (changed("run", wait=None), "its status is parked, and its wait None"),
    (changed("run", wait=["C", "paid"]), "its wait: not enough values"),
    (changed("run", wait=["C", "paid", None, None, 1]), "its wait: it is 1, not true or false"),
    (changed("run", error=[1]), "its error: it is not the error of a run"),
    (changed("run", error={"message": [1]}), "its error: it is not the error of a run"),
    (changed("run", data=[["\0wait", 1]]), "its data: the key '\\x00wait' is there twice, or is not allowed"),
    (changed("run", data=[["n", 1], ["n", 1]]), "its data: the key 'n' is there twice"),
    (changed("run", own=[["seal", 1]]), "its own: the key 'seal' is there twice, or is not allowed"),
    (changed("run", own=[["awaited", 1]]), "its own: the key 'awaited'"),
    (changed("run", data=[["n", 10**9]]), "its data: its values have fewer bytes than it says"),
    (changed("run", data=[["n", -5]]), "its data: it is -5"),
    (changed("run", data=[]), "its values have more bytes than it says"),
    (changed("run", data=5), "its data: 'int' object is not iterable"),
    (changed("run", more=1), "a run has ['more']"),
    (changed("transition", removed="n"), "its removed: it is 'n', not a list"),
    (changed("transition", seq=5), "transition 1 follows 5"),
    (changed("signal", id=None), "its id: it is None, not a text"),
    (changed("signal", own=1), "its own: it is 1, not true or false"),
    (changed("signal", kind="gift"), "its kind 'gift' is unknown"),
    (lambda parts: parts.reverse(), "it is in the wrong place"),
    (lambda parts: parts.append(parts[0]), "it is in the wrong place"),
    (lambda parts: parts.clear(), "it has no run"),
    (lambda parts: parts.__setitem__(slice(3, 3), parts[3:4] * 20), "more than SizeLimits.signals = 9 signals wait"),
]


@pytest.mark.parametrize("number", range(len(FORGERIES)))
async def test_forged_files_are_refused(number: int, world: World) -> None:
    """Whatever a file says with right checksums, it is refused with the place, or it is a run like any other."""
    forge, problem = FORGERIES[number]
    kernel = await world.kernel(limits=SizeLimits(signals=9))
    step = Transition(1, "B", RunStatus.RUNNING, 1.0, {"n": b"\x01"})
    run = RUN._replace(seq=1)
    items = [run, Transition(0, "A", RunStatus.RUNNING, 1.0), step, Signal("i", "paid", b"\x01")]
    writer = Writer(None)
    file = b"".join([writer.head(), *(writer.frame(*packed(item, lambda k, value, o: value)) for item in items)])
    parts = frames(file + writer.end())
    assert len(parts) == len(items)
    forge(parts)
    with pytest.raises(RunFileError) as info:
        await kernel.import_run(made(parts))
    assert problem in str(info.value)
    assert info.value.problem == "forged"
    assert (await kernel.runs(), await world.find("one"), await world.find("cano.store")) == ([], None, None)


async def test_signals_to_a_wait(world: World) -> None:
    """A file carries them, and what answered. In files of an earlier version, their ids had the wait's seq."""
    kernel = await world.kernel()
    items = [RUN._replace(seq=0), Transition(0, "B", RunStatus.RUNNING, 1.0, {"n": b"\x01"})]
    parts = [packed(item, lambda k, value, o: value) for item in items]
    signal = {"kind": "signal", "name": "paid", "payload": None}
    old = [
        *(signal | {"id": id, "own": own} for id, own in (("\0wait 3 x", False), ("y", False), ("\0wait 3 z", True))),
        {"kind": "consumed", "ids": ["\0wait 3 gone", "plain"], "own": False},
        {"kind": "consumed", "ids": ["mark"], "own": True},
    ]
    await kernel.import_run(made([*((meta, b"".join(each)) for meta, each in parts), *((meta, b"") for meta in old)]))
    backend = world.store(kernel).backend
    found = await backend.signals("one")
    assert list(found.waiting) == [Signal("x", "paid", to=3), Signal("y", "paid")]
    assert [list(each) for each in found[1:]] == [["plain"], ["mark"], [(3, "gone")]]

    await kernel.import_run(kernel.export_run("one"), "two")
    assert await backend.signals("two") == found


def test_the_format_knows_each_field() -> None:
    """A new field of a record has to be carried, or left out on purpose: this test is where that is decided."""
    known = {*Unpacker(SizeLimits())._checks, "data", "changed", "own", "payload"}
    for kind in (RunRecord, Transition, Signal):
        fields: tuple[str, ...] = getattr(kind, "_fields", ())
        assert {*fields} - LEFT_OUT.get(kind, set()) <= known


async def test_objects_are_not_exported() -> None:
    """A store that keeps objects has no bytes that another process could read."""
    async with Kernel(discover=False, plugins=["memory", "msgspec"]) as kernel:
        with pytest.raises(ConfigurationError, match="keeps objects, not bytes"):
            await kernel.import_run(b"")
        with pytest.raises(ConfigurationError, match="keeps objects, not bytes"):
            await anext(kernel.export_run("one"))


async def test_the_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    """An export holds a part of the history, and an import one transition; that of a longer run would not be more."""
    count, size = 600, 40_000
    store = SqliteBackend(tmp_path / "runs.db", synchronous="normal")
    async with Kernel(store=store, discover=False, plugins=[CODEC]) as kernel:
        await store.create(RunRecord("one", "long", "1", "f", "A", holder="me", expires=9e9, token=1))
        assert kernel.codec is not None
        value = kernel.codec.encode("x" * size)
        for seq in range(count):
            commit = Commit("one", 1, seq, seq + 1, "A", RunStatus.RUNNING, {"n": value}, release=seq == count - 1)
            await store.commit(commit)
        tracemalloc.start()
        try:
            file = tmp_path / "one.cano"
            with file.open("wb") as opened:
                async for part in kernel.export_run("one"):
                    opened.write(part)
            export_peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()

            async def parts() -> AsyncIterator[bytes]:
                with file.open("rb") as opened:
                    while part := opened.read(100_000):
                        yield part

            await kernel.import_run(parts(), "two")
            import_peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        total = file.stat().st_size
        assert total > count * size
        assert export_peak < 0.7 * total
        assert import_peak < 0.7 * total
        assert len(await kernel.history("two")) == count + 1
