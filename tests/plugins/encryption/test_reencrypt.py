"""`cano reencrypt`: after it, present values need the first key only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from cano import Kernel, KeyValueStore, SerializationError, Workflow
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
    """Runs are read without the old key; their histories, which keep it, name it."""
    old, new, store = new_key("old"), new_key("new"), f"sqlite:///{tmp_path}/runs.db?codec=encrypt"
    monkeypatch.setenv(KEYS_ENV, old)
    async with Kernel(store=store) as kernel:
        await kernel.run(flow, {"given": 1}, run_id="one")
    done = cano("--actor", "Ada", "reencrypt", "--store", store, keys=f"{new},{old}")
    assert (done.returncode, done.stdout) == (0, "2 values of 1 runs encrypted again\n")
    assert cano("reencrypt", "--store", store, keys=f"{new},{old}").stdout == "0 values of 0 runs encrypted again\n"

    monkeypatch.setenv(KEYS_ENV, new)
    async with Kernel(store=store) as kernel:
        assert (await kernel.run(flow, run_id="one")).data == {"given": 1, "value": "secret"}
        with pytest.raises(SerializationError, match="run one, key 'given': it is encrypted with the key 'old'"):
            await kernel.history("one")
        assert [(entry.actor, entry.action) for entry in await kernel.audit("one")] == [("Ada", "reencrypt")]


def test_wrong_stores(tmp_path: Path) -> None:
    """A store that is not encrypted, or does not exist, is a usage error; nothing is created."""
    path = tmp_path / "runs.db"
    missing = cano("reencrypt", "--store", f"sqlite:///{path}?codec=encrypt", keys=new_key())
    assert (missing.returncode, "there is no such store" in missing.stderr, path.exists()) == (2, True, False)
    plain = cano("reencrypt", "--store", "memory://", keys=new_key())
    assert (plain.returncode, "is not encrypted" in plain.stderr) == (2, True)
