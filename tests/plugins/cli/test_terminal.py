"""Texts from outside on the terminal: no command prints a sign that a terminal interprets, or a line that they make."""

from __future__ import annotations

import json
import math
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from cano_cli.times import iso, show_seconds, when
from click.testing import Result

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]

EVIL = "x\x1b]0;title\x07\x1b[2J\r\nFORGED: all is well\u202egpj\u2028FORGED\x9b1m\x7f"

FLOW = f"""
    import asyncio, signal

    from cano import TaskConfig, Workflow, task, wait_for

    EVIL = {EVIL!r}

    class EvilError(Exception):
        pass

    EvilError.__name__ = EVIL

    async def first(store):
        store[EVIL] = [EVIL]
        if "wait" in store:
            stops.append(1)
            if len(stops) == 1:
                signal.raise_signal(signal.SIGINT)
                await asyncio.Event().wait()
            return wait_for(EVIL, then="next" + EVIL)
        return "next" + EVIL

    async def second(store):
        if "ok" in store:
            return EVIL
        error = EvilError(EVIL)
        error.add_note(EVIL)
        raise error from ValueError(EVIL)

    stops = []
    first.__name__ = EVIL
    flow = Workflow("first", name=EVIL, version=EVIL, default_config=TaskConfig.minimal())
    flow.register("first", task(first)).register("next" + EVIL, task(second)).add_exit_state(EVIL)
"""

COMMANDS: list[list[str]] = [
    ["runs"],
    ["show", EVIL],
    ["show", EVIL, "--flow", "evil"],
    ["show", "waiting" + EVIL],
    ["top"],
    ["explain", EVIL],
    ["explain", "waiting" + EVIL],
    ["check"],
    ["check", "evil"],
    ["resume", "evil", EVIL],
    ["resume", "evil", EVIL, "--traceback"],
    ["run", "evil", "--run-id", EVIL],
    ["run", "evil", "--data", "ok=1"],
    ["run", "evil", "--run-id", "new" + EVIL],
    ["fork", EVIL, "1", "fork" + EVIL],
    ["fork", EVIL, "77", "fork" + EVIL],
    ["signal", "waiting" + EVIL, EVIL],
    ["signal", EVIL, EVIL],
    ["cancel", "waiting" + EVIL],
    ["cancel", EVIL],
    ["cancel", "none" + EVIL],
    ["show", "none" + EVIL],
    ["recover", "evil"],
    ["validate", "evil"],
    ["graph", "evil"],
    ["graph", "evil", "--format", "dot"],
    ["graph", "evil", "--format", "text"],
    ["migrate-store", "sqlite:///runs.db", "sqlite:///copy.db"],
    ["prune", "--delete-all-finished"],
]


@pytest.fixture
def evil(cano: Cano, store: str, write: Write) -> None:
    """A failed run and an interrupted one, in which everything that users and programs name is hostile."""
    write("evil.py", FLOW)
    cano("run", "evil", "--run-id", EVIL)
    cano("run", "evil", "--run-id", "waiting" + EVIL, "--data", "wait=1")


def unsafe(text: str) -> list[str]:
    """Return the signs that a terminal may interpret, and the lines that a text from outside has made."""
    signs = [sign for sign in text if not sign.isprintable() and sign != "\n"]
    return signs + re.findall("^ ?FORGED.*", text, re.MULTILINE)


@pytest.mark.usefixtures("evil")
def test_no_command_prints_what_a_terminal_interprets(cano: Cano) -> None:
    """Ids, names, keys, values, notes and errors are shown escaped, on stdout and stderr, by every command."""
    shown = {}
    for args in COMMANDS:
        result = cano(*args)
        shown[" ".join(args)] = unsafe(result.output)
        assert result.output

    assert {command: found for command, found in shown.items() if found} == {}


@pytest.mark.usefixtures("evil")
def test_json_is_exact_and_safe(cano: Cano) -> None:
    """In JSON the texts are complete, and escaped by JSON itself."""
    for args in (["runs", "--json"], ["show", EVIL, "--json"]):
        text = cano(*args).output
        assert not [sign for sign in text if not sign.isprintable() and sign not in "\n\x7f"]
        assert json.dumps(EVIL) in text


@pytest.mark.usefixtures("evil")
def test_raw(cano: Cano) -> None:
    """With --raw the texts are printed as they are; without a terminal, click still removes the colours."""
    for args in (["show", EVIL], ["runs"], ["explain", EVIL]):
        assert "FORGED: all is well\u202egpj" in cano("--raw", *args).output


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 1e20, -1e20, 253402387200.0, -62135683200.0])
def test_times_beyond_any_calendar(seconds: float) -> None:
    """A time that no calendar has is shown as a number."""
    assert "(not a date)" in when(seconds)
    assert iso(seconds) == repr(seconds)
    assert show_seconds(seconds)


def of(table: str, change: str) -> str:
    """Return a statement that changes the row of a run, or the newest entry of its journal."""
    where = {"runs": "run_id = ?", "definitions": "run = (SELECT id FROM runs WHERE run_id = ?)"}.get(
        table, "id = (SELECT head FROM runs WHERE run_id = ?)"
    )
    return f"UPDATE {table} SET {change} WHERE {where}"


ODD = {
    "future": of("runs", "created = 1e20, updated = 9e99"),
    "past": of("runs", "created = -1e300, updated = -9e99"),
    "workflow": of("definitions", "workflow = CAST(x'66ff6f' AS TEXT)"),
    "state": of("journal", "state = CAST(x'ff' AS TEXT)"),
    "entry": of("journal", "at = 1e308"),
    "holder": of("runs", "holder = CAST(x'fe' AS TEXT), expires = 1e300"),
    "error": of("journal", "extra = x'c1c1'"),
    "id": of("runs", "run_id = CAST(x'69ff64' AS TEXT)"),
}
LISTING = [["check"], ["recover", "shop"], ["runs", "--workflow", "shop"], ["prune", "--max-age", "1000000000"]]


def test_odd_rows_spoil_nothing(cano: Cano, store: str, project: Path) -> None:
    """Rows with impossible times, or text that is not UTF-8, are shown with their ids; the others are as before."""
    for run_id in ("whole", *ODD):
        cano("run", "shop", "--run-id", run_id)
    before = next(line for line in cano("runs").output.splitlines() if line.startswith("whole"))
    with closing(sqlite3.connect(project / "runs.db")) as connection, connection:
        for run_id, statement in ODD.items():
            assert connection.execute(statement, (run_id,)).rowcount == 1
    odd = {"i\\xffd" if run_id == "id" else run_id for run_id in ODD}

    listed = cano("runs")
    rows = {row["run_id"] for row in json.loads(cano("runs", "--json").output)}
    checked = cano("check").output

    assert listed.exit_code == 0
    assert " ".join(before.split()[:5]) in " ".join(listed.output.split())
    assert rows == {"whole", *odd}
    assert all(run_id in listed.output for run_id in odd)
    for run_id in odd:
        corrupt = run_id not in ("future", "past", "entry")
        assert bool(re.search(rf"corrupt +'?{re.escape(run_id)}", checked)) == corrupt
    for args in [*LISTING, *([command, run_id] for run_id in odd for command in ("show", "explain"))]:
        result = cano(*args)
        assert result.exit_code in (0, 1, 2), args
        assert unsafe(result.output) == []
    assert cano("show", "whole").exit_code == 0
    assert cano("prune", "--delete-all-finished").exit_code == 0
    assert "whole" not in cano("runs").output
