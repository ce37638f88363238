"""`cano top`: what is late, failed, running, parked or queued."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel, RunRecord, RunStatus, Wait, Workflow
from cano_cli.top import KINDS, MOST, Look, draw, look
from click.testing import Result
from rich.console import Console

Cano = Callable[..., Result]
NOW = 1_800_000_000.0


def record(run_id: str, status: RunStatus = RunStatus.FAILED, wait: Wait | None = None) -> RunRecord:
    """A stored run."""
    return RunRecord(
        run_id=run_id, workflow="a workflow", version="1", fingerprint="", state="THERE", seq=1, status=status,
        created=NOW - 60, updated=NOW - 60, data={}, wait=wait, error={"message": "a long story " * 20},
    )  # fmt: skip


def drawn(found: Look, width: int, height: int, problem: str = "") -> list[str]:
    """The lines on a terminal of that size."""
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    with console.capture() as captured:
        console.print(draw(found, width, height, problem))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def filled(cano: Cano, project: Path, store: str) -> None:
    """A store with a run of each kind that a command can leave, and one that has succeeded."""
    cano("run", "shop", "--run-id", "fine")
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "stopped")
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "failed")
    (project / "broken").unlink()
    cano("submit", "shop", "--id", "waits")


@pytest.mark.usefixtures("filled")
def test_once(cano: Cano) -> None:
    """Where there is no terminal, it is printed once: late runs first, no succeeded ones."""
    lines = cano("top").stdout.splitlines()
    found = json.loads(cano("top", "--json").stdout)

    assert lines[0].split("  ")[1] == "1 late, 1 failed, 0 running, 0 parked, 1 queued"
    assert [line.split()[:4] for line in lines[1:]] == [
        ["late", "stopped", "shop", "pay"], ["failed", "failed", "shop", "pay"], ["queued", "waits", "shop", "take"],
    ]  # fmt: skip
    assert {kind: [run["run_id"] for run in found[kind]] for kind in KINDS} == {
        "late": ["stopped"], "failed": ["failed"], "running": [], "parked": [], "queued": ["waits"],
    }  # fmt: skip
    assert cano("top", "--workflow", "none").stdout.endswith(
        "0 late, 0 failed, 0 running, 0 parked, 0 queued\nno such runs\n"
    )


async def test_waits_that_are_no_longer_shown_are_not_kept(tmp_path: Path) -> None:
    """A terminal that looks for days keeps the waits of the runs that it shows, and no others."""
    flow = Workflow("end", name="later").add_exit_state("end")
    waits: dict[tuple[str, int], Wait | None] = {}
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db") as kernel:
        for run_id in ("a", "b"):
            await kernel.submit(flow, {}, run_id=run_id, delay=3600)
        await look(kernel, None, waits)
        assert sorted(waits) == [("a", 0), ("b", 0)]
        await kernel.cancel("a")
        await look(kernel, None, waits)
        assert list(waits) == [("b", 0)]


def test_a_narrow_terminal() -> None:
    """Each run is one line, and of each kind some are shown, however many the others are."""
    many = [record(f"failed-{number}") for number in range(MOST)]
    parked = record("waits", RunStatus.PARKED, Wait(then="THERE", signal="go"))
    late = record("bad\x1b[31m\n", RunStatus.PARKED, Wait(then="THERE", until=NOW - 10))
    runs = {"late": [late], "failed": many, "running": [], "parked": [parked], "queued": []}
    found = Look(NOW, runs, frozenset({"failed"}))

    lines = drawn(found, 60, 12)

    assert len(lines) <= 12
    assert max(map(len, lines)) <= 60
    assert lines[0].endswith("1 late, 100+ failed, 0 running, 1 parked, 0 queued")
    kinds = [line.split()[0] for line in lines[3:-1]]
    assert kinds == ["late", *["failed"] * 6, "parked"]
    assert "\x1b" not in "".join(lines)
    assert all("minute ago" in line for line in lines[3:-1])
    assert drawn(found, 60, 12, "the store does not answer")[-1] == "the store does not answer"


@pytest.mark.usefixtures("store")
def test_a_terminal_sees_what_happens(cano: Cano, start: Callable[..., subprocess.Popen[str]]) -> None:
    """On a terminal it goes on, and shows a run that comes later, until Ctrl-C."""
    cano("run", "shop", "--run-id", "first")
    reader, writer = pty.openpty()
    process = start("top", "--interval", "0.1", stdin=writer, stdout=writer, stderr=writer)
    os.close(writer)
    shown = ""

    def read() -> bool:
        nonlocal shown
        try:
            shown += os.read(reader, 10_000).decode(errors="replace")
        except OSError:  # Linux: the process has ended
            return False
        return True

    try:
        while "no such runs" not in shown:
            assert read(), shown
        Path("broken").touch()
        cano("run", "shop", "--run-id", "later")
        while "later" not in shown:
            assert read(), shown
        process.send_signal(signal.SIGINT)
        while read():
            pass
        assert process.wait() == 0
    finally:
        os.close(reader)
    assert "Traceback" not in shown
