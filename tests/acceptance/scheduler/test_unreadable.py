"""A schedule whose last run cannot be read by the next version of its program."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def version(url: str, name: str) -> subprocess.CompletedProcess[str]:
    """Run one version of the program to its end."""
    command = [sys.executable, "-m", "tests.acceptance.scheduler.unreadable", url, name]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def test_a_schedule_goes_on_behind_a_run_that_cannot_be_read(tmp_path: Path) -> None:
    """The run counts as failed, `explain` says why it does not go on, and it can be cancelled."""
    url = f"sqlite:///{tmp_path}/runs.db"
    assert version(url, "old").returncode == -signal.SIGKILL
    new = version(url, "new")
    assert (new.stdout, new.returncode) == ("UNREADABLE 1 True\n", 0), new.stderr
