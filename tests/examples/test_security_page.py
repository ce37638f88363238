"""What docs/security.md shows is true: its code prints what it says, and its commands do what is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.test_readme import RunPython, blocks, in_shell

PAGE = Path(__file__).parents[2] / "docs" / "security.md"


@pytest.fixture
def folder(run_python: RunPython, tmp_path: Path) -> Path:
    """A folder in which all code of the page was executed, in order, each block with a new store but the last."""
    for code in blocks("python", PAGE):
        (tmp_path / "orders.db").unlink(missing_ok=True)
        promised = re.findall(r"^ *(?:print\(.*\)  )?# (.*)$", code, re.MULTILINE)
        done = run_python("-c", code)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == promised
    return tmp_path


def test_code_and_commands(folder: Path, root: Path) -> None:
    """The commands find what the code above them has stored."""
    (session,) = blocks("console", PAGE)
    shown = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)

    assert len(shown) == 2
    for command, output in shown:
        done = in_shell(command, root, folder)
        assert (done.returncode, done.stdout, done.stderr) == (0, output, "")


def test_links_lead_somewhere(root: Path) -> None:
    """README.md links to the page, and each section has the attacker that it is about."""
    text = PAGE.read_text(encoding="utf-8")
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)

    assert "(docs/security.md)" in (root / "README.md").read_text(encoding="utf-8")
    assert [name for name in headings if " of " in name or "who" in name] == [
        "Reader of the disk", "Writer of the disk", "Reader of logs", "User who chooses ids", "User who signals",
        "Files of runs",
    ]  # fmt: skip
    assert [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link] == []
