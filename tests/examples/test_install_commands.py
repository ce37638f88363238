"""The commands that the documents show for an installation from a checkout install all that they need."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path for path in (*ROOT.glob("*.md"), *ROOT.glob("kernel/*.md"), *ROOT.glob("plugins/*/*.md"))
    if " install " in path.read_text(encoding="utf-8")
]  # fmt: skip


def project(folder: Path) -> Any:
    """The project table of a folder's pyproject.toml."""
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def commands(page: Path) -> list[list[str]]:
    """The folders that are installed after each install command of a page: its own, and those of earlier lines."""
    found: list[list[str]] = []
    for block in re.split(r"\n *\n|^```.*$", page.read_text(encoding="utf-8").replace("\\\n", " "), flags=re.MULTILINE):
        installed: list[str] = []
        for line in re.findall(r"(?:python -m |uv )pip install ([^`\n]*)", block):
            words = [word.partition("[")[0].removeprefix("./") for word in shlex.split(line, comments=True)]
            if folders := [word for word in words if word.partition("/")[0] in ("kernel", "plugins")]:
                installed = [*installed, *folders]
                found.append(installed)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_name_all_that_is_needed(page: Path) -> None:
    """What one named distribution needs of Cano is named as well: no package index has it."""
    for folders in commands(page):
        members = [project(ROOT / folder) for folder in folders]
        needed = {
            need.partition("~=")[0] for member in members for need in member["dependencies"] if need.startswith("cano")
        }

        assert needed <= {member["name"] for member in members}, f"{page}: {folders}"


def test_commands_are_found() -> None:
    """The test above sees commands of one line and of several, of pip and of uv, with and without extras."""
    found = {page.relative_to(ROOT).as_posix(): commands(page) for page in PAGES}

    assert ["kernel"] in found["README.md"]
    assert any(len(folders) > 10 for folders in found["README.md"])
    assert any("plugins/sqlite" in folders for folders in found["CONTRIBUTING.md"])
    assert found["plugins/otel/README.md"] == [["kernel", "plugins/otel"]]
    first, second = found["plugins/cli/README.md"]
    assert second[: len(first)] == first == ["kernel", "plugins/cli"]
