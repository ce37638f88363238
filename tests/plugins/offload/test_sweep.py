"""Sweeping: referenced and recent files stay; the others are removed with `delete`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Literal

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
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)
from cano_offload import Folder, OffloadLayer
from cano_offload.references import References
from cano_offload.sweep import GRACE, Swept, sweep
from cano_sqlite import SqliteBackend

from tests.plugins.offload.conftest import age

flow = Workflow("WRITE", name="writing", default_config=TaskConfig.minimal()).add_exit_states(["DONE"])


@flow.on("WRITE")
async def write(store: KeyValueStore) -> Literal["READ"]:
    """Replace the first value, then wait."""
    store["text"] = "second " * 100
    return wait_for("more", then="READ")


@flow.on("READ")
async def read(store: KeyValueStore) -> Literal["LAST"]:
    """Wait again, with a payload in the run's record."""
    assert current_step().payload
    return wait_for("never", then="LAST")


@flow.on("LAST")
async def last(store: KeyValueStore) -> Literal["DONE"]:
    """End the run."""
    return "DONE"


@pytest.fixture
def url(tmp_path: Path, folder: Folder) -> str:
    """A store that offloads values over 100 bytes."""
    return url_of(tmp_path / "runs.db", folder)


def url_of(path: Path, folder: Folder) -> str:
    """Return the URL of a store in that file that offloads to the folder."""
    return f"sqlite:///{path}?synchronous=normal&codec=offload:100:{folder.path}"


async def fill(url: str) -> None:
    """Start a run that replaces a value, send it a signal that it does not wait for, and one to a missing run."""
    async with Kernel(store=url) as kernel:
        handle = await kernel.start(flow, {"text": "first " * 100}, run_id="one")
        await handle._run.ended()  # it is parked
        await kernel.signal("one", "other", "payload " * 100)
        assert handle.run_id == "one"
        backend = kernel.backend
        assert backend is not None
        assert kernel.codec is not None
        await backend.put_signal("nobody", Signal("id", "early", kernel.codec.encode("early " * 100)))


def strays(folder: Folder) -> list[Path]:
    """Make an unreferenced file, an unfinished one, and two that are not the folder's. Return the first two."""
    unreferenced = folder.file(folder.keep(b"unreferenced"))
    unfinished = unreferenced.parent / ".0123456789abcdef.tmp"
    unfinished.write_bytes(b"half")
    (unreferenced.parent / "notes.txt").write_text("mine")
    (folder.path / "zz").mkdir()
    (folder.path / "zz" / ("a" * 62)).write_text("mine")
    return sorted([unreferenced, unfinished])


async def test_referenced_files_stay(url: str, folder: Folder) -> None:
    """Files stay that data, history or signals refer to, even signals to missing runs; others go with `delete`."""
    await fill(url)
    unreferenced = strays(folder)
    recent = await sweep(Kernel(), [url], delete=True)
    assert (recent.referenced, recent.unreferenced, recent.recent, recent.removed) == (4, [], 2, [])
    age(folder)

    seen = await sweep(Kernel(), [url])
    assert sorted(file.path for file in seen.unreferenced) == unreferenced
    assert seen.removed == []
    assert all(path.exists() for path in unreferenced)

    swept = await sweep(Kernel(), [url], delete=True)
    assert sorted(file.path for file in swept.removed) == unreferenced
    assert not any(path.exists() for path in unreferenced)
    assert (swept.referenced, swept.missing, swept.recent) == (4, [], 0)
    assert len([*folder.path.glob("*/*")]) == 6  # four, and two that are not the folder's
    async with Kernel(store=url) as kernel:
        assert [entry.changed["text"][:6] for entry in await kernel.history("one")] == ["first ", "second"]


