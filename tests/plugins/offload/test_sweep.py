"""Sweeping: what anybody refers to stays, wherever the reference is; what is young stays; the rest goes when asked."""

from __future__ import annotations

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
    """Wait with a payload at hand."""
    assert current_step().payload
    return wait_for("never", then="LAST")


@flow.on("LAST")
async def last(store: KeyValueStore) -> Literal["DONE"]:
    """The end."""
    return "DONE"


@pytest.fixture
def url(tmp_path: Path, folder: Folder) -> str:
    """A store that offloads what has more than 100 bytes."""
    return url_of(tmp_path / "runs.db", folder)


def url_of(path: Path, folder: Folder) -> str:
    """A store in that file that offloads to the folder."""
    return f"sqlite:///{path}?synchronous=normal&codec=offload:100:{folder.path}"


async def fill(url: str) -> None:
    """A run with a value that it has replaced; a signal that it waits for no more; and one for nobody."""
    async with Kernel(store=url) as kernel:
        handle = await kernel.start(flow, {"text": "first " * 100}, run_id="one")
        while (await kernel.explain("one")).detail != "'more'":
            await kernel.clock.sleep(0.01)
        await kernel.signal("one", "other", "payload " * 100)
        assert handle.run_id == "one"
        backend = kernel.backend
        assert backend is not None
        assert kernel.codec is not None
        await backend.put_signal("nobody", Signal("id", "early", kernel.codec.encode("early " * 100)))


def strays(folder: Folder) -> list[Path]:
    """A file that nobody refers to, one that a crash has left unfinished, and some that are none of ours."""
    loose = folder.file(folder.keep(b"nobody refers to this"))
    unfinished = loose.parent / ".0123456789abcdef.tmp"
    unfinished.write_bytes(b"half")
    (loose.parent / "notes.txt").write_text("mine")
    (folder.path / "zz").mkdir()
    (folder.path / "zz" / ("a" * 62)).write_text("mine")
    return sorted([loose, unfinished])


async def test_what_is_referred_to_stays(url: str, folder: Folder) -> None:
    """Data, history, waiting signals, those to nobody; what else is old enough goes, and only when it is asked for."""
    await fill(url)
    loose = strays(folder)
    young = await sweep(Kernel(), [url], delete=True)
    assert (young.referenced, young.unreferenced, young.young, young.removed) == (4, [], 2, [])
    age(folder)

    seen = await sweep(Kernel(), [url])
    assert sorted(file.path for file in seen.unreferenced) == loose
    assert seen.removed == []
    assert all(path.exists() for path in loose)

    swept = await sweep(Kernel(), [url], delete=True)
    assert sorted(file.path for file in swept.removed) == loose
    assert not any(path.exists() for path in loose)
    assert (swept.referenced, swept.missing, swept.young) == (4, [], 0)
    assert len([*folder.path.glob("*/*")]) == 6  # four, and two of somebody else's
    async with Kernel(store=url) as kernel:
        assert [line.changed["text"][:6] for line in await kernel.history("one")] == ["first ", "second"]


async def test_a_payload_that_a_run_was_woken_with_stays(url: str, folder: Folder) -> None:
    """It is in the run's record, as bytes that came from the signal."""
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


async def test_what_is_asked_for_again_stays(url: str, folder: Folder) -> None:
    """A value that is stored again is young, although its file is old; also if that happens after the look."""
    await fill(url)
    loose = strays(folder)
    age(folder)
    found = {file.digest is None: file for file in folder.files() if file.path in loose}
    folder.keep(b"nobody refers to this")

    assert not folder.remove(found[False], time.time() - GRACE)
    assert found[False].path.exists()
    assert folder.remove(found[True], time.time() - GRACE)
    assert not folder.remove(found[True], time.time())  # it is gone


async def test_a_reference_inside_a_value_stays(url: str, folder: Folder) -> None:
    """Somebody may have put bytes that the kernel's codec has made into a value of its own."""
    await fill(url)
    async with Kernel(store=url) as kernel:
        assert kernel.codec is not None
        inside = kernel.codec.encode("inside " * 100)
        await kernel.start(flow, {"text": ["bytes", inside]}, run_id="two")
    age(folder)
    swept = await sweep(Kernel(), [url], delete=True)
    assert (swept.removed, swept.missing) == ([], [])


async def test_several_stores_share_a_folder(url: str, folder: Folder, tmp_path: Path) -> None:
    """Each of them has to be named: then what either refers to stays."""
    other = url_of(tmp_path / "other.db", folder)
    await fill(url)
    async with Kernel(store=other) as kernel:
        await kernel.start(flow, {"text": "other " * 100}, run_id="two")
    age(folder)

    assert (await sweep(Kernel(), [url, other], delete=True)).removed == []
    assert (await sweep(Kernel(), [url])).unreferenced != []


