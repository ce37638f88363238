"""`cano reencrypt`: after it, all values need the first key only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, KeyValueStore, RunStatus, Signal, Workflow, wait_for
from cano_encryption import KEYS_ENV, new_key

pytestmark = pytest.mark.slow

flow = Workflow("A", name="rotated").add_exit_state("B")


@flow.on("A")
async def first(store: KeyValueStore) -> str:
    """Store a value."""
    store["value"] = "secret"
    return "B"


def cano(*arguments: str, keys: str) -> subprocess.CompletedProcess[str]:
    """Run `cano`."""
    command = shutil.which("cano", path=sysconfig.get_path("scripts"))
    assert command is not None
    environment = {**os.environ, KEYS_ENV: keys}
    return subprocess.run([command, *arguments], env=environment, capture_output=True, text=True, check=False)


async def test_a_key_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs, histories and signals are read without the old key."""
    old, new, store = new_key("old"), new_key("new"), f"sqlite:///{tmp_path}/runs.db?codec=encrypt"
    monkeypatch.setenv(KEYS_ENV, old)
    async with Kernel(store=store) as kernel:
        await kernel.run(flow, {"given": 1}, run_id="one")
        assert kernel.backend is not None
        await kernel.backend.put_signal("none yet", Signal("1", "go", b"payload"))
    done = cano("--actor", "Ada", "reencrypt", "--store", store, keys=f"{new},{old}")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7 values of 2 runs encrypted again\n", "")
    counts = json.loads(cano("reencrypt", "--store", store, "--json", keys=f"{new},{old}").stdout)
    assert counts == {"values": 0, "runs": 0, "left_out": 0, "older_keys": 0}

    monkeypatch.setenv(KEYS_ENV, new)
    async with Kernel(store=store) as kernel:
        assert (await kernel.run(flow, run_id="one")).data == {"given": 1, "value": "secret"}
        assert [dict(entry.changed) for entry in await kernel.history("one")] == [{"given": 1}, {"value": "secret"}]
        for run_id in ("one", "none yet"):
            assert [(entry.actor, entry.action) for entry in await kernel.audit(run_id)] == [("Ada", "reencrypt")]
        assert kernel.backend is not None
        (signal,) = (await kernel.backend.signals("none yet")).waiting
        assert signal.payload == b"payload"


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
async def test_queued_runs_keep_their_places(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """They are claimed for their encryption, but do not begin before others by that; a delayed one stays delayed."""
    old, new = new_key("old"), new_key("new")
    monkeypatch.setenv(KEYS_ENV, old)
    url = f"sqlite:///{tmp_path}/runs.db" if kind == "sqlite" else request.getfixturevalue("postgres").new_url()
    store = url + ("&" if "?" in url else "?") + "codec=encrypt"
    async with Kernel(store=store) as kernel:
        for run_id, priority, key in (
            ("a1", 0, "a"),
            ("a2", 0, "a"),
            ("b", 0, "b"),
            ("last", -1, "b"),
            ("first", 1, ""),
        ):
            await kernel.submit(flow, {"given": 1}, run_id=run_id, queue="mail", priority=priority, key=key)
        await kernel.submit(flow, run_id="delayed", queue="mail", delay=3600)
    done = cano("reencrypt", "--store", store, keys=f"{new},{old}")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(cano("reencrypt", "--store", store, "--json", keys=f"{new},{old}").stdout)["values"] == 0

    monkeypatch.setenv(KEYS_ENV, new)
    async with Kernel(store=store) as kernel:
        assert {run.run_id: run.status for run in await kernel.runs()} == {
            **dict.fromkeys(("a1", "a2", "b", "first", "last"), RunStatus.QUEUED), "delayed": RunStatus.PARKED,
        }  # fmt: skip
        await kernel.submit(flow, {"given": 1}, run_id="new", queue="mail", priority=2)
        backend: Any = kernel.backend
        (record,) = [each for each in await kernel.runs() if each.run_id == "new"]
        definition = record.workflow, record.version, record.fingerprint
        assert await backend.queue_sizes([definition], 99) == {"mail": 6}
        order = list[str]()
        for at in [record.created] * 7 + [record.created + 2 * 3600] * 2:
            order += [each.run_id for each in await backend.claim_ready([definition], 1, "me", at, at + 9)]
        assert order == ["new", "first", "a1", "b", "a2", "last", "delayed"]
        for run_id in order:
            assert (await kernel.get(run_id)).seq == 0


def test_wrong_stores(tmp_path: Path) -> None:
    """A store that is not encrypted, or does not exist, is a usage error; nothing is created."""
    path = tmp_path / "runs.db"
    missing = cano("reencrypt", "--store", f"sqlite:///{path}?codec=encrypt", keys=new_key())
    assert (missing.returncode, "there is no such store" in missing.stderr, path.exists()) == (2, True, False)
    plain = cano("reencrypt", "--store", "memory://", keys=new_key())
    assert (plain.returncode, "is not encrypted" in plain.stderr) == (2, True)


async def test_encrypted_stores_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy belongs to its own store. A store whose URL does not say that it is encrypted is not copied."""
    keys = new_key()
    monkeypatch.setenv(KEYS_ENV, keys)
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target"))
    async with Kernel(store=f"{source}?codec=encrypt") as kernel:
        await kernel.run(flow, {"given": 1}, run_id="one")
    plain = cano("migrate-store", source, target, keys=keys)
    assert (plain.returncode, "is encrypted, and its URL does not say how; add codec=encrypt" in plain.stderr) == (
        2,
        True,
    )
    copied = cano("migrate-store", f"{source}?codec=encrypt", f"{target}?codec=encrypt", keys=keys)
    assert (copied.returncode, copied.stdout) == (0, "copied 1 run (1 transition)\n")
    async with Kernel(store=f"{target}?codec=encrypt") as kernel:
        assert (await kernel.run(flow, run_id="one")).data == {"given": 1, "value": "secret"}
        assert len(await kernel.history("one")) == 2


async def test_one_value_under_a_missing_key_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cano show` prints the other values, and names the key that is missing."""
    old, new, store = new_key("old"), new_key("new"), f"sqlite:///{tmp_path}/runs.db?codec=encrypt"
    monkeypatch.setenv(KEYS_ENV, old)
    waiting = Workflow("A", name="waiting").add_exit_state("B").register("A", lambda _: wait_for("go", then="C"))
    waiting.on("C")(first)
    async with Kernel(store=store) as kernel:
        handle = await kernel.start(waiting, {"given": 1}, run_id="one")
        await handle._run.ended()
    monkeypatch.setenv(KEYS_ENV, f"{new},{old}")
    async with Kernel(store=store) as kernel:
        await kernel.signal("one", "go")
        await kernel.run(waiting, run_id="one")
    shown = cano("show", "one", "--store", store, keys=new)
    assert "secret" in shown.stdout
    assert "encrypted with the key 'old'" in shown.stdout
