"""`cano events` and `cano stream`: what they show of a run, as text that is safe in a terminal, and as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, TaskConfig, Workflow, current_step
from click.testing import Result

Cano = Callable[..., Result]


class Again:
    """A retry strategy that tries once more, at once."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """No delay."""
        return 0.0 if attempt < 2 else None


async def tell(store: Any) -> str:
    """Emit, fail once, and emit again."""
    step = current_step()
    await step.emit("answer", "bad\x1b[31m", flush=True)
    if step.attempt == 1:
        emitter: Any = step.run.emitter
        await emitter.write()
        raise ValueError("again")
    step.emit("answer", {"n": 1})
    step.emit("log\n", 2)
    return "end"


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A store with a run that has ended."""
    url = f"sqlite:///{tmp_path}/runs.db"
    flow: Workflow[str] = Workflow("a", name="told").add_exit_state("end")
    flow.register("a", tell, config=TaskConfig(retry=Again()))

    async def work() -> None:
        async with Kernel(store=url) as kernel:
            await kernel.run(flow, {}, run_id="r")

    asyncio.run(work())
    return url


def test_a_stream_is_shown(cano: Cano, url: str) -> None:
    """Items have their offsets, escapes are shown, marks name what they supersede; without a channel it lists them."""
    lines = cano("stream", "r", "answer", "--store", url, "--follow").stdout.splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [
        ["1", r"bad\x1b[31m"], ["2", "superseded: 1"], ["3", r"bad\x1b[31m"], ["4", '{"n": 1}'],
    ]  # fmt: skip
    assert cano("stream", "r", "--store", url).stdout == "answer\nlog\\n\n"
    shown = cano("stream", "r", "answer", "--store", url, "--after", "1", "--json").stdout.splitlines()
    assert [json.loads(line) for line in shown] == [
        {"offset": 2, "superseded": [[1, 1]]}, {"offset": 3, "value": "bad\x1b[31m"}, {"offset": 4, "value": {"n": 1}},
    ]  # fmt: skip
    assert cano("stream", "missing", "x", "--store", url).exit_code == 2
    misspelt = cano("stream", "r", "answr", "--store", url)
    assert (misspelt.exit_code, misspelt.stdout) == (0, "")
    assert misspelt.stderr == "run r has emitted nothing to channel 'answr'; its channels are 'answer', 'log\\n'\n"
    assert cano("stream", "r", "answer", "--store", url, "--after", "9").stderr == ""


def test_events_are_shown(cano: Cano, url: str) -> None:
    """Each event has its position, time and kind; --after leaves out those before."""
    lines = cano("events", "r", "--store", url, "--follow").stdout.splitlines()
    assert [(line.split()[0], line.split()[-2].rstrip(","), line.split()[-1]) for line in lines[:1]] == [
        ("0", "transition", "a")
    ]
    assert [line.split()[0] for line in lines] == ["0", "2", "3"]
    assert lines[-1].endswith("end, succeeded")
    found = [
        json.loads(line)
        for line in cano("events", "r", "--store", url, "--after", "0", "--json").stdout.split("\n")
        if line
    ]
    assert [(each["kind"], each["position"], each["state"]) for each in found] == [
        ("transition", 2, "end"), ("end", 3, "end"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_streams_are_copied_with_their_run(
    cano: Cano, url: str, tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """`cano migrate-store` copies what the steps have emitted, through the layers of both stores."""
    other = f"sqlite:///{tmp_path}/other.db?codec=zstd"
    if kind == "redis":
        other = request.getfixturevalue("redis").new_url() + "&codec=zstd"
    shown = cano("stream", "r", "answer", "--store", url, "--json").stdout
    copied = cano("migrate-store", url, other)
    assert copied.exit_code == 0, copied.output
    assert cano("stream", "r", "answer", "--store", other, "--json").stdout == shown
    assert shown.count("\n") == 4
    assert cano("migrate-store", url, other).exit_code == 0
