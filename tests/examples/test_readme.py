"""What README.md says is true, and so is the store recipe in CONTRIBUTING.md."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import sysconfig
import textwrap
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

RunPython = Callable[..., subprocess.CompletedProcess[str]]

README = Path(__file__).parents[2] / "README.md"
CONTRIBUTING = README.with_name("CONTRIBUTING.md")


def blocks(language: str, page: Path = README) -> list[str]:
    """The code blocks in that language."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(code) for _, code in found]


def stored() -> str:
    """The block of commands about runs in a store: they follow one upon the other."""
    (block,) = (block for block in blocks("sh") if "CANO_STORE" in block)
    return block


def table(heading: str) -> list[list[str]]:
    """The rows of the table below a heading, without its header."""
    section = README.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_code_runs_and_prints_what_it_says(run_python: RunPython, tmp_path: Path, number: int) -> None:
    """Every block stands alone; a comment behind a print is its output; tests pass."""
    code = blocks("python")[number]
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.MULTILINE)

    if "\ndef test_" in code:
        (tmp_path / "test_block.py").write_text(code, encoding="utf-8")
        done = run_python("-m", "pytest", "-q", "-p", "no:asyncio", "test_block.py")
        assert f"{code.count('def test_')} passed" in done.stdout
    else:
        done = run_python("-c", code)

    assert (done.returncode, done.stderr) == (0, "")
    if promised:
        assert done.stdout.splitlines() == promised


def test_promises_are_found() -> None:
    """The test above has something to look at."""
    assert sum("  # " in line for code in blocks("python") for line in code.splitlines() if "print(" in line) >= 6


def test_code_is_well_typed(tmp_path: Path) -> None:
    """`mypy --strict` has nothing to say about any block; each is a module of its own."""
    for number, code in enumerate(blocks("python")):
        (tmp_path / f"block_{number}.py").write_text(code, encoding="utf-8")
    files = map(str, tmp_path.glob("block_*.py"))
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", *files]

    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"no issues found in {len(blocks('python'))} source files" in done.stdout


def test_quickstart_is_the_file(run_python: RunPython, root: Path) -> None:
    """It is shown whole, and prints what is said below it."""
    file = root / "examples" / "quickstart.py"
    done = run_python(file)

    assert blocks("python")[0] == file.read_text(encoding="utf-8")
    assert f"prints\n`{done.stdout.strip()}`" in README.read_text(encoding="utf-8")


def test_demo_is_the_file(root: Path) -> None:
    """It is shown whole, and is no longer than it is said to be."""
    code = (root / "examples" / "order_payment.py").read_text(encoding="utf-8")
    _, *lines = [line for line in code.splitlines() if line.strip()]

    assert blocks("python")[1] == code
    assert len(lines) <= 20


def test_demo_is_killed_and_goes_on(root: Path, tmp_path: Path) -> None:
    """The two commands below it do what is said there."""
    (block,) = (block for block in blocks("sh") if "kill -9" in block)

    done = in_shell(block, root, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "RunResult(run_id='order-17', state='DONE', data={'items': []}, steps=3)"
    payments = [line.split()[1] for line in (tmp_path / "payments.txt").read_text().splitlines()]
    assert payments == ["lamp", "chair", "vase"]


def in_shell(commands: str, root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs commands in a folder where the examples are, too."""
    if not (folder / "examples").exists():
        (folder / "examples").symlink_to(root / "examples")
    path = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        ["sh", "-e"], input=commands, cwd=folder, env={**os.environ, "PATH": path},
        capture_output=True, encoding="utf-8", timeout=100, check=False,
    )  # fmt: skip


def test_drawing_is_that_of_the_command(run_cano: RunPython) -> None:
    """The diagram is what `cano graph` draws today."""
    assert blocks("mermaid") == [run_cano("graph", "examples/order_processing.py:flow").stdout]


@pytest.mark.parametrize(
    "line",
    [line for block in blocks("sh") if block != stored() for line in block.splitlines() if line.startswith("cano ")],
)
def test_commands_work(run_cano: RunPython, line: str) -> None:
    """Each `cano` command does something, and succeeds."""
    command, *arguments = shlex.split(line, comments=True)
    done = run_cano(*arguments)

    assert command == "cano"
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_runs_in_a_store(root: Path, tmp_path: Path) -> None:
    """The commands work one after the other, and each one prints something."""
    lines = [line for line in stored().splitlines() if not line.startswith("echo ")]
    marked = stored().replace("\ncano ", "\necho '>'; cano ")

    done = in_shell(marked, root, tmp_path)

    assert done.returncode == 0, done.stderr
    parts = [part.strip() for part in done.stdout.split(">\n")]
    assert len(parts) == 1 + sum(line.startswith("cano ") for line in lines)
    assert all(parts[1:])
    assert "run trip-7 of expense succeeded in DONE" in done.stdout
    assert "ok: no problems found" in parts
    payments = [line.split()[0].split(":")[0] for line in (tmp_path / "payments.txt").read_text().splitlines()]
    assert payments == ["trip-7", "trip-8"]


def test_commands_exist(run_cano: RunPython) -> None:
    """Every command that is named is one."""
    known = re.findall(r"^  (\w[\w-]*) ", run_cano("--help").stdout.split("Commands:")[1], re.MULTILINE)
    named = re.findall(r"(?:^|`)cano (\w[\w-]*)", README.read_text(encoding="utf-8"), re.MULTILINE)

    assert set(named) <= set(known)
    assert len(set(named)) >= 14


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


def installed(site: Path, code: str, pyproject: str) -> Path:
    """A folder with a distribution whose one module, and whose one entry point, are these."""
    ((group, entries),) = tomllib.loads(pyproject)["project"]["entry-points"].items()
    ((name, module),) = entries.items()
    package, info = site / module.split(".")[0], site / "my_package-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / f"{module.split('.')[1]}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n", encoding="utf-8")
    return site


def test_plugin_is_found_by_its_entry_point(run_python: RunPython, tmp_path: Path) -> None:
    """The plugin works as an installed distribution, named as the README names it."""
    code = next(block for block in blocks("python") if "stubborn" in block)
    site = installed(tmp_path / "site", code, blocks("toml")[0])

    done = run_python("-c", USE_PLUGIN, path=site)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["work: WORK to DONE", "{'attempts': 4}"]
    lines = [line for line in code.splitlines() if line.strip()]
    assert len(lines) <= 15


def test_the_store_recipe_is_the_example(root: Path) -> None:
    """Each block of code in CONTRIBUTING.md's recipe stands in the example store, whose files it tells of."""
    recipe = CONTRIBUTING.read_text(encoding="utf-8").partition("## Write a store in an hour")[2]
    folder = root / "examples" / "third_party_store"
    files = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.*") if path.suffix in (".py", ".toml")}
    code = [
        textwrap.dedent(block) for block in re.findall(r"```(?:python|toml)\n(.*?)^ *```$", recipe, re.DOTALL | re.M)
    ]

    assert len(code) == 5
    for block in code:
        assert any(block in text or textwrap.indent(block, "    ") in text for text in files.values()), block
    for name in re.findall(r"`((?:lmdb_runs|tests)/\S+?)`", recipe):
        assert (folder / name).is_file(), name


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
    assert install.replace("\\\n", "").split()[4:] == [f"./{folder}" for folder in folders]


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
