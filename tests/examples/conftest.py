"""Examples run as a user runs them: by the path of the file, in their own process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Output = subprocess.CompletedProcess[str]
RunPython = Callable[..., Output]


@pytest.fixture
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run Python with these arguments outside the repository, with warnings as errors."""

    def run(*arguments: str | Path, path: Path | None = None) -> Output:
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", timeout=100, check=False
        )

    return run


@pytest.fixture
def run_example(run_python: RunPython) -> RunPython:
    """Runs the example of that name."""

    def run(name: str, *arguments: str | Path) -> Output:
        return run_python(ROOT / "examples" / f"{name}.py", *arguments)

    return run


@pytest.fixture
def output_of(run_example: RunPython) -> Callable[..., list[str]]:
    """Return the lines that the example prints; it must succeed and print nothing to stderr."""

    def output(name: str, *arguments: str | Path) -> list[str]:
        done = run_example(name, *arguments)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return output


@pytest.fixture
def run_cano() -> Callable[..., Output]:
    """Runs the installed `cano` command on its arguments, at the repository's root."""
    command = shutil.which("cano", path=sysconfig.get_path("scripts"))
    assert command is not None

    def run(*arguments: str) -> Output:
        return subprocess.run(
            [command, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=100, check=False
        )

    return run
