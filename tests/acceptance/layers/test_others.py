"""Stores with layers under the scheduler, crash tests and the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel
from cano.testing import survives_crashes
from cano_encryption import KEYS_ENV, new_key
from cano_offload.sweep import sweep
from cano_scheduler import Scheduler

from tests.acceptance.layers.flows import END, LONG, NOISE, SECRET, flow, parked, signalled

Url = Callable[[str], str]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Url:
    """Return a function that makes the URL of a store with three layers. A key is set."""
    monkeypatch.setenv(KEYS_ENV, new_key())
    return lambda name: (
        f"sqlite:///{tmp_path}/{name}.db?synchronous=normal&codec=zstd,encrypt,offload:1KiB:{tmp_path}/blobs"
    )


def test_a_run_survives_crashes(url: Url) -> None:
    """A run killed before and after every write ends in the same state with the same values."""
    report = survives_crashes(flow, {"given": SECRET}, store=url("crashes"), signals=[("more", [LONG, NOISE])])
    assert report.outcome.data == END
    assert len(report.points) >= 8


async def test_schedules(url: Url, tmp_path: Path) -> None:
    """A schedule's data is encrypted, and a sweep removes none of the files that it refers to."""
    data = {"given": NOISE.hex() + SECRET}
    async with Kernel(store=url("schedules")) as kernel:
        scheduler = Scheduler(kernel).manual("by hand", flow, data=data)
        async with scheduler:
            await scheduler.trigger("by hand")
            while not [run for run in await kernel.runs(workflow=flow.name) if run.state == "READ"]:
                await kernel.clock.sleep(0.005)
    assert SECRET.encode() not in everything(tmp_path)
    age(tmp_path / "blobs")
    swept = await sweep(Kernel(), [url("schedules")], delete=True)
    assert swept.referenced > 0
    assert swept.missing == []
    async with Kernel(store=url("schedules")) as kernel:
        assert [finding for finding in await kernel.check() if finding.kind == "corrupt"] == []
        scheduler = Scheduler(kernel).manual("by hand", flow, data=data)
        async with scheduler:
            (run,) = await kernel.runs(workflow=flow.name)
            await signalled(kernel, run.run_id)
            assert (await kernel.run(flow, run_id=run.run_id)).data["given"] == data["given"]


async def test_the_command_line(url: Url) -> None:
    """`cano show` prints the values, and `cano check` finds no problem."""
    async with Kernel(store=url("shown")) as kernel:
        await parked(kernel)
    command = shutil.which("cano", path=sysconfig.get_path("scripts"))
    assert command is not None
    for arguments, output in ((["show", "one"], SECRET), (["check", "tests/acceptance/layers/flows.py:flow"], "ok: ")):
        assert output in shown([command, *arguments, "--store", url("shown")])


def everything(folder: Path) -> bytes:
    """Return the content of all files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def age(folder: Path) -> None:
    """Set the time of every file to 1970."""
    for path in folder.glob("*/*"):
        os.utime(path, (0, 0))


def shown(command: list[str]) -> str:
    """Return the output of a command."""
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
