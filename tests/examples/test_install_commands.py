"""The commands that the documents show for an installation from a checkout install all that they need."""

from __future__ import annotations

import ast
import re
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.acceptance.venvs import ROOT, checked, run

PAGES = [
    path for pattern in ("*.md", "kernel/*.md", "plugins/*/*.md", "examples/**/*.md") for path in ROOT.glob(pattern)
    if " install " in path.read_text(encoding="utf-8")
]  # fmt: skip


PACKAGES = {
    "opentelemetry": "opentelemetry-sdk",
    "opentelemetry.sdk": "opentelemetry-sdk",
    "opentelemetry.proto": "opentelemetry-exporter-otlp-proto-http",
}
"""The packages of modules that have another name."""
UV: tuple[str | Path, ...] = (sys.executable, "-m", "uv", "--quiet")


class Command(NamedTuple):
    """The folders that an install command and the earlier lines of its block install.

    Attributes:
        tool: "uv", or "" for pip.
        folders: the folders, with the extras that are named.
    """

    tool: str
    folders: tuple[str, ...]


def project(folder: str) -> Any:
    """The project table of a folder's pyproject.toml."""
    path = ROOT / folder.partition("[")[0] / "pyproject.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["project"]


def commands(page: Path) -> list[Command]:
    """The commands of a page that install folders of the checkout."""
    found: list[Command] = []
    for block in re.split(r"\n *\n|^```.*$", page.read_text(encoding="utf-8").replace("\\\n", " "), flags=re.MULTILINE):
        installed: tuple[str, ...] = ()
        for tool, line in re.findall(r"(?:python -m |(uv) )pip install ([^`\n]*)", block):
            folders: list[str] = []
            for word in shlex.split(line, comments=True):
                pattern, bracket, extras = word.removeprefix("./").partition("[")
                if pattern.partition("/")[0] in ("kernel", "plugins", "examples"):
                    matching = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern))
                    folders += [path + bracket + extras for path in matching]
            if folders:
                installed = (*installed, *folders)
                found.append(Command(tool, installed))
    return found


EVERY = {command: page.relative_to(ROOT).as_posix() for page in PAGES for command in commands(page)}
every_command = pytest.mark.parametrize("command", EVERY, ids=lambda command: " ".join(command.folders)[:60])


@every_command
def test_commands_name_all_that_is_needed(command: Command) -> None:
    """What pip needs of Cano for the folders is named as well: no package index has it. uv finds it by itself."""
    members = {project(folder)["name"]: project(folder) for folder in command.folders}
    needed = {
        need.partition("~=")[0] for member in members.values() for need in member["dependencies"] if "cano" in need
    }

    assert needed <= members.keys(), EVERY[command]


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without any distribution."""
    path = tmp_path_factory.mktemp("empty")
    checked(*UV, "venv", "--python", sys.executable, path)
    return path


@every_command
def test_commands_can_be_carried_out(command: Command, empty: Path) -> None:
    """A resolver finds all that is needed, also for extras. uv may look for it in the checkout; pip does not."""
    install = [*UV, "pip", "install", "--dry-run", "--python", empty, "-c", ROOT / "constraints.txt"]
    install += ([] if command.tool else ["--no-sources"]) + [f"./{folder}" for folder in command.folders]
    if run(*install, "--offline", cwd=ROOT).returncode:
        checked(*install, cwd=ROOT)  # the cache knows nothing yet


def test_commands_are_found() -> None:
    """The tests above see commands of one line and of several, of pip and of uv, with and without extras."""
    found = {page.relative_to(ROOT).as_posix(): commands(page) for page in PAGES}

    assert Command("", ("kernel",)) in found["README.md"]
    assert any(len(command.folders) > 10 for command in found["README.md"])
    assert any("plugins/sqlite" in command.folders for command in found["CONTRIBUTING.md"])
    assert found["plugins/otel/README.md"] == [Command("", ("kernel", "plugins/otel[otlp]"))]
    first, second = found["plugins/cli/README.md"]
    assert first.folders == ("kernel", "plugins/cli")
    assert second.folders[:2] == first.folders
    assert "examples/third_party_store" in found["examples/third_party_store/README.md"][0].folders


@pytest.mark.parametrize("path", sorted(ROOT.glob("examples/*.py")), ids=lambda path: path.stem)
def test_examples_name_the_packages_that_they_need(path: Path) -> None:
    """What an example imports comes with Python or with Cano's plugins, or its docstring and the README name it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    folders = [file.parent.relative_to(ROOT).as_posix() for file in ROOT.glob("plugins/*/pyproject.toml")]
    needs = {re.split("[^a-z-]", need)[0] for folder in folders for need in project(folder)["dependencies"]}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in readme.splitlines() if line.startswith(f"| `python examples/{path.name}")]
    (everything,) = re.findall(r"^`python -m pip install (httpx .*)`\.$", readme, re.MULTILINE)

    packages = {PACKAGES.get(".".join(name.split(".")[:2]), name.partition(".")[0]) for name in names}
    more = {name for name in packages - sys.stdlib_module_names - needs if not name.startswith("cano")}
    said = re.findall(r"pip install (.*)", ast.get_docstring(tree) or "")

    assert (set(" ".join(said).split()), set(row.partition("; needs `")[2].rstrip("` |").split())) == (more, more)
    assert more <= set(everything.split())


def test_the_extras_of_the_kernel() -> None:
    """The kernel's README shows what to install in place of the extras: the same plugins."""
    kernel = project("kernel")
    standard = [need.partition("~=")[0] for need in kernel["optional-dependencies"]["standard"]]
    plugins = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
    alone, instead_of_standard, instead_of_all, with_uv = commands(ROOT / "kernel" / "README.md")

    assert alone == Command("", ("kernel",))
    assert {project(folder)["name"] for folder in instead_of_standard.folders} == {"cano", *standard}
    assert instead_of_all == Command("", ("kernel", *(f"plugins/{name}" for name in plugins)))
    assert with_uv == Command("uv", ("kernel[all]",))
