"""Promises 6 and 10: hostile rows import, build and call nothing; each is a clear error; other runs go on."""

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

from cano import Kernel, RunRecord
from msgspec.msgpack import Ext, encode

PROGRAM = Path(__file__).with_name("victim.py")
FORGED = 500
FLIPPED = 500
GOOD = 50
NAMES = [
    "os:system",
    "builtins:eval",
    "__main__:Stranger",
    "victim:Stranger",
    "subprocess:Popen",
    "this:s",
    "json:loads",
]


def forged(chance: random.Random) -> bytes:
    """A well-formed value, with the right checksum, that asks for a class that the program did not register."""
    tag = Ext(2, chance.choice(NAMES).encode())
    body = encode(chance.choice([[tag], [tag, {}], [tag, {"command": "true"}], [[tag, ["x"]]], {"deep": [tag, "1+1"]}]))
    return bytes([0x11]) + crc32(body, 0x11).to_bytes(4, "big") + body


async def fill(url: str, chance: random.Random) -> None:
    """Runs with forged values, and good ones, all of them interrupted before their first step."""
    async with Kernel(store=url) as kernel:
        assert kernel.backend is not None
        assert kernel.codec is not None
        fingerprint = "start OPEN; exit DONE; state OPEN does read"
        good = {"text": kernel.codec.encode("fine"), "list": kernel.codec.encode([1, (2, 3), {4}])}
        for number in range(FORGED + FLIPPED + GOOD):
            kind = "forged" if number < FORGED else "flipped" if number < FORGED + FLIPPED else "good"
            data: dict[str, Any] = good | ({"bad": forged(chance)} if kind == "forged" else {})
            await kernel.backend.create(
                RunRecord(
                    run_id=f"{kind}-{number}", workflow="victim", version="1", fingerprint=fingerprint, state="OPEN",
                    data=data, created=1.0 + number, updated=1.0,
                )
            )  # fmt: skip


def flip(path: Path, chance: random.Random) -> None:
    """Change one byte of the journal lines of some runs."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT journal.id, packed FROM journal JOIN runs ON runs.id = journal.run WHERE run_id LIKE 'flipped-%'"
        ).fetchall()
        assert len(rows) == FLIPPED
        for line, changes in rows:
            spoilt = bytearray(changes)
            spoilt[chance.randrange(len(spoilt))] ^= 1 << chance.randrange(8)
            connection.execute("UPDATE journal SET packed = ? WHERE id = ?", (bytes(spoilt), line))
    connection.close()


def test_hostile_rows(tmp_path: Path) -> None:
    """Of 1,000 spoilt rows none is run from, none imports or builds anything, and each error names its run."""
    chance = random.Random(1)
    url, path = f"sqlite:///{tmp_path / 'runs.db'}", tmp_path / "runs.db"
    asyncio.run(fill(url, chance))
    flip(path, chance)

    done = subprocess.run(
        [sys.executable, str(PROGRAM), url],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"CANO_BLOCK": "structlog,otel"},
    )
    report = json.loads(done.stdout)
    outcomes: dict[str, str] = report["outcomes"]

    assert (report["seen"], report["new"], report["built"]) == ([], [], [])
    assert len(outcomes) == FORGED + FLIPPED + GOOD
    for name, outcome in outcomes.items():
        if name.startswith("forged"):
            assert outcome.startswith("SerializationError")
            assert name in outcome
        elif name.startswith("flipped") and outcome != "fine":
            # a flipped key is another key, and a good value; a flipped value is caught by its checksum
            assert outcome.startswith("SerializationError")
            assert name in outcome
    assert [outcome for name, outcome in outcomes.items() if name.startswith("good")] == ["fine"] * GOOD
    assert sum(outcome.startswith("SerializationError") for outcome in outcomes.values()) > FORGED + FLIPPED * 3 // 4
