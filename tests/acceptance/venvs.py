"""Wheels that are really built, and venvs that they are really installed in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command without what the environment says about Python."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "CANO"))}
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=kept, capture_output=True, text=True, check=False, timeout=120
    )


def checked(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints; it must succeed."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def build_wheel(project: Path, into: Path) -> Path:
    """Build a project's wheel, with the backend that is installed here."""
    checked(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", into, project)
    (wheel,) = into.glob("*.whl")
    return wheel


class Venv:
    """A venv with the wheels (or requirements) given, what they need, and nothing else."""

    def __init__(self, path: Path, *wheels: Path | str) -> None:
        uv: list[str | Path] = [sys.executable, "-m", "uv", "--quiet"]
        self.python = path / "bin" / "python"
        checked(*uv, "venv", "--python", sys.executable, path)
        install: list[str | Path] = [
            *uv,
            "pip",
            "install",
            "--python",
            self.python,
            "-c",
            ROOT / "constraints.txt",
            *wheels,
        ]
        if run(*install, "--offline").returncode:
            checked(*install)  # the cache knows nothing yet

    def run(self, program: str, *options: str) -> subprocess.CompletedProcess[str]:
        """Run a program where the repository is not to be found; every warning is an error."""
        return run(self.python, "-I", "-W", "error", *options, "-c", program, cwd=self.python.parent)

    def json(self, program: str, *options: str) -> Any:
        """What the program prints, read as JSON; it must succeed."""
        done = self.run(program, *options)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        return json.loads(done.stdout)
