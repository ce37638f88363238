"""What CONTRIBUTING.md says of the kernel's rooms is true, and the plugins that it shows work."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cano
import pytest

from tests.kernel.test_rooms import BUDGETS, CIRCLES, DURABILITY, EXCEPTIONS, HERE, lines_of_code

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def chapter(heading: str) -> str:
    """The text below a heading, up to the next one of its level."""
    level = heading.partition(" ")[0]
    text = TEXT.split(f"\n{heading}\n")[1]
    return re.split(rf"^{level} ", text, maxsplit=1, flags=re.MULTILINE)[0]


PLUGINS = re.findall(r"^```python\n(.*?)^```$", chapter("## Extend the engine"), re.DOTALL | re.MULTILINE)


def test_budgets_are_those_of_the_rooms() -> None:
    """The table has a row for each room, with the budget that is checked."""
    rows = re.findall(r"^\| (.*?) \| (.*?) \|", chapter("### The map"), re.MULTILINE)[1:]
    stated = {name.strip("`"): int(budget.replace(",", "")) for name, budget in rows if budget[0].isdigit()}
    names = ["", "data", "model", "engine", "runtime", "concurrency", "plugins", "kernel"]

    durability = ["`plugins/durability`", *(f"`plugins/durability`, `{name}`" for name in [*DURABILITY][1:])]
    assert [name for name, _ in rows][-1 - len(durability) :] == ["`testing`", *durability]
    assert list(stated.values()) == [*(BUDGETS[name] for name in names), *DURABILITY.values()]
    assert list(stated)[1 : -len(durability)] == names[1:]
    assert set(names) == set(BUDGETS)


def test_the_engine_is_told_in_six_files() -> None:
    """The files exist, and are about as long as is said."""
    names = re.findall(r"^\d\. `(.*?)`: ", chapter("### The engine in six files"), re.MULTILINE)
    (about,) = map(int, re.findall(r"about (\d+) lines", chapter("### The engine in six files")))

    assert len(names) == 6
    assert abs(sum(lines_of_code(HERE / name) for name in names) - about) < 50


def test_what_imports_must_not_do_is_told() -> None:
    """Each import that goes up is named, and the number of import circles is right."""
    text = chapter("### Imports")

    for above, below in EXCEPTIONS:
        assert f"`{above}`" in text
        assert f"`{below}`" in text
    assert {2: "Two", 3: "Three"}[len(EXCEPTIONS)] + " imports go up" in text
    assert {3: "Three", 4: "Four"}[len(CIRCLES)] + " import circles" in text


def test_the_members_of_the_ports_exist() -> None:
    """The tables name members of `Journal` and `RunKeeper`, all of the former."""
    from cano.engine import ports

    journal, keeper = (
        [name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)", cell)]
        for table in chapter("### Keep runs").split("A `RunKeeper` belongs")
    )
    members = {name for name in vars(ports.Journal) if not name.startswith("_")} | set(ports.Journal.__annotations__)

    assert set(journal) == members
    assert len(keeper) == 9
    assert set(keeper) <= set(vars(ports.RunKeeper))


@pytest.mark.parametrize("number", range(2))
def test_plugins_run_and_print_what_they_say(
    run_python: Callable[..., subprocess.CompletedProcess[str]], number: int
) -> None:
    """Each program stands alone; a comment behind a print is its output."""
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", PLUGINS[number], re.MULTILINE)
    done = run_python("-c", PLUGINS[number])

    assert (done.returncode, done.stderr) == (0, "")
    assert promised
    assert done.stdout.splitlines() == promised


def test_both_hooks_are_shown() -> None:
    """There is a program for each of the two hooks."""
    hooks = [re.findall(r"def (cano_\w+)", code) for code in PLUGINS]

    assert hooks == [["cano_bind_state"], ["cano_keep_runs"]]
    assert all(hasattr(cano.hookspecs, name) for (name,) in hooks)


@pytest.mark.parametrize("number", range(2))
def test_plugins_are_well_typed(tmp_path: Path, number: int) -> None:
    """`mypy --strict` finds no error."""
    file = tmp_path / "block.py"
    file.write_text(PLUGINS[number], encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", str(file)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)

    assert (done.returncode, done.stderr) == (0, ""), done.stdout
