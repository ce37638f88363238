"""What README.md says is true."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

RunPython = Callable[..., subprocess.CompletedProcess[str]]

README = Path(__file__).parents[2] / "README.md"


def blocks(language: str) -> list[str]:
    """The code blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its header."""
    section = README.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_code_runs_and_prints_what_it_says(run_python: RunPython, number: int) -> None:
    """Every block stands alone; a comment behind a print is its output."""
    code = blocks("python")[number]
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)

    done = run_python("-c", code)

    assert (done.returncode, done.stderr) == (0, "")
    if promised:
        assert done.stdout.splitlines() == promised


def test_promises_are_found() -> None:
    """The test above has something to look at."""
    assert sum("  # " in line for code in blocks("python") for line in code.splitlines() if "print(" in line) >= 6


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_code_is_well_typed(tmp_path: Path, number: int) -> None:
    """`mypy --strict` has nothing to say about any block."""
    file = tmp_path / "block.py"
    file.write_text(blocks("python")[number], encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", str(file)]

    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_quickstart_is_the_file(run_python: RunPython, root: Path) -> None:
    """It is shown whole, and prints what is said below it."""
    file = root / "examples" / "quickstart.py"
    done = run_python(file)

    assert blocks("python")[0] == file.read_text(encoding="utf-8")
    assert f"prints\n`{done.stdout.strip()}`" in README.read_text(encoding="utf-8")


def test_drawing_is_that_of_the_command(run_cano: RunPython) -> None:
    """The diagram is what `cano graph` draws today."""
    assert blocks("mermaid") == [run_cano("graph", "examples/order_processing.py:flow").stdout]


@pytest.mark.parametrize("line", [line for block in blocks("sh") for line in block.splitlines() if "cano " in line])
def test_commands_work(run_cano: RunPython, line: str) -> None:
    """Each `cano` command does something, and succeeds."""
    command, *arguments = shlex.split(line, comments=True)
    done = run_cano(*arguments)

    assert command == "cano"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


USE_PLUGIN = """
import asyncio, enum, cano

class State(enum.Enum):
    WORK = 1
    DONE = 2

flow = cano.Workflow(State.WORK, name="work").add_exit_state(State.DONE)

@flow.on(State.WORK, config=cano.TaskConfig(retry="stubborn"))
async def work(store):
    if cano.current_step().attempt < 4:
        raise ConnectionError
    store["attempts"] = cano.current_step().attempt
    return State.DONE

async def main():
    async with cano.Kernel() as kernel:
        print((await kernel.run(flow)).data)

asyncio.run(main())
"""


def test_plugin_is_found_by_its_entry_point(run_python: RunPython, tmp_path: Path) -> None:
    """The plugin works as an installed distribution, named as the README names it."""
    code = next(block for block in blocks("python") if "stubborn" in block)
    (group, entries), *others = tomllib.loads(blocks("toml")[0])["project"]["entry-points"].items()
    (name, module), *more = entries.items()
    site = tmp_path / "site"
    package = site / module.split(".")[0]
    info = site / "my_package-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / f"{module.split('.')[1]}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n", encoding="utf-8")

    done = run_python("-c", USE_PLUGIN, path=site)

    assert (others, more) == ([], [])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["work: WORK to DONE", "{'attempts': 4}"]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15


def test_every_example_is_listed(root: Path) -> None:
    """The table has a row for each file, and no other."""
    commands = [row[0].strip("`").split() for row in table("Examples")]

    assert {"python"} == {command[0] for command in commands}
    assert sorted(command[1] for command in commands) == sorted(
        path.relative_to(root).as_posix() for path in root.glob("examples/*.py")
    )


def test_packages_are_those_of_the_workspace(root: Path) -> None:
    """Folder, distribution and import of each member are as the table says, and pip is given all of them."""
    workspace = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["sources"]
    folders = []
    names = []
    for link, distribution, module, _ in table("Packages"):
        folder = re.sub(r"\[(.*)\]\(\1\)", r"\1", link)
        project = tomllib.loads((root / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert distribution == f"`{project['name']}`"
        assert (root / folder / module.strip("`") / "__init__.py").is_file()
        folders.append(folder)
        names.append(project["name"])

    install = next(block for block in blocks("sh") if "pip install" in block)
    assert sorted(names) == sorted(workspace)
    assert install.split()[4:] == [f"./{folder}" for folder in folders]


def test_links_and_paths_lead_somewhere(root: Path) -> None:
    """Every relative link, every script and every example that is mentioned exists."""
    text = README.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    scripts = re.findall(r"^(?:sh|cano \w+) ([\w./]+\.(?:sh|py))", "\n".join(blocks("sh")), re.MULTILINE)

    assert len(links) >= 10
    assert len(scripts) >= 5
    assert [path for path in [*links, *scripts] if not (root / path).exists()] == []


def test_no_machine_and_no_index_is_named() -> None:
    """The page is the same for everybody."""
    text = README.read_text(encoding="utf-8")

    assert not re.search(r"/(home|root|tmp|Users|work)/", text)
    assert re.findall(r"https?://([^/) ]+)", text) == ["pluggy.readthedocs.io"]
