"""A request waits for days without a process, and is decided and paid for once, even if processes are killed."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, Standstill
from cano.testing import VirtualClock

DAY = 86_400
ASKED = "may trip-7 cost 500.00 euros?"
PAYING = "paying 500.00 euros for trip-7"

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(root: Path, tmp_path: Path) -> Start:
    """Start the example without waiting for it."""

    def started(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(root / "examples" / "approval.py"), *arguments]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)

    return started


def kill_after(process: subprocess.Popen[str], line: str) -> list[str]:
    """Kill the process when it has printed that line. Return its other output."""
    assert process.stdout is not None
    with process:
        assert process.stdout.readline().rstrip() == line
        process.kill()
        return process.stdout.read().splitlines()


# the commands, in processes of their own


def test_a_request_is_approved(output_of: OutputOf, tmp_path: Path) -> None:
    """No process runs between the commands; a second decision is too late."""
    assert output_of("approval", "request", "trip-7") == [ASKED]
    assert output_of("approval", "request", "trip-7") == []
    first, *steps = output_of("approval", "status", "trip-7")
    assert first.startswith("trip-7: it waits for a signal: 'decision', for 3 days more, then DECIDE")
    assert steps == ["   0 running   ASK      cents: 50000, days: 3.0", "   1 parked    DECIDE   reminders: 0"]

    assert output_of("approval", "approve", "trip-7", "--by", "Ada") == [PAYING]
    assert output_of("approval", "reject", "trip-7") == ["too late: a decision was already made"]

    first, *steps = output_of("approval", "status", "trip-7")
    assert first == "trip-7: it has ended in success: in state DONE"
    assert steps[2:] == ["   2 running   PAY      decided by: Ada", "   3 succeeded DONE"]
    assert (tmp_path / "payments.txt").read_text() == "trip-7:3 50000\n"


def test_a_request_is_rejected(output_of: OutputOf, tmp_path: Path) -> None:
    """A rejected request is not paid."""
    assert output_of("approval", "request", "trip-7") == [ASKED]
    assert output_of("approval", "reject", "trip-7", "--by", "Bo") == []

    first, *steps = output_of("approval", "status", "trip-7")
    assert first == "trip-7: it has ended in success: in state REJECTED"
    assert steps[-1] == "   2 succeeded REJECTED decided by: Bo"
    assert not (tmp_path / "payments.txt").exists()


def test_a_small_sum_needs_nobody(output_of: OutputOf, tmp_path: Path) -> None:
    """A small request is paid at once."""
    assert output_of("approval", "request", "pen", "--cents", "199") == ["paying 1.99 euros for pen"]
    assert (tmp_path / "payments.txt").read_text() == "pen:2 199\n"


def test_time_passes_while_nothing_runs(output_of: OutputOf) -> None:
    """`work` does everything due: two reminders, and the expiry."""
    assert output_of("approval", "request", "trip-7", "--days", "1e-9") == [ASKED]
    assert output_of("approval", "status", "trip-7")[0].endswith("takes it over: next state REMIND")
    due = [line for _ in range(3) for line in output_of("approval", "work")]

    assert due == [f"reminder 1: {ASKED}", f"reminder 2: {ASKED}", "trip-7 has expired"]
    assert output_of("approval", "work") == []
    assert output_of("approval", "status", "trip-7")[0] == "trip-7: it has ended in success: in state EXPIRED"


def test_killed_when_it_asks(output_of: OutputOf, start: Start, tmp_path: Path) -> None:
    """Repeating the command resumes the run and asks at most once more."""
    kill_after(start("request", "trip-7"), ASKED)

    assert output_of("approval", "request", "trip-7") in ([], [ASKED])
    assert len(output_of("approval", "status", "trip-7")) == 3
    assert output_of("approval", "approve", "trip-7") == [PAYING]
    assert (tmp_path / "payments.txt").read_text() == "trip-7:3 50000\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a bank that does not answer is a named pipe here")
def test_killed_when_it_pays(output_of: OutputOf, start: Start, tmp_path: Path) -> None:
    """The decision survives a crash, and the request is paid for once."""
    bank = tmp_path / "payments.txt"
    os.mkfifo(bank)  # whoever opens it waits
    assert output_of("approval", "request", "trip-7") == [ASKED]
    assert kill_after(start("approve", "trip-7", "--by", "Ada"), PAYING) == []
    bank.unlink()

    assert output_of("approval", "reject", "trip-7") == [PAYING]  # a second decision does not count
    assert output_of("approval", "status", "trip-7")[0] == "trip-7: it has ended in success: in state DONE"
    assert bank.read_text() == "trip-7:3 50000\n"


def test_many_decide_at_once(output_of: OutputOf, start: Start, tmp_path: Path) -> None:
    """Of concurrent decisions one counts, and every process waits for its result."""
    assert output_of("approval", "request", "trip-7") == [ASKED]
    everybody = [start("approve" if number % 2 else "reject", "trip-7", "--by", str(number)) for number in range(4)]
    lines = [line for process in everybody for line in process.communicate(timeout=60)[0].splitlines()]

    assert [process.returncode for process in everybody] == [0] * 4
    first, *steps = output_of("approval", "status", "trip-7")
    approved = first.endswith("DONE")
    assert lines.count(PAYING) == approved
    assert (tmp_path / "payments.txt").exists() == approved
    assert sum("decided by" in step for step in steps) == 1


def test_an_unknown_request(run_example: RunPython) -> None:
    """An unknown request gives an error without a traceback."""
    done = run_example("approval", "approve", "trip-8")

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "the store has no run 'trip-8'\n")


# the days, in virtual time


@pytest.mark.parametrize(("day", "reminders"), [(2, 0), (4, 1), (8, 2)])
async def test_days_pass(root: Path, tmp_path: Path, day: int, reminders: int) -> None:
    """There is a reminder every three days, and the decision counts whenever it comes."""
    example: dict[str, Any] = runpy.run_path(str(root / "examples" / "approval.py"))
    clock = VirtualClock()
    async with Kernel(clock=clock) as kernel:
        data = {"cents": 12_345, "payments": str(tmp_path / "payments.txt")}
        handle = await kernel.start(example["flow"], data, run_id="trip-7")
        await clock.sleep(day * DAY)
        assert (await kernel.explain("trip-7")).reason is Standstill.WAITING_FOR_SIGNAL
        await kernel.signal("trip-7", "decision", (True, "Ada"))
        result = await handle.result()

    assert result.state.name == "DONE"
    assert (result.data["reminders"], result.data["decided by"]) == (reminders, "Ada")
    assert (tmp_path / "payments.txt").read_text().split()[1] == "12345"


async def test_it_expires_after_nine_days(root: Path) -> None:
    """The request expires after exactly nine days."""
    example: dict[str, Any] = runpy.run_path(str(root / "examples" / "approval.py"))
    clock = VirtualClock()
    async with Kernel(clock=clock) as kernel:
        began = clock.monotonic()
        result = await kernel.run(example["flow"], {"cents": 12_345})

    assert result.state.name == "EXPIRED"
    assert clock.monotonic() - began == pytest.approx(9 * DAY, abs=1)
