"""Search attributes in commands: they are shown, found, counted, pruned by and forked by."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

FLOW = """
from cano import Workflow

flow = Workflow("A", name="bill", attributes={"tenant": str, "amount": int}).add_exit_state("B")


@flow.on("A")
async def a(store):
    store["amount"] = store["n"] * 10
    return "B"
"""


@pytest.mark.usefixtures("store")
def test_attributes_in_commands(cano: Callable[..., Result], project: Path) -> None:
    """They are shown, and runs are found, counted, forked and pruned by them; a misspelt name is refused."""
    (project / "bills.py").write_text(FLOW, encoding="utf-8")
    for number in range(4):
        tenant = ("acme", "zoo")[number % 2]
        cano("run", "bills", "--run-id", f"b{number}", "--data", f"tenant={tenant}", "--data", f"n={number}")
    assert json.loads(cano("show", "b2", "--json").stdout)["attributes"] == {"tenant": "acme", "amount": 20}
    assert "attribute tenant" in cano("show", "b2").stdout
    assert cano("runs", "--where", "tenant = acme and amount >= 10", "--count").stdout == "1\n"
    bounded = cano("runs", "--count", "--limit", "1")
    assert (bounded.stdout, bounded.stderr) == ("1\n", "there may be more runs; --limit ends the count\n")
    found = json.loads(cano("runs", "--where", "tenant in (zoo) and amount != 10", "--json").stdout)
    assert [run["run_id"] for run in found] == ["b3"]
    wrong = cano("runs", "--where", "tennant = acme")
    assert wrong.exit_code == 2
    assert "did you mean 'tenant'?" in wrong.stderr
    assert cano("fork", "--where", "tenant = zoo", "--suffix", ".0", "--at", "0").stdout == "2 runs forked\n"
    assert json.loads(cano("show", "b3.0", "--json").stdout)["attributes"] == {"tenant": "zoo"}
    pruned = cano("prune", "--delete-all-finished", "--where", "amount < 20", "--json")
    assert json.loads(pruned.stdout) == {"pruned": ["b1", "b0"]}
