"""What the contracts cannot know of this store: crashes, growth, long texts, URLs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import lmdb
import pytest
from cano import (
    Commit,
    ConfigurationError,
    Kernel,
    KeyValueStore,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    StoreUnavailableError,
    Workflow,
    wait_for,
)
from cano.testing import survives_crashes
from lmdb_runs import rows
from lmdb_runs.plugin import LmdbBackend, cano_open_store

T = TypeVar("T")
RUN = RunRecord(run_id="run", workflow="flow", version="1", fingerprint="f", state="S")

flow = Workflow("order", name="orders").add_exit_state("shipped")


@flow.on("order")
async def order(store: KeyValueStore) -> str:
    store["parcels"] = [{"weight": 0.1 + 0.2}]
    return wait_for("paid", then="ship")


@flow.on("ship")
async def ship(store: KeyValueStore) -> str:
    store["shipped"] = len(store["parcels"])
    return "shipped"


def use(path: Path, work: Callable[[LmdbBackend], Awaitable[T]]) -> T:
    """Return the result of `work` on an open store."""

    async def main() -> T:
        store = LmdbBackend(str(path))
        await store.open()
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def test_whether_it_is_there(tmp_path: Path) -> None:
    """`exists` works before `open`, and creates nothing."""
    path = tmp_path / "runs.mdb"

    assert not asyncio.run(LmdbBackend(str(path)).exists())
    assert not path.exists()
    assert use(path, LmdbBackend.exists)


def test_a_run_survives_sigkill_at_every_write(tmp_path: Path) -> None:
    """Killed before and after each write to this store, the flow ends the same."""
    report = survives_crashes(flow, store=f"lmdb:///{tmp_path}/runs.mdb", signals=[("paid", None)])

    assert report.outcome.state == "shipped"
    assert report.outcome.data["parcels"] == [{"weight": 0.1 + 0.2}]
    # its creation and two transitions; also claims and another commit, if the signal arrives after the run has parked
    assert [point.when for point in report.points] in (["before", "after"] * 3, ["before", "after"] * 6)


def test_a_kernel_runs_on_it(tmp_path: Path) -> None:
    """A run id is executed once, however often it is asked for, by any kernel."""

    async def main() -> list[object]:
        found: list[object] = []
        for _ in range(2):
            async with Kernel(store=f"lmdb:///{tmp_path}/runs.mdb") as kernel:
                handle = await kernel.start(flow, run_id="7")
                if not found:
                    await kernel.signal("7", "paid")
                found.append((await handle.result()).data["shipped"])
        return found

    assert asyncio.run(main()) == [1, 1]


GROW = """
import asyncio, sys
from cano import RunRecord
from lmdb_runs import rows
from lmdb_runs.plugin import LmdbBackend

async def main(path):
    store = LmdbBackend(path)
    await store.open()
    for n in range(4):
        await store.create(RunRecord(f"{n}", "flow", "1", "f", "S", data={"large": bytes(10_000_000)}))
    await store.close()

asyncio.run(main(sys.argv[1]))
"""


def test_the_file_grows_under_several_processes(tmp_path: Path) -> None:
    """A store reads what another process has written and continues, though the file has grown many times meanwhile."""
    path = tmp_path / "runs.mdb"

    async def work(store: LmdbBackend) -> list[int]:
        await store.create(RUN)
        done = await asyncio.to_thread(
            subprocess.run, [sys.executable, "-c", GROW, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        await store.create(RUN._replace(run_id="late", data={"large": bytes(10_000_000)}))
        loaded = [await store.load(run_id) for run_id in ("0", "3", "late")]
        return [len(run.data["large"]) for run in loaded if run is not None]

    assert use(path, work) == [10_000_000] * 3


def test_signals_to_a_wait_of_an_earlier_version(tmp_path: Path) -> None:
    """Their ids had the wait's seq."""

    async def write(store: LmdbBackend) -> None:
        await store.create(RUN)
        for id in ("\0wait 3 x", "\0wait 3 gone", "\0wait x y", "plain"):
            await store.put_signal("run", Signal(id, "go"))
        await store.commit(Commit("run", 0, 0, 1, "S", RunStatus.RUNNING, consumed=["\0wait 3 gone", "plain"]))

    async def read(store: LmdbBackend) -> Signals:
        return await store.signals("run")

    use(path := tmp_path / "runs.mdb", write)
    with closing(lmdb.open(str(path), subdir=False)) as file, file.begin(write=True) as transaction:
        transaction.put(rows.VERSION, b"2")
    waiting = [Signal("x", "go", to=3), Signal("\0wait x y", "go")]
    assert use(path, read) == Signals(waiting, ["plain"], [], [(3, "gone")])


def test_long_texts_are_told_apart(tmp_path: Path) -> None:
    """Ids and keys that differ only in their last letter are different, however long they are."""
    one, two = (("🗝" * 1000) + end for end in "12")

    async def work(store: LmdbBackend) -> None:
        for run_id in (one, two):
            data = {key: f"{run_id}{key}".encode() for key in (one, two)}
            await store.create(RUN._replace(run_id=run_id, data=data))
            await store.put_signal(run_id, Signal(one, two, run_id.encode()))
        for run_id in (one, two):
            run = await store.load(run_id)
            assert run is not None
            assert run.data == {key: f"{run_id}{key}".encode() for key in (one, two)}
            assert await store.next_signal(run_id, two) == Signal(one, two, run_id.encode())

    use(path := tmp_path / "runs.mdb", work)
    assert path.is_file()


def test_what_is_no_value_is_refused(tmp_path: Path) -> None:
    """Values that are not bytes, and errors that are not JSON, are refused; nothing is written."""

    async def work(store: LmdbBackend) -> RunRecord | None:
        for wrong in (RUN._replace(data={"a": b"1", "b": 2}), RUN._replace(error={"cause": object()})):
            with pytest.raises(SerializationError):
                await store.create(wrong)
        return await store.load("run")

    assert use(tmp_path / "runs.mdb", work) is None


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """A file of another kind, and a missing folder, raise StoreUnavailableError."""
    (tmp_path / "text").write_text("text" * 10_000)
    for path in (tmp_path / "text", tmp_path / "none" / "runs.mdb"):
        with pytest.raises(StoreUnavailableError, match=str(path)):
            use(path, LmdbBackend.close)


@pytest.mark.parametrize("url", ["lmdb://", "lmdb:///", "lmdb://host/runs.mdb", "lmdb://?sync=no"])
def test_wrong_urls(url: str) -> None:
    """A URL without a file is refused, with an example of one that has it."""
    with pytest.raises(ConfigurationError, match=r"lmdb:///runs\.mdb"):
        cano_open_store(url)


def test_urls_of_others() -> None:
    """Other schemes are for other plugins."""
    assert cano_open_store("sqlite:///runs.db") is None