async def test_a_payload_that_a_run_was_woken_with_stays(url: str, folder: Folder) -> None:
    """A file stays if the payload in a run's record refers to it."""
    await fill(url)
    backend = SqliteBackend(folder.path.parent / "runs.db")
    await backend.open()
    layer = OffloadLayer(100, folder)
    payload = layer.wrap(b"payload of a run" * 100)
    token = await backend.claim("one", "me", 0, 1)
    assert token is not None
    record = await backend.load("one")
    assert record is not None
    await backend.commit(
        Commit(
            run_id="one", token=token, expected_seq=record.seq, seq=record.seq + 1, state="READ",
            status=RunStatus.RUNNING, payload=payload, release=True,
        )
    )  # fmt: skip
    assert len(await References(backend, [layer]).all()) == 5
    await backend.close()
    age(folder)
    assert (await sweep(Kernel(), [url], delete=True)).removed == []
    assert layer.unwrap(payload)


async def test_a_value_stored_again_stays(url: str, folder: Folder) -> None:
    """Storing a value again makes its old file recent, even after the sweep has listed it."""
    await fill(url)
    unreferenced = strays(folder)
    age(folder)
    found = {file.digest is None: file for file in folder.files() if file.path in unreferenced}
    folder.keep(b"unreferenced")

    assert not folder.remove(found[False], time.time() - GRACE)
    assert found[False].path.exists()
    assert folder.remove(found[True], time.time() - GRACE)
    assert not folder.remove(found[True], time.time())  # already removed


async def test_a_reference_inside_a_value_stays(url: str, folder: Folder) -> None:
    """A file stays if a value contains encoded bytes with a reference to it."""
    await fill(url)
    async with Kernel(store=url) as kernel:
        assert kernel.codec is not None
        inside = kernel.codec.encode("inside " * 100)
        await kernel.start(flow, {"text": ["bytes", inside]}, run_id="two")
    age(folder)
    swept = await sweep(Kernel(), [url], delete=True)
    assert (swept.removed, swept.missing) == ([], [])


async def test_several_stores_share_a_folder(url: str, folder: Folder, tmp_path: Path) -> None:
    """If every store is given, the files of all of them stay."""
    other = url_of(tmp_path / "other.db", folder)
    await fill(url)
    async with Kernel(store=other) as kernel:
        await kernel.start(flow, {"text": "other " * 100}, run_id="two")
    age(folder)

    assert (await sweep(Kernel(), [url, other], delete=True)).removed == []
    assert (await sweep(Kernel(), [url])).unreferenced != []


async def test_the_wrong_store_removes_nothing(url: str, folder: Folder, tmp_path: Path) -> None:
    """A store that refers to no file is taken for the wrong one."""
    await fill(url)
    age(folder)
    wrong = url_of(tmp_path / "wrong.db", folder)
    async with Kernel(store=wrong):
        pass  # it exists and is empty

    with pytest.raises(ConfigurationError, match="so the URL may be wrong"):
        await sweep(Kernel(), [wrong], delete=True)
    assert len((await sweep(Kernel(), [wrong])).unreferenced) == 4
    assert len((await sweep(Kernel(), [wrong], delete=True, even_all=True)).removed) == 4


async def test_one_wrong_store_of_two_removes_nothing(url: str, folder: Folder, tmp_path: Path) -> None:
    """Nothing is removed even if the other store refers to some files."""
    await fill(url)
    needed = strays(folder)
    age(folder)
    wrong = url_of(tmp_path / "wrong.db", folder)
    async with Kernel(store=wrong):
        pass

    for urls in ([url, wrong], [wrong, url]):
        with pytest.raises(ConfigurationError, match=r"no run in '\S+/wrong\.db' refers to any of the 6 files"):
            await sweep(Kernel(), urls, delete=True)
    assert all(path.exists() for path in needed)
    assert len((await sweep(Kernel(), [url, wrong], delete=True, even_all=True)).removed) == 2


@pytest.mark.parametrize("delete", [False, True])
async def test_a_store_that_is_not_there(url: str, folder: Folder, tmp_path: Path, delete: bool) -> None:
    """A missing store is not created, and nothing is removed, even if other stores exist."""
    await fill(url)
    needed = strays(folder)
    age(folder)
    typo = url_of(tmp_path / "typo.db", folder)

    for urls in ([typo], [url, typo], [typo, url]):
        with pytest.raises(ConfigurationError, match=r"there is no such store: 'sqlite:///\S+/typo\.db'; "):
            await sweep(Kernel(), urls, delete=delete, even_all=True)
    assert [*tmp_path.glob("typo*")] == []  # noqa: ASYNC240
    assert all(path.exists() for path in needed)