async def test_the_wrong_store_removes_nothing(url: str, folder: Folder, tmp_path: Path) -> None:
    """A store that refers to no file is more likely the wrong one than an empty one."""
    await fill(url)
    age(folder)
    wrong = url_of(tmp_path / "wrong.db", folder)
    async with Kernel(store=wrong):
        pass  # it is there, and empty

    with pytest.raises(ConfigurationError, match="is this the right store"):
        await sweep(Kernel(), [wrong], delete=True)
    assert len((await sweep(Kernel(), [wrong])).unreferenced) == 4
    assert len((await sweep(Kernel(), [wrong], delete=True, even_all=True)).removed) == 4


async def test_one_wrong_store_of_two_removes_nothing(url: str, folder: Folder, tmp_path: Path) -> None:
    """Also where the other one refers to some files: those that the wrong one does not refer to are needed."""
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
    """It is not made: nothing is looked at or removed, whatever else is named."""
    await fill(url)
    needed = strays(folder)
    age(folder)
    typo = url_of(tmp_path / "typo.db", folder)

    for urls in ([typo], [url, typo], [typo, url]):
        with pytest.raises(ConfigurationError, match=r"there is no such store: 'sqlite:///\S+/typo\.db'\. "):
            await sweep(Kernel(), urls, delete=delete, even_all=True)
    assert [*tmp_path.glob("typo*")] == []  # noqa: ASYNC240
    assert all(path.exists() for path in needed)


async def test_wrong_urls_are_refused(url: str, tmp_path: Path) -> None:
    """Every store has one offload layer, and all of them the same folder."""
    await fill(url)
    elsewhere = url_of(tmp_path / "other.db", Folder(tmp_path / "elsewhere"))
    for urls, problem in (
        ([url.partition("?")[0]], "must name one offload:SIZE:FOLDER, but has 0"),
        ([f"{url},offload:7:{tmp_path}/b"], "but has 2"),
        ([url, elsewhere], "different folders"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            await sweep(Kernel(), urls, delete=True)


async def test_what_cannot_be_read_stops_the_sweep(url: str, folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value under a layer that the URL does not name may be a reference: nothing is removed then."""
    from cano_encryption import KEYS_ENV, new_key

    monkeypatch.setenv(KEYS_ENV, new_key())
    async with Kernel(store=f"{url},encrypt") as kernel:
        await kernel.start(flow, {"text": "hidden " * 100}, run_id="two")
    age(folder)
    with pytest.raises(
        SerializationError, match=r"run two, key 'text': it is wrapped in a layer that .* does not name"
    ):
        await sweep(Kernel(), [url], delete=True)

    swept: Swept = await sweep(Kernel(), [f"{url},encrypt"], delete=True)
    assert (swept.referenced, swept.removed) == (2, [])


async def test_a_fork_keeps_what_its_origin_had(url: str, folder: Folder) -> None:
    """Also when it is made, and the origin deleted, while the sweep looks."""
    await fill(url)
    backend, layers = Kernel().store_at(url)
    assert backend is not None

    class Busy(SqliteBackend):
        """Forks the run and deletes it between the listing and the look."""

        async def load(self, run_id: str) -> RunRecord | None:
            """What happens meanwhile."""
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
        assert [line.changed["text"][:6] for line in await kernel.history("two")] == ["second"]
    assert folder.file(next(iter(referenced))).exists()
    assert len(referenced) >= 3  # that of the fork among them


def cano(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command."""
    command = shutil.which("cano", path=sysconfig.get_path("scripts"))
    assert command is not None
    return subprocess.run(
        [sys.executable, command, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


async def test_the_command(url: str, folder: Folder) -> None:
    """Lists by default, removes with --delete, and says what is missing."""
    await fill(url)
    strays(folder)
    age(folder)

    dry = cano("offload-sweep", "--store", url)
    assert (dry.returncode, dry.stderr) == (0, "")
    assert dry.stdout.splitlines()[-1] == f"{folder.path}: 4 referred to, 0 young, 2 to remove, with --delete"
    swept = cano("offload-sweep", "--delete", CANO_STORE=url)
    assert swept.stdout.splitlines()[-1] == f"{folder.path}: 4 referred to, 0 young, 2 removed"
    assert swept.returncode == 0

    shutil.rmtree(next(folder.path.glob("[0-9a-f][0-9a-f]")))
    missing = cano("offload-sweep", "--store", url)
    assert missing.returncode == 1
    assert "missing: " in missing.stderr


def test_the_command_refuses_what_makes_no_sense(tmp_path: Path) -> None:
    """In one line."""
    done = cano("offload-sweep", "--store", f"sqlite:///{tmp_path}/runs.db")
    assert done.returncode != 0
    assert "must name one offload:SIZE:FOLDER" in done.stderr
    assert "Traceback" not in done.stderr
