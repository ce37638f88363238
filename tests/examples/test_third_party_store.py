"""A store that somebody else might have written: in a venv of its own, by its own tests, on public names alone."""

from __future__ import annotations

import ast
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cano
import cano.options
import cano.testing
import pytest
from cano.testing import DamageContract, DurableStoreBackendContract

from tests.acceptance.venvs import ROOT, Venv, build_wheel, checked

PROJECT = ROOT / "examples" / "third_party_store"
PUBLIC = {module.__name__: set(module.__all__) for module in (cano, cano.options, cano.testing)}
CONTRACTS = {"TestLmdb": DurableStoreBackendContract, "TestDamage": DamageContract}
CLAUSES = {(tests, name) for tests, contract in CONTRACTS.items() for name in dir(contract) if name.startswith("test_")}


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Venv:
    """A venv with the kernel, durability, the codec, the command, and the store; with pytest, and nothing else."""
    folder = tmp_path_factory.mktemp("third-party")
    plugins = [ROOT / "plugins" / name for name in ("durability", "msgspec", "cli")]
    projects = [ROOT / "kernel", *plugins, PROJECT]
    wheels = [build_wheel(project, folder / project.name) for project in projects]
    return Venv(folder / "venv", *wheels, "pytest")


def test_it_passes_its_own_tests(venv: Venv, tmp_path: Path) -> None:
    """Its own tests are green where it is installed; every clause of the contracts is among them."""
    shutil.copytree(PROJECT / "tests", tmp_path / "tests")
    options = ["-q", "-W", "error", "-p", "no:cacheprovider", "--junit-xml=report.xml"]
    checked(venv.python, "-m", "pytest", *options, "tests", cwd=tmp_path)

    (suite,) = ElementTree.parse(tmp_path / "report.xml").getroot()
    passed = [case for case in suite if len(case) == 0]  # a failed, skipped or broken one says why inside
    named = {((case.get("classname") or "").rpartition(".")[2], case.get("name")) for case in passed}

    assert len(passed) == len(suite)
    assert {(tests, name) for tests, name in named if tests in CONTRACTS} == CLAUSES
    assert len(CLAUSES) > 60


def test_it_imports_public_names_only() -> None:
    """Neither the store nor its tests take a name from Cano that is not public, or from one of its plugins."""
    sources = list(PROJECT.rglob("*.py"))
    for path in sources:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("cano")], path
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cano"):
                assert {alias.name for alias in node.names} <= PUBLIC[node.module or ""], f"{path}: {node.module}"
    assert len(sources) > 5


def test_its_page_is_true(venv: Venv, tmp_path: Path) -> None:
    """The program in its README runs, the command too, on the same run in the same file; `cano plugins` lists it."""
    page = (PROJECT / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (command,) = re.findall(r"^cano (run .*)$", page, re.MULTILINE)
    (tmp_path / "first.py").write_text(program, encoding="utf-8")
    (tmp_path / "greeting.py").write_text(program.partition("async def main")[0], encoding="utf-8")
    cano_command = venv.python.with_name("cano")

    assert checked(venv.python, "-W", "error", "first.py", cwd=tmp_path) == "hello Ada\n"
    assert (tmp_path / "runs.mdb").is_file()
    again = checked(cano_command, *command.split(), "--json", cwd=tmp_path)
    listed = checked(cano_command, "runs", "--store", "lmdb:///runs.mdb", cwd=tmp_path)
    plugins = checked(cano_command, "plugins", cwd=tmp_path)

    assert "hello Ada" in again
    assert listed.count("greet-ada") == 1
    (line,) = [line for line in plugins.splitlines() if "lmdb-for-cano" in line]
    assert "active" in line
    assert "cano_open_store, cano_stores" in line
    assert re.search(
        r"^lmdb: +yes +yes +no +yes +yes +no +no +no +no +no +no +no +no +no +no +no +no +no +no +no +no +no +no +no$",
        plugins,
        re.MULTILINE,
    )


def test_its_page_promises_what_it_declares(venv: Venv) -> None:
    """The table of promises in its README is what the store says of itself."""
    page = (PROJECT / "README.md").read_text(encoding="utf-8")
    table = {name: answer == "yes" for name, answer in re.findall(r"^\| `(\w+)` \| (yes|no) \|", page, re.MULTILINE)}
    program = "import json; from lmdb_runs.plugin import PROMISES; print(json.dumps(PROMISES._asdict()))"

    assert table == venv.json(program)
