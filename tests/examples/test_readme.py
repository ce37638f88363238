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
    """`mypy --strict` has nothing to say about any block, also of plugins and docs; each is a module of its own."""
    pages = [
        README,
        *README.parent.glob("plugins/*/README.md"),
        README.parent / "kernel" / "README.md",
        *README.parent.glob("docs/*.md"),
    ]
    found = [code for page in pages for code in blocks("python", page)]
    for number, code in enumerate(found):
        (tmp_path / f"block_{number}.py").write_text(code, encoding="utf-8")
    files = map(str, tmp_path.glob("block_*.py"))
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path / 'cache'}", *files]

    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"no issues found in {len(found)} source files" in done.stdout


def console(command: str) -> list[tuple[str, str]]:
    """The commands of the console session that has this one, each with the output that is shown."""
    (session,) = (block for block in blocks("console") if command in block)
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE)


def test_quickstart_is_the_file(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is shown whole, is no longer than it is said to be, and prints what is shown; its run can be looked at.

    All plugins are installed and none is blocked.
    """
    monkeypatch.setenv("CANO_BLOCK", "")
    code = (root / "examples" / "quickstart.py").read_text(encoding="utf-8")
    (start, output), (show, nothing) = console("quickstart.py")

    assert blocks("python")[0] == code
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    for _ in range(2):  # the second time the stored result
        done = in_shell(start, root, tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
    done = in_shell(show, root, tmp_path)
    assert (done.returncode, nothing) == (0, "")
    assert "succeeded in state DONE after 2 steps" in done.stdout


def test_the_drawing_shows_every_room_and_every_plugin(root: Path) -> None:
    """The picture has the rooms of the kernel from the top down, and each plugin of the workspace."""
    (drawing,) = blocks("text")
    rooms = re.findall(r"^\| (\w+)/ ", drawing, re.MULTILINE)
    plugins = {path.parent.name for path in root.glob("plugins/*/pyproject.toml")}
    folders = {path.parent.name for path in root.glob("kernel/cano/*/__init__.py")}

    assert rooms == ["kernel", "plugins", "concurrency", "engine", "model", "runtime", "data"]
    assert folders - set(rooms) == {"testing"}
    assert plugins <= set(re.findall(r"\w+", "\n".join(line.split("| ")[-1] for line in drawing.splitlines())))


def test_demo_is_the_file(root: Path) -> None:
    """It is shown whole, and is no longer than it is said to be."""
    code = (root / "examples" / "order_payment.py").read_text(encoding="utf-8")
    _, *lines = [line for line in code.splitlines() if line.strip()]

    assert blocks("python")[1] == code
    assert len(lines) <= 20


def test_demo_is_killed_and_resumes(root: Path, tmp_path: Path) -> None:
    """The two commands below it do what is shown there; how far the first one gets depends on the machine."""
    (kill, _), (resume, shown) = console("kill -9")

    done = in_shell(f"{kill}\n{resume}", root, tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == shown.splitlines()[-1]
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
    assert done.stdout.splitlines() == ["work: State.WORK to State.DONE", "{'attempts': 4}"]
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
    """Folder, distribution and import of each member are as the table says, and one command installs all of them."""
    workspace = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["sources"]
    folders = []
    names = []
    for link, distribution, module, _ in table("Packages"):
        folder = re.sub(r"\[(.*)\]\(\1\)", r"\1", link)
        if distribution == "built in":
            assert (root / folder / "__init__.py").is_file()
            continue
        project = tomllib.loads((root / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        assert distribution == f"`{project['name']}`"
        assert (root / folder / module.strip("`") / "__init__.py").is_file()
        folders.append(folder)
        names.append(project["name"])

    install = max((block for block in blocks("sh") if "pip install" in block), key=len)
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
    assert set(re.findall(r"https?://([^/) ]+)", text)) == {
        "pluggy.readthedocs.io", "docs.temporal.io", "docs.dbos.dev", "docs.langchain.com",
    }  # fmt: skip
