"""A process killed between writing a file and committing its reference leaves an unreferenced file and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cano import Kernel
from cano_offload import Folder
from cano_offload.sweep import sweep

from tests.acceptance.layers.flows import END, SECRET, flow, signalled

ROOT = Path(__file__).parents[3]


def killed(url: str, moment: str) -> int:
    """Return the exit code of a process that kills itself at that moment."""
    command = [sys.executable, "-m", "tests.acceptance.layers.victim", url, moment]
    return subprocess.run(command, cwd=ROOT, check=False, timeout=100).returncode


@pytest.mark.parametrize(
    ("moment", "unfinished"),
    [("before the file has its name", 1), ("before the name is on disk", 0), ("before the commit", 0)],
)
async def test_killed_between_file_and_commit(tmp_path: Path, moment: str, unfinished: int) -> None:
    """Another process resumes the run, nothing is corrupt, and the sweep finds the unfinished file."""
    url = f"sqlite:///{tmp_path}/runs.db?codec=zstd,offload:1KiB:{tmp_path}/blobs"
    assert killed(url, moment) == -signal.SIGKILL

    folder = Folder(tmp_path / "blobs")
    left = [*folder.files()]
    assert len(left) == 1
    assert sum(file.digest is None for file in left) == unfinished
    async with Kernel(store=url) as kernel:
        assert await kernel.check() in (
            [],
            [finding for finding in await kernel.check() if finding.kind == "stale lease"],
        )
        record = await kernel.runs()
        assert (record[0].seq, record[0].state) == (0, "WRITE")
        assert [line.changed for line in await kernel.history("one")] == [{"given": SECRET}]
        await signalled(kernel)
        assert (await kernel.run(flow, run_id="one")).data == END
        assert await kernel.check() == []

    for file in folder.files():
        os.utime(file.path, (0, 0))
    swept = await sweep(Kernel(), [url], delete=True)
    assert len(swept.removed) == unfinished  # a finished file had the right content, so the second process used it
    assert swept.missing == []
    async with Kernel(store=url) as kernel:
        assert (await kernel.run(flow, run_id="one")).data == END
