"""`cano schedule`, as a user runs it: in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Kernel
from cano_scheduler import Scheduler
from cano_scheduler.cli.formatting import next_lines, table

from tests.plugins.scheduler.conftest import Diary

pytestmark = pytest.mark.slow

COMMAND = shutil.which("cano", path=sysconfig.get_path("scripts"))
PLUGINS = "['cli', 'memory', 'msgspec', 'scheduler', 'sqlite']"
MODULE = f"""
from cano import Kernel, Workflow
from cano_scheduler import Scheduler

flow = Workflow("work", name="report").add_exit_state("done")

@flow.on("work")
async def work(store):
    if store.get("fail", default=False):
        raise ValueError("as it was told to")
    return "done"

def on(store):
    scheduler = Scheduler(Kernel(store=store, discover=False, plugins={PLUGINS}))
    scheduler.cron("nightly", flow, "30 2 * * *", tz="America/New_York", data={{"fail": False}})
    return scheduler.every("often", flow, 3600).on("event", flow, "paid")

def durable():
    return on("sqlite:///jobs.db")

volatile = on("memory://")
number = 3
def broken():
    raise RuntimeError("broken")
"""

Cano = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the module `jobs`."""
    (tmp_path / "jobs.py").write_text(MODULE)
    return tmp_path


@pytest.fixture
def cano(folder: Path) -> Cano:
    """Runs `cano schedule` on its arguments, in that folder."""

    def run(*arguments: str, target: str | None = "jobs:durable") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({} if target is None else {"CANO_SCHEDULER": target})}
        command = [str(COMMAND), "schedule", *arguments]
        return subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


def test_the_next_times_are_shown_with_the_days_of_change(cano: Cano) -> None:
    """In the zone that was asked for."""
    done = cano("next", "nightly", "-n", "400", "--tz", "America/New_York")
    assert (done.returncode, done.stderr) == (0, "the schedule: cron 30 2 * * * America/New_York\n")
    marked = [line for line in done.stdout.splitlines() if "DST" in line]
    assert len(done.stdout.splitlines()) == 400
    assert {"03:00:00-04:00" in line and "forward 1:00:00" in line for line in marked} == {True, False}
    assert {"02:30:00-05:00" in line and "back 1:00:00" in line for line in marked} == {True, False}


def test_trigger_runs_and_waits(cano: Cano) -> None:
    """The data cover those of the schedule; a failure is told, with its cause."""
    done = cano("trigger", "nightly")
    assert (done.returncode, done.stdout.split(": ")[1]) == (0, "done\n")
    failed = cano("trigger", "nightly", "--data", '{"fail": true}')
    assert failed.returncode == 1
    assert "as it was told to" in failed.stderr
    assert cano("trigger", "nightly", "--data", "{").returncode == 2
    assert cano("trigger", "nightly", "--data", "[1]").returncode == 2
    row = next(line for line in cano("list").stdout.splitlines() if line.startswith("nightly"))
    assert row.split()[1:5] == ["idle", "2", "1", "0"]
    assert "ago" in row
    assert row.endswith("cron 30 2 * * * America/New_York  report")


def test_no_text_steers_the_terminal(cano: Cano) -> None:
    """What a user or a task names is shown escaped, in one line each."""
    evil = "x\x1b[2J\nFORGED\u202e"
    for done in (cano("trigger", evil), cano("trigger", "nightly", "--data", '{"fail": true}', target=f"jobs:{evil}")):
        assert done.returncode == 2
        assert all(sign.isprintable() or sign == "\n" for sign in done.stdout + done.stderr)
        assert not [line for line in done.stderr.splitlines() if line.startswith("FORGED")]


async def test_an_id_can_be_pasted(kernel: Kernel, diary: Diary) -> None:
    """An id with a space is quoted in the list, so that other commands take it as it is shown."""
    scheduler = Scheduler(kernel).manual("every night", diary.flow()).manual("often", diary.flow())

    _, first, second = table(await scheduler.list()).splitlines()

    assert first.startswith("'every night'  ")
    assert second.startswith("often  ")


def test_pause_and_resume_reach_other_processes(cano: Cano) -> None:
    """Through the store; without a durable one there is nothing to reach."""
    assert cano("pause", "nightly").stdout == "nightly: paused\n"
    paused = next(row for row in json.loads(cano("list", "--json").stdout) if row["id"] == "nightly")
    assert (paused["state"], paused["next"], paused["next_nominal"]) == ("paused", None, None)
    assert "cano schedule resume nightly" in cano("next", "nightly", "-n", "1").stderr
    assert cano("resume", "nightly").stdout == "nightly: resumed\n"
    assert "paused" not in cano("list").stdout
    refused = cano("pause", "nightly", target="jobs:volatile")
    assert (refused.returncode, "not durable" in refused.stderr) == (2, True)


