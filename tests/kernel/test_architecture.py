"""The workspace: one name in three spellings for each plugin, and tools that know of all of them."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import cano
import cano.lazy_names
import cano.options
import cano.redaction
import cano.safe_text
import cano.search_attributes
import cano.tracebacks
import pytest
import uv
from cano import Kernel
from cano.engine import ports
from cano_durability.journal import Journal
from cano_durability.keeper import Keeper

from tests.acceptance.venvs import checked
from tests.kernel.test_rooms import circles, imports

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
PUBLIC = {
    module.__name__: module.__all__
    for module in (
        cano,
        cano.lazy_names,
        cano.options,
        cano.redaction,
        cano.safe_text,
        cano.search_attributes,
        cano.tracebacks,
        ports,
    )
}
every_plugin = pytest.mark.parametrize("name", PLUGINS)


def project(folder: str) -> Any:
    """A member's pyproject.toml."""
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))


def sources(name: str) -> list[Path]:
    """A plugin's modules."""
    return sorted((ROOT / "plugins" / name / f"cano_{name}").rglob("*.py"))


def test_the_root_is_no_project() -> None:
    """The root holds members and tool settings only; otherwise `uv sync` would take the members out again."""
    assert "project" not in project(".")
    assert PLUGINS


@every_plugin
def test_one_name_in_three_spellings(name: str) -> None:
    """Folder `x`, distribution `cano-x`, package `cano_x` and an entry point `x` in the group `cano`."""
    member = project(f"plugins/{name}")

    assert member["project"]["name"] == f"cano-{name}"
    assert list(member["project"]["entry-points"]["cano"]) == [name]
    assert member["project"]["entry-points"]["cano"][name].startswith(f"cano_{name}")
    assert member["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [f"cano_{name}"]
    assert (ROOT / "plugins" / name / f"cano_{name}" / "py.typed").is_file()
    assert (ROOT / "plugins" / name / "README.md").is_file()


@every_plugin
def test_one_version_for_all(name: str) -> None:
    """All members are released together, and each plugin wants the kernel of its own version."""
    kernel, member = project("kernel")["project"], project(f"plugins/{name}")["project"]
    minor = ".".join(kernel["version"].split(".")[:2])

    assert member["version"] == kernel["version"]
    assert member["requires-python"] == kernel["requires-python"]
    wanted = [need for need in member["dependencies"] if need.startswith("cano")]
    assert f"cano~={minor}" in wanted
    assert all(need.endswith(f"~={minor}") for need in wanted)


def test_the_extras_name_every_plugin() -> None:
    """`cano[all]` installs every plugin: those of `cano[standard]`, and each of the others once."""
    extras = project("kernel")["project"]["optional-dependencies"]
    named = [need.partition("~=")[0] for need in [*extras["standard"], *extras["all"]]]

    assert sorted(named) == sorted(["cano[standard]", *(f"cano-{name}" for name in PLUGINS)])


@every_plugin
def test_the_tools_know_every_plugin(name: str) -> None:
    """A new plugin is in the workspace's sources, on mypy's path and in import-linter's contracts."""
    tools = project(".")["tool"]

    assert tools["uv"]["sources"][f"cano-{name}"] == {"workspace": True}
    assert f"plugins/{name}" in tools["mypy"]["mypy_path"]
    assert f"cano_{name}" in tools["importlinter"]["root_packages"]
    contracts = [contract for contract in tools["importlinter"]["contracts"] if contract["type"] != "layers"]
    assert len(contracts) == 2
    for contract in contracts:
        assert f"cano_{name}" in [*contract.get("forbidden_modules", ()), *contract.get("modules", ())]


@every_plugin
def test_plugins_use_public_names_only(name: str) -> None:
    """A plugin imports from the kernel what is public, or a port of the engine: a third party could have written it."""
    for path in sources(name):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not [alias.name for alias in node.names if alias.name.startswith("cano.")], path
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "cano":
                assert node.module in PUBLIC, f"{path}: from {node.module}"
                assert {alias.name for alias in node.names} <= set(PUBLIC[node.module]), path


@pytest.mark.parametrize(("kind", "port"), [(Kernel, ports.Host), (Keeper, ports.RunKeeper), (Journal, ports.Journal)])
def test_a_search_finds_the_methods_of_a_port(kind: type, port: type) -> None:
    """A class that implements a port defines each of its methods; none is assigned in `__init__`."""
    methods = {name for name, value in vars(port).items() if inspect.isfunction(value) and not name.startswith("_")}

    assert methods
    assert methods - vars(kind).keys() == set()


PLUGIN_CIRCLES = {
    # a journal commits through the records that made it
    "durability": [{"cano_durability.journal", "cano_durability.stored_runs"}],
}
"""The import cycles that stay in plugins, annotations included; each with its reason."""


@every_plugin
def test_there_is_no_new_circle_in_a_plugin(name: str) -> None:
    """Among a plugin's modules, too, no import cycle is added."""
    package = ROOT / "plugins" / name
    files = {".".join(path.relative_to(package).with_suffix("").parts): path for path in sources(name)}
    graph = {module: imports(path, {*files}) for module, path in files.items()}

    assert circles(graph) == PLUGIN_CIRCLES.get(name, [])


PIN = re.compile(r"([a-z][a-z0-9-]*)==[a-z0-9.]+( ; [^/\\]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n")


def pins() -> dict[str, str]:
    """The lines of each package in the constraints, by its name."""
    return {found[1]: found[0] for found in PIN.finditer((ROOT / "constraints.txt").read_text(encoding="utf-8"))}


def test_every_pin_is_exact_and_names_no_place() -> None:
    """The constraints pin one version each, with hashes, and hold nothing else: neither an address nor a path."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines(keepends=True)

    assert "".join(pins().values()) == "".join(line for line in lines if not line.startswith("#"))
    assert not any("cano" in name for name in pins())


def declared() -> set[str]:
    """The third-party distributions that members and developers need, as they say."""
    needed = [*project(".")["dependency-groups"]["dev"]]
    for folder in ["kernel", *(f"plugins/{name}" for name in PLUGINS)]:
        member = project(folder)["project"]
        needed += member.get("dependencies", [])
        needed += [need for extra in member.get("optional-dependencies", {}).values() for need in extra]
    names = {need.split(";")[0].split("[")[0].rstrip("<>=~!.,0123456789 ") for need in needed}
    return {name for name in names if not name.startswith("cano")}


def test_every_dependency_is_pinned() -> None:
    """What members and developers need is in the constraints."""
    assert declared() <= pins().keys()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "pattern", "becomes", "refusal"),
    [
        ("uv", "sha256:.{8}", "sha256:00000000", "do not match the hashes"),
        ("pluggy", "sha256:.{8}", "sha256:00000000", "hash mismatch"),
        ("pluggy", r"\s.*\n(    .*\n)*", "\n", "all requirements must have a hash"),
        ("editables", "(?s).+", "", "no trusted hash"),
    ],
)
def test_the_set_up_installs_only_files_with_known_hashes(
    tmp_path: Path, name: str, pattern: str, becomes: str, refusal: str
) -> None:
    """A file whose hash the constraints lack is refused: the installer, a dependency, what builds the members."""
    known, venv = pins(), tmp_path / ".venv"
    builders = ("editables", "hatchling", "packaging", "pathspec", "tomlkit", "trove-classifiers")
    kept = {each: known[each] for each in ("uv", "pluggy", *builders)}
    kept[name] = re.sub(pattern, becomes, kept[name])
    checked(sys.executable, "-m", "uv", "--quiet", "venv", "--seed", "--python", sys.executable, venv)
    if name != "uv":
        (venv / "bin" / "uv").symlink_to(uv.find_uv_bin())
        del kept["uv"]
    (tmp_path / "constraints.txt").write_text("".join(kept.values()), encoding="utf-8")
    for source in (ROOT / ".ci" / "setup.sh", *ROOT.glob("pyproject.toml"), *ROOT.glob("[kp]*/**/pyproject.toml")):
        (copy := tmp_path / source.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(source.read_bytes())

    done = subprocess.run(
        ["sh", str(tmp_path / ".ci" / "setup.sh")], env={**os.environ, "PYTHON": sys.executable}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip

    assert done.returncode != 0
    assert refusal in done.stderr.lower()
    assert name in done.stderr
    assert not (venv / "cano-stamp").exists()


@pytest.mark.parametrize("folder", ["tests", "examples", "plugins"])
def test_what_is_imported_is_declared(folder: str) -> None:
    """Nothing works only because it happens to be installed: what a module imports from outside is declared."""
    known, needed = packages_distributions(), declared()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tests", "lmdb_runs"}:
                if name != "cano" and not name.startswith("cano_"):
                    shipped_by = {each.replace("_", "-").lower() for each in known.get(name, ["nothing"])}
                    assert shipped_by & needed, f"{path} imports {name}"


def test_the_scripts_refuse_an_old_python(tmp_path: Path) -> None:
    """The set-up says what is wrong with an interpreter that is too old or missing, and what to do."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\ncase "$2" in *print*) echo 3.9 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)
    for python, problem in ((str(old), "is Python 3.9"), (str(tmp_path / "none"), "there is no")):
        done = subprocess.run(
            ["sh", str(ROOT / ".ci" / "setup.sh")],
            env={"PATH": "/usr/bin:/bin", "PYTHON": python},
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 2
        assert problem in done.stderr
        assert "install Python 3.11 or newer" in done.stderr


def test_the_scripts_are_plain_shell() -> None:
    """Every script can be read by a plain shell."""
    for script in (".ci/setup.sh", ".ci/servers.sh", "tests/run.sh", "examples/run.sh"):
        subprocess.run(["sh", "-n", str(ROOT / script)], check=True)
