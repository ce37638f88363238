"""Attempts and finished phases survive the kill of their process, on each store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).with_name("tries.py")


def run(url: str) -> tuple[int, list[str]]:
    """Run the program; return its exit code and what it has printed."""
    env = os.environ | {"CANO_BLOCK": "structlog,otel"}
    done = subprocess.run([sys.executable, str(PROGRAM), url], stdout=subprocess.PIPE, text=True, env=env)
    return done.returncode, done.stdout.splitlines()


def test_killed_in_its_second_attempt(store_url: str) -> None:
    """Of four attempts, the next process makes the second and the later ones, with what was prepared before."""
    assert run(store_url) == (-signal.SIGKILL, ["prep 1 r:1", "exec 1 r:1", "exec 2 r:1"])
    assert run(store_url) == (0, ["exec 2 r:1", "exec 3 r:1", "exec 4 r:1", "attempts 4"])
