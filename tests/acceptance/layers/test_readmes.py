"""What the pages of the layers show works."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[3] / "plugins"


def blocks(name: str, language: str) -> list[str]:
    """The code blocks in that language on a plugin's page."""
    text = (PLUGINS / name / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path, text: str) -> list[str]:
    """What it prints."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=folder, input=text, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, re.sub(r"^\d.*\n", "", done.stderr, flags=re.MULTILINE)) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("name", ["zstd", "offload"])
def test_python(tmp_path: Path, name: str) -> None:
    """The block prints what the comments at its end say."""
    (block,) = blocks(name, "python")
    promised = re.findall(r"^(?:asyncio\.run\(main\(\)\)  )?# (.*)$", block, re.MULTILINE)
    assert promised
    assert run([sys.executable, "-"], tmp_path, block) == promised


def test_encryption(tmp_path: Path) -> None:
    """The commands make a key, run, and find nothing."""
    (block,) = blocks("encryption", "sh")
    first, *_, end = run(["sh", "-e"], tmp_path, block)
    assert (first, end) == ("{'note': 'nobody should read this'}", "not to be found")


def test_sweeping(tmp_path: Path) -> None:
    """The commands of the page work on what its first block has left."""
    (script,), (commands,) = blocks("offload", "python"), blocks("offload", "sh")
    run([sys.executable, "-"], tmp_path, script)
    first, second = run(["sh", "-e"], tmp_path, commands)
    assert first.endswith("1 referred to, 0 young, 0 to remove, with --delete")
    assert second.endswith("1 referred to, 0 young, 0 removed")