def test_emit_and_history(cano: Cano) -> None:
    """An event runs the schedules that wait for it, once for each id; the history says what became of each."""
    sent = json.loads(cano("emit", "paid", "--data", '{"fail": false}', "--id", "e1", "--json").stdout)
    assert [run["status"] for run in sent["runs"]] == ["succeeded"]
    again = cano("emit", "paid", "--id", "e1")
    assert (again.stdout, again.stderr) == ("0 runs started by event 'paid', 0 failed\n", "")
    nobody = cano("emit", "payed")
    assert (nobody.returncode, nobody.stdout) == (0, "0 runs started by event 'payed', 0 failed\n")
    assert nobody.stderr == "Note: no schedule waits for event 'payed'; known events: 'paid'\n"
    failed = cano("emit", "paid", "--data", '{"fail": true}')
    run, summary = failed.stdout.splitlines()
    assert (failed.returncode, summary) == (1, "1 run started by event 'paid', 1 failed")
    assert ": failed: task 'work' failed" in run
    assert run.endswith("ValueError: as it was told to")
    failure = json.loads(cano("emit", "paid", "--data", '{"fail": true}', "--json").stdout)["runs"][0]
    assert failure["error"].endswith("ValueError: as it was told to")
    assert cano("emit", "paid", "--data", "{").returncode == 2

    ticks = json.loads(cano("history", "event", "--json").stdout)
    assert [(tick["kind"], tick["outcome"], tick["nominal"]) for tick in ticks] == [("event", "fired", None)] * 3
    assert ticks[0]["run_id"] == sent["runs"][0]["run_id"]
    newest = cano("history", "event", "--limit", "1")
    assert (len(newest.stdout.splitlines()), "2 older" in newest.stderr) == (2, True)
    assert cano("history", "nightly").stdout == "no time, event or trigger yet\n"


@pytest.mark.parametrize(
    "arguments",
    [["next", "often", "-n", "0"], ["history", "often", "--limit", "-1"],
     ["backfill", "often", "2026-03-07", "2026-03-08", "--limit", "0"], ["run", "jobs:durable", "--grace", "-1"]],
)  # fmt: skip
def test_wrong_counts(cano: Cano, arguments: list[str]) -> None:
    """Counts and durations below the least are refused by the names of their options."""
    refused = cano(*arguments)
    assert (refused.returncode, f"Invalid value for '{arguments[-2]}'" in refused.stderr) == (2, True)


def test_backfill_runs_the_past(cano: Cano) -> None:
    """Each time once, also when it is asked for twice; across the change of the clocks on 8 March."""
    done = cano("backfill", "nightly", "2026-03-07", "2026-03-10")
    assert done.stdout.splitlines() == [
        "nightly@2026-03-07T07:30:00Z: succeeded",
        "nightly@2026-03-08T07:00:00Z: succeeded",
        "nightly@2026-03-09T06:30:00Z: succeeded",
        "3 runs from 2026-03-07 00:00:00+00:00 to 2026-03-10 00:00:00+00:00, 0 failed",
    ]
    again = cano("backfill", "nightly", "2026-03-07", "2026-03-10")
    assert again.stdout.startswith("0 runs ")
    assert cano("backfill", "nightly", "yesterday", "2026-03-10").returncode == 2


@pytest.mark.parametrize(
    ("number", "target", "variable"),
    [(signal.SIGTERM, ["jobs.py:durable"], "jobs:broken"), (signal.SIGINT, [], "jobs:durable")],
)
def test_run_stops_on_a_signal(folder: Path, number: signal.Signals, target: list[str], variable: str) -> None:
    """It shows the schedules, fires, and ends well. The argument comes before the variable, which is enough."""
    with subprocess.Popen(
        [str(COMMAND), "schedule", "run", *target],
        cwd=folder,
        env={**os.environ, "CANO_SCHEDULER": variable},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith("Running"):
                process.send_signal(number)
        assert process.stderr is not None
        assert (process.wait(60), process.stderr.read()) == (0, "")
    assert said[1].startswith("nightly")
    assert said[-1] == "Stopping: 10 s for active runs to end.\n"


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (None, "Missing option"),
        ("nothing:x", "cannot be imported"),
        ("nothing.py:x", "does not exist"),
        ("jobs:nothing", "there is no 'nothing' in 'jobs'"),
        ("jobs:number", "is of type int; expected a Scheduler"),
        ("jobs:broken", "RuntimeError: broken"),
        ("no module:x", "is not a module name"),
    ],
)
def test_a_wrong_target_is_told(cano: Cano, target: str | None, why: str) -> None:
    """In one line, with exit code 2."""
    done = cano("list", target=target)
    assert done.returncode == 2
    assert why in done.stderr
    assert "Traceback" not in done.stderr


def test_the_only_scheduler_of_a_module_needs_no_name(cano: Cano) -> None:
    """`jobs` is enough."""
    assert "nightly" in cano("list", target="jobs").stdout
    assert "there is no schedule 'x'" in cano("next", "x").stderr
    assert cano("next", "nightly", "--tz", "Mars").returncode == 2


def test_no_times_are_no_lines() -> None:
    """A manual schedule has none."""
    from datetime import UTC

    assert list(next_lines([], UTC)) == []
