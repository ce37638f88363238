"""`cano compat`: what it prints about runs that new code could not continue. tests/acceptance has the stores."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel
from cano_cli.loading import load_flow
from click.testing import Result

from tests.plugins.cli.conftest import SHOP

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]

NEW = SHOP.replace('name="shop"', 'name="shop", version="2"').replace('"ship"', '"send"')
NEW = NEW.replace("    flow = Workflow(", "    from shop import Order\n\n    flow = Workflow(")


@pytest.fixture
def newer(write: Callable[[str, str], Path]) -> str:
    """A second version of the shop's module, in which a state has another name."""
    write("newer.py", NEW)
    return "newer"


async def _park(run_id: str) -> None:
    """Start an order that waits for a signal."""
    async with Kernel(store="sqlite:///runs.db") as kernel:
        await kernel.start(load_flow("shop"), {"wait": 1}, run_id=run_id)
        await anext(event async for event in (await kernel.attach(run_id)).events() if event.kind == "wait")


def test_all_continue(cano: Cano) -> None:
    """The code that has begun the runs can continue them: exit code 0, also if there are none."""
    cano("run", "shop", "--run-id", "ended")
    assert cano("compat", "shop").stdout == "ok: this code can continue 0 unfinished runs\n"
    cano("submit", "shop", "--id", "r1")
    result = cano("compat", "shop")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "ok: this code can continue 1 unfinished run")


def test_runs_would_be_stranded(cano: Cano, newer: str, write: Callable[[str, str], Path]) -> None:
    """Exit code 1, with the counts, the difference and what to do; and with `migrate` all is well."""
    for number in range(4):
        cano("submit", "shop", "--id", f"r{number}")
    asyncio.run(_park("waits"))
    result = cano("compat", newer)
    assert (result.exit_code, result.stderr) == (1, "5 of 5 unfinished runs would be stranded\n")
    table, *problems = result.stdout.split("\n\n")
    assert [row.split() for row in table.splitlines()] == [
        ["workflow", "version", "definition", "state", "runs", "problem"],
        ["shop", "1", table.splitlines()[1].split()[2], "ship", "1", "changed"],
        ["shop", "1", table.splitlines()[1].split()[2], "take", "4", "changed"],
    ]
    assert problems[0].splitlines() == [
        "changed: workflow shop 1, state ship: waits",
        "  - its version was '1', this one is '2'",
        "  - it had: state ship does ship",
        "  - there is now: state send does ship",
        "  - the run is in state ship, which no longer exists",
        "  Finish it with the old program, or define Workflow(migrate={'ship': …}, migrate_from=['1']), which accepts "
        "all differences; or give this workflow another name, if the run belongs to another workflow",
    ]
    assert problems[1].splitlines()[0].startswith("changed: workflow shop 1, state take: r")
    assert problems[1].splitlines()[0].endswith(", …")

    migrated = NEW.replace('version="2"', 'version="2", migrate={"ship": "send"}, migrate_from=["1"]')
    write("migrating.py", migrated)
    result = cano("compat", "migrating")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (0, "ok: this code can continue 5 unfinished runs")


def test_json(cano: Cano, newer: str) -> None:
    """One object with the counts and the groups, for CI jobs."""
    cano("submit", "shop", "--id", "r1")
    result = cano("compat", newer, "--json")
    found = json.loads(result.stdout)
    (group,) = found.pop("groups")
    assert (result.exit_code, found) == (1, {"unfinished": 1, "stranded": 1})
    assert group.pop("fingerprint").startswith("start take; exit shipped; state pay does pay")
    assert "migrate_from=['1']" in group.pop("remedy")
    assert group == {
        "workflow": "shop", "version": "1", "state": "take", "runs": 1, "problem": "changed", "examples": ["r1"],
        "differences": [
            "its version was '1', this one is '2'", "it had: state ship does ship",
            "there is now: state send does ship",
        ],
    }  # fmt: skip


def test_other_workflows(cano: Cano) -> None:
    """A workflow that is not named is missing, unless only the given ones matter."""
    cano("submit", "shop", "--id", "r1")
    missing = cano("compat", "flows")
    assert missing.exit_code == 1
    assert "  - this program has no workflow 'shop'\n" in missing.stdout
    assert cano("compat", "flows", "--only-given").exit_code == 0
    assert cano("compat", "nowhere").exit_code == 2