async def test_wrong_urls_are_refused(url: str, tmp_path: Path) -> None:
    """Every store must have one offload layer, and all of them the same folder."""
    await fill(url)
    elsewhere = url_of(tmp_path / "other.db", Folder(tmp_path / "elsewhere"))
    for urls, problem in (
        ([url.partition("?")[0]], "must contain one offload:SIZE:FOLDER, not 0"),
        ([f"{url},offload:7:{tmp_path}/b"], "FOLDER, not 2"),
        ([url, elsewhere], "different folders"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            await sweep(Kernel(), urls, delete=True)


async def test_appended_items_stay(url: str, folder: Folder) -> None:
    """Files stay that the items refer to which steps have appended."""
    flow = Workflow("ADD", name="adding").add_exit_states(["DONE"])

    @flow.on("ADD")
    async def add(store: KeyValueStore) -> str:
        store.append("log", f"{len(store.get('log', list, []))} " * 100)
        return "ADD" if len(store.get("log", list)) < 3 else "DONE"

    async with Kernel(store=url) as kernel:
        await kernel.run(flow, run_id="one")
    age(folder)
    swept = await sweep(Kernel(), [url], delete=True)
    assert (swept.referenced, swept.removed, swept.missing) == (3, [], [])
    async with Kernel(store=url) as kernel:
        assert [item[0] for item in (await kernel.run(flow, run_id="one")).data["log"]] == ["0", "1", "2"]


@pytest.mark.parametrize("encrypted", [False, True])
async def test_streams_and_values_of_the_engine_stay(
    url: str, folder: Folder, encrypted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of chunks, and of values that the engine keeps of a run and its transitions, stay."""
    from cano_encryption import KEYS_ENV, new_key

    monkeypatch.setenv(KEYS_ENV, new_key())
    url = url.replace("codec=", "codec=encrypt,") if encrypted else url
    flow: Workflow[str] = Workflow("SAY", name="saying", default_config=TaskConfig.minimal()).add_exit_state("DONE")

    @flow.on("SAY")
    async def say(store: KeyValueStore) -> str:
        for number in range(3):
            await current_step().emit(f"x{number}", f"{number} " * 100, flush=True)
        return "FAIL"

    @flow.on("FAIL")
    async def fail(store: KeyValueStore) -> str:
        raise ValueError("failed " * 100)

    async with Kernel(store=url) as kernel:
        with pytest.raises(Exception, match="failed"):
            await kernel.run(flow, run_id="one")
    age(folder)
    monkeypatch.setattr("cano_offload.references.PAGE", 1)
    await sweep(Kernel(), [url], delete=True, even_all=True)
    swept = await sweep(Kernel(), [url])
    assert swept.missing == []
    assert swept.referenced >= 4
    async with Kernel(store=url) as kernel:
        attached = await kernel.attach("one")
        assert [item.value async for item in attached.stream("x2") if not item.superseded] == ["2 " * 100]
        error = (await kernel.get("one")).error
        assert isinstance(error, TaskError)
        assert "in fail" in str(error.traceback)


async def test_what_cannot_be_read_stops_the_sweep(url: str, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is removed if a layer is missing from the URL, since its values may contain references."""
    from cano_encryption import KEYS_ENV, new_key

    monkeypatch.setenv(KEYS_ENV, new_key())
    backend, layers = Kernel().store_at(f"{url},encrypt")  # an order that kernels no longer write
    assert backend is not None
    await backend.open()
    data = {"text": layers.wrap(b"hidden" * 100)}
    await backend.create(RunRecord("two", "writing", version="1", fingerprint="", state="WRITE", data=data))
    await backend.close()
    age(folder)
    with pytest.raises(SerializationError, match=r"run .*, key .*: a layer that .* does not name wrote it"):
        await sweep(Kernel(), [url], delete=True)

    swept: Swept = await sweep(Kernel(), [f"{url},encrypt"], delete=True)
    assert (swept.referenced, swept.removed) == (1, [])


async def test_a_fork_keeps_the_files_of_its_origin(url: str, folder: Folder) -> None:
    """A fork's files stay even if it is made, and its origin deleted, during the sweep."""
    await fill(url)
    backend, layers = Kernel().store_at(url)
    assert backend is not None

    class Busy(SqliteBackend):
        """A store in which the run is forked and deleted between being listed and being read."""

        async def load(self, run_id: str) -> RunRecord | None:
            """Fork and delete the run before its first load."""
            if run_id == "one" and not self.done:
                self.done = True
                async with Kernel(store=url) as kernel:
                    await kernel.fork("one", 1, "two")
                    assert kernel.backend is not None
                    await kernel.backend.delete("one")
            return await super().load(run_id)

        done = False

    busy = Busy(folder.path.parent / "runs.db", synchronous="normal")
    await busy.open()
    referenced = await References(busy, layers).all()
    await busy.close()

    async with Kernel(store=url) as kernel:
        assert [entry.changed["text"][:6] for entry in await kernel.history("two")] == ["second"]
    assert folder.file(next(iter(referenced))).exists()
    assert len(referenced) >= 3  # the fork's among them


def cano(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the `cano` command."""
    command = shutil.which("cano", path=sysconfig.get_path("scripts"))
    assert command is not None
    return subprocess.run(
        [sys.executable, command, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


async def test_the_command(url: str, folder: Folder) -> None:
    """The command lists files, removes them with --delete, and names missing ones."""
    await fill(url)
    strays(folder)
    age(folder)

    dry = cano("offload-sweep", "--store", url)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.splitlines()[-1] == f"{folder.path}: 4 referenced, 0 too recent, 2 to remove with --delete"
    listed = json.loads(cano("offload-sweep", "--store", url, "--json").stdout)
    assert (listed["referenced"], len(listed["unreferenced"]), listed["removed"]) == (4, 2, [])
    swept = cano("offload-sweep", "--delete", CANO_STORE=url)
    assert swept.stdout.splitlines()[-1] == f"{folder.path}: 4 referenced, 0 too recent, 2 removed"
    assert swept.returncode == 0

    shutil.rmtree(next(folder.path.glob("[0-9a-f][0-9a-f]")))
    missing = cano("offload-sweep", "--store", url)
    assert missing.returncode == 1
    assert "missing: " in missing.stderr


def test_usage_error(tmp_path: Path) -> None:
    """A store without an offload layer is refused without a traceback."""
    done = cano("offload-sweep", "--store", f"sqlite:///{tmp_path}/runs.db")
    assert done.returncode != 0
    assert "must contain one offload:SIZE:FOLDER" in done.stderr
    assert "Traceback" not in done.stderr


async def test_namespaces_have_folders_of_their_own(tmp_path: Path, folder: Folder) -> None:
    """A sweep of one namespace, or of the store itself, leaves the files of the others; so each run can be read."""
    place = f"sqlite:///{tmp_path / 'runs.db'}?codec=offload:1KiB:{folder.path}"
    for name in ("a", "B", None):
        async with Kernel(store=place, namespace=name) as kernel:
            handle = await kernel.start(flow, {"text": f"{name} " * 999, "same": "x" * 999}, run_id="one")
            await handle._run.ended()
    for name in ("a", "B", None):
        kernel = Kernel(namespace=name)
        _, (layer,) = kernel.store_at(place)
        assert isinstance(layer, OffloadLayer)
        age(layer.folder)
        swept = await sweep(kernel, [place], delete=True)
        assert (swept.missing, swept.removed) == ([], [])
        assert swept.referenced > 0
    assert set(os.listdir(tmp_path)) >= {
        "blobs", "blobs@a", "blobs@~4558e6463a13409ac7c724fc386e89bd965f8cea"
    }  # fmt: skip
    async with Kernel(store=place, namespace="B") as kernel:
        assert (await kernel.history("one"))[0].changed["text"] == "B " * 999
