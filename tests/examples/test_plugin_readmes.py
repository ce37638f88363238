"""The examples in the plugins' READMEs run and print what they show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
OUTPUT = re.compile(r"^(?:asyncio\.run\(main\(\)\)  | *print\(.*\)  )?# (.*)$", re.MULTILINE)


def blocks(name: str, language: str) -> list[str]:
    """Return the code blocks in that language of a plugin's README, but for the installation."""
    text = (PLUGINS / name / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [block for block in found if not block.startswith("python -m pip install ")]


def run(command: list[str], folder: Path, text: str) -> list[str]:
    """Run a command on that input and return the lines that it prints. It must succeed and print no error."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])
    block = "" if "import structlog" in text else "structlog"  # which would log other plugins' examples to stderr
    environment = {**os.environ, "PATH": path, "CANO_BLOCK": block}
    done = subprocess.run(command, cwd=folder, input=text, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["durability", "memory", "offload", "otel", "structlog", "zstd"])
def test_python(tmp_path: Path, name: str) -> None:
    """Each Python block prints what its comments say: those behind a `print`, and those that begin a line."""
    for number, block in enumerate(blocks(name, "python")):
        folder = tmp_path / str(number)
        folder.mkdir()
        expected = OUTPUT.findall(block)

        assert expected
        assert run([sys.executable, "-W", "error", "-"], folder, block) == expected


def test_encryption(tmp_path: Path) -> None:
    """The commands make a key, run a workflow and find no plain text in the store."""
    (block,) = blocks("encryption", "sh")
    first, *_, end = run(["sh", "-e"], tmp_path, block)
    assert (first, end) == ("{'note': 'for your eyes only'}", "not found in the store")


def test_sweeping(tmp_path: Path) -> None:
    """The sweep commands work on the store that the first block leaves."""
    (script,), (commands,) = blocks("offload", "python"), blocks("offload", "sh")
    run([sys.executable, "-"], tmp_path, script)
    first, second = run(["sh", "-e"], tmp_path, commands)
    assert first.endswith("1 referenced, 0 too recent, 0 to remove with --delete")
    assert second.endswith("1 referenced, 0 too recent, 0 removed")
