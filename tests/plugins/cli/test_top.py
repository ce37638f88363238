"""`cano top`: what is late, failed, running, parked or queued."""

from __future__ import annotations

import asyncio
import io
import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import Expect, Kernel, LateRun, RunRecord, RunStatus, RunView, Wait, Workflow, hookimpl, wait_for
from cano.testing import Faults, FaultyStore, VirtualClock
from cano_cli.top import KINDS, MOST, Known, Look, Version, draw, look
from cano_sqlite import SqliteBackend
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
    assert cano("top", "--where", "state = take").stdout.splitlines()[1].split()[:2] == ["queued", "waits"]
    refused = cano("top", "--where", "state = take and status = failed")
    assert (refused.exit_code, "leave the status out of --where" in refused.stderr) == (2, True)
    assert cano("top", "--workflow", "none").stdout.endswith(
        "0 late, 0 failed, 0 running, 0 parked, 0 queued\nno such runs\n"
    )


class Counting:
    """Counts what a kernel reads of single runs."""

    def __init__(self, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.read: list[str] = []
        get = kernel.get

        async def counted(run_id: str) -> RunView:
            self.read.append(run_id)
            return await get(run_id)

        monkeypatch.setattr(kernel, "get", counted)

    def since(self) -> list[str]:
        """The runs that were read since the last call."""
        read, self.read = sorted(self.read), []
        return read


async def test_only_what_is_shown_and_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look reads and keeps the runs that it shows, each of them once until it changes, and no others."""
    flow = Workflow("end", name="later").add_exit_state("end")
    known: dict[Version, Known] = {}
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db") as kernel:
        counting = Counting(kernel, monkeypatch)
        for run_id in ("a", "b", "c"):
            await kernel.submit(flow, {}, run_id=run_id, delay=3600)
        await look(kernel, rows=2, known=known)
        assert sorted(version[0] for version in known) == counting.since() == ["b", "c"]
        await look(kernel, rows=2, known=known)
        assert counting.since() == []
        await kernel.cancel("c")
        await look(kernel, rows=2, known=known)
        assert counting.since() == ["a"]
        assert sorted(version[0] for version in known) == ["a", "b"]


async def test_runs_that_were_reported_late(tmp_path: Path) -> None:
    """A run that takes longer than expected is late, whether it is executed, parked or queued; others are as before."""
    told: list[str] = []

    class Told:
        @hookimpl
        def cano_run_late(self, late: LateRun) -> bool:
            told.append(late.run_id)
            return True  # it is reported here

    async def work(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    async def ask(store: Any) -> str:
        return wait_for("paid", then="end", timeout=86_400, on_timeout="end")

    def flow(name: str, task: Any, **given: Any) -> Workflow[str]:
        return Workflow("go", name=name, **given).register("go", task).add_exit_state("end")

    late = {"expect": Expect(within=0.001), "attributes": {"tenant": str}}
    clock = VirtualClock(auto=False)
    store = FaultyStore(SqliteBackend(tmp_path / "runs.db"), Faults(clock))  # time stands still while it is busy
    async with Kernel(store=store, plugins=[Told()], clock=clock, grace=0) as kernel:
        flows = flow("works", work, **late), flow("asks", ask, **late)
        for each in (*flows, flow("works in time", work), flow("asks in time", ask)):
            await kernel.start(each, {"tenant": "acme"}, run_id=each.name)
        queued = flow("is queued", work, **late)
        await kernel.submit_many(queued, [{}, {}], run_id="waits")
        await kernel.recover(queued, concurrency=1)
        await clock.advance(15)  # half a lease: by then one of the workers has looked at the queued runs
        assert sorted(told) == ["asks", "waits-1", "waits-2", "works"]

        found = await look(kernel)
        assert {kind: sorted(run.run_id for run in runs) for kind, runs in found.runs.items()} == {
            "late": ["asks", "waits-1", "waits-2", "works"], "failed": [], "running": ["works in time"],
            "parked": ["asks in time"], "queued": [],
        }  # fmt: skip
        assert any("the run takes longer than the expected 0.001 s; held by" in row for row in drawn(found, 200, 20))
        assert (await look(kernel, where="tenant = acme")).late.keys() == {"works", "asks"}


def test_a_narrow_terminal() -> None:
    """Each run is one line, and of each kind some are shown, however many the others are."""
    many = [record(f"failed-{number}") for number in range(MOST)]
    parked = record("waits", RunStatus.PARKED, Wait(then="THERE", signal="go"))
    late = record("bad\x1b[31m\n", RunStatus.PARKED, Wait(then="THERE", until=NOW - 10))
    runs = {"late": [late], "failed": many, "running": [], "parked": [parked], "queued": []}
    found = Look(NOW, runs, frozenset({"failed"}), {})

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
