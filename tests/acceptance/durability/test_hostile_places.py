"""Promises 6 and 10, in every place that a row has: values of the engine's own, payloads, and each single column."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
from binascii import crc32
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, RunRecord, RunStatus, Signal, Wait
from msgspec.msgpack import Ext, encode

PROGRAM = Path(__file__).with_name("victim.py")
FINGERPRINT = "start OPEN; exit DONE; state OPEN does read"
NAMES = ["os:system", "builtins:eval", "__main__:Stranger", "subprocess:Popen", "this:s"]
OWN = ["outcome", "retry", "error", "definition", "branch 1 0:x"]
MUTANTS = 300


def written(body: Any, tagged: bool = False) -> bytes:
    """A value as the codec writes it, with the right checksum."""
    head, packed = 0x11 if tagged else 0x10, encode(body)
    return bytes([head]) + crc32(packed, head).to_bytes(4, "big") + packed


def forged(name: str) -> bytes:
    """A value that asks for a class that the program did not register."""
    return written([Ext(2, name.encode()), {"command": "true"}], tagged=True)


SHAPES: list[Any] = [
    None, True, -1, 3, 2**63, 1e308, float("inf"), float("nan"), "", "x", "9" * 5000, [], [[]], [1, 2], {}, {"a": 1},
    [[1, 2, 3, 4]], [[["0:x", "ok", None, None]], False], [[["0:x", "odd", None, None]], False], {"type": "__doc__"},
    {"type": "Kernel", "message": 7, "state": [1], "attempt": {}, "cause": [1]}, {"type": "JoinError"},
    [[], [], [], []],
]  # fmt: skip
"""Well-formed values, most of which make no sense where they stand."""


def record(run_id: str, **fields: Any) -> RunRecord:
    """A run that nobody drives."""
    given: dict[str, Any] = {
        "version": "1",
        "fingerprint": FINGERPRINT,
        "state": "OPEN",
        "created": 1.0,
        "updated": 1.0,
    }
    return RunRecord(run_id=run_id, workflow="victim", **given | fields)


async def fill(url: str) -> dict[str, str]:
    """Runs with something hostile in every place that holds a value; what must become of each, where that is known."""
    expected = {}
    async with Kernel(store=url) as kernel:
        store = kernel.backend
        assert store is not None

        async def create(run_id: str, outcome: str, **fields: Any) -> None:
            assert store is not None
            expected[run_id] = outcome
            await store.create(record(run_id, **fields))

        for name in NAMES:
            for place in OWN:
                await create(f"forged {place} {name}", "SerializationError", own={place: forged(name)})
            await create(f"forged payload {name}", "SerializationError", payload=forged(name))
            waiting = f"forged signal {name}"
            await create(waiting, "SerializationError", status=RunStatus.PARKED, wait=Wait(then="OPEN", signal="go"))
            await store.put_signal(waiting, Signal("1", "go", forged(name)))
        for number, shape in enumerate(SHAPES):
            for place in OWN:
                await create(f"shape {place} {number}", "", own={place: written(shape)})
        await create("parked without a wait", "SerializationError", status=RunStatus.PARKED)
        await create("wait for a state that is gone", "VersionMismatchError", state="GONE")
        late = Wait(then="OPEN", until=1.0, on_timeout="GONE")
        await create("time out into one", "VersionMismatchError", status=RunStatus.PARKED, wait=late)
        await create("good", "fine", data={"x": written(1)})
    return expected


def resumed(url: str) -> tuple[dict[str, str], dict[str, Any]]:
    """What became of each run when a program under an audit hook resumed them all; and its whole report."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), url], capture_output=True, text=True, check=False, timeout=100,
        env=os.environ | {"CANO_BLOCK": "structlog,otel"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    return report["outcomes"], report


def test_hostile_values_in_every_place(tmp_path: Path) -> None:
    """Wherever a forged value stands, its run is refused by name; what makes no sense stops its own run alone."""
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    expected = asyncio.run(fill(url))
    outcomes, report = resumed(url)

    assert (report["seen"], report["new"], report["built"]) == ([], [], [])
    assert outcomes.keys() == expected.keys()
    for run_id, outcome in outcomes.items():
        assert outcome.startswith(expected[run_id]), (run_id, outcome)
        assert outcome == "fine" or run_id in outcome, (run_id, outcome)
    nonsense = [outcome for run_id, outcome in outcomes.items() if run_id.startswith("shape outcome")]
    assert sum(outcome.startswith("SerializationError") for outcome in nonsense) > len(SHAPES) // 2


COLUMNS = {
    "runs": [
        "parent", "created", "updated", "status", "seq", "head", "folded", "tail", "token", "wake", "awaited",
        "awaits_engine", "outcome", "error", "cause",
    ],
    "definitions": ["workflow", "version", "fingerprint"],
    "journal": ["run", "prev", "seq", "state", "status", "at", "extra", "packed"],
}  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2])
def test_any_column_may_be_anything(tmp_path: Path, seed: int) -> None:
    """Whatever stands in a column of a run, that run goes on or is refused by name; the others go on."""
    url, path = f"sqlite:///{tmp_path}/runs.db?synchronous=normal", tmp_path / "runs.db"
    chance = random.Random(seed)

    async def make() -> None:
        async with Kernel(store=url) as kernel:
            assert kernel.backend is not None
            for number in range(MUTANTS):
                await kernel.backend.create(record(f"mutant-{number}", data={"x": written([1, "two"])}))
                await kernel.backend.create(record(f"good-{number}", data={"x": written(1)}))

    asyncio.run(make())
    junk: list[Any] = [
        None, 0, 1, -1, 7, 2**62, 0.5, -1e300, float("inf"), "", "x", "OPEN", "DONE", "running", "parked", "failed",
        "succeeded", "cancelled", "victim", b"", b"\0", b"\xff" * 40, encode([None, None, None]),
        encode([{"type": "x"}, None, None]), encode([None, ["OPEN", None, 1.0, None], None]), encode({}), "1", "é☃",
    ]  # fmt: skip
    mutated: dict[str, str] = {}
    with sqlite3.connect(path) as connection:
        for number in range(MUTANTS):
            table = chance.choice(["runs", "journal", "definitions"])
            column, value = chance.choice(COLUMNS[table]), chance.choice(junk)
            of = "run_id = ?" if table == "runs" else "run = (SELECT id FROM runs WHERE run_id = ?)"
            try:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {of}", (value, f"mutant-{number}"))
            except sqlite3.IntegrityError:
                continue  # the table itself refuses it
            mutated[f"mutant-{number}"] = f"{table}.{column} = {value!r}"
    connection.close()
    outcomes, report = resumed(url)

    assert (report["seen"], report["new"], report["built"]) == ([], [], [])
    for run_id, outcome in outcomes.items():
        assert outcome == "fine" or run_id in outcome, (mutated[run_id], outcome)
    assert {outcome for run_id, outcome in outcomes.items() if run_id.startswith("good")} == {"fine"}
    assert len(outcomes) == 2 * MUTANTS
