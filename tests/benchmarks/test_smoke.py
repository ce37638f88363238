"""The benchmarks run and print every line. What they measure is not looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

WORK = [
    "a no-op step, no observer",
    "a no-op step, the default retry config",
    "1 listener, each",
    "2 listeners, each",
    "3 listeners, each",
    "an attempt timeout",
    "the hand-written loop itself, a step",
    "a no-op step with str states",
    "a no-op step with int states",
    "a chain of 1,000 no-op steps, by kernel.run",
    "get and put of one key, atomically",
    "a run of three no-op steps, by kernel.run",
    "a step that fails twice, retried without a delay",
    "a step: peek at a list of 10,000 numbers",
    "a step: get a tuple of 10,000 numbers",
    "a step: get a list of 10,000 numbers",
    "20 concurrent three-step runs",
    "the same with cano-memory and cano-retry",
    "memory of a run in flight",
    "memory of a run in flight, beyond",
    "a batch of 20 three-step runs",
    "the same, 100 at a time, from an iterator",
    "memory of a run of a batch in flight",
    "100 branches that do nothing, per branch",
    "100 branches that wait once, per branch",
    "100 branches that append to one list, per branch",
    "100 branches that are sub-workflows, per branch",
    "an attempt and a total timeout",
    "a timeout of the run",
    "import cano",
    "from cano import Kernel, asyncio with it",
    "import asyncio, by itself",
    "cano --help",
    "cano run, a step that does nothing",
]


def printed_by(*command: str) -> str:
    """Run a module with its options, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_every_line_is_printed() -> None:
    """One command prints, for each kind of work, what was measured, and the goal where there is one."""
    printed = printed_by("tests.benchmarks", "--steps", "30", "--runs", "20", "--rounds", "1")
    head, columns, rule, *lines = printed.splitlines()

    assert head.startswith("Python 3.")
    assert columns.split() == ["work", "against", "measured", "goal", "met"]
    assert set(rule) == {"-", " "}
    assert [re.split(r"\s{2,}", line)[0] for line in lines] == WORK
    number = re.compile(r"\s-?[\d,]+(\.\d+)? (x|µs|bytes|ms)(\s|$)")
    assert [line for line in lines if not number.search(line)] == []
    assert sum("≤" in line for line in lines) == 22
    assert [line for line in lines if ("≤" in line) != line.endswith(("yes", "NO"))] == []


def test_the_stores_are_measured() -> None:
    """One command measures each durable store beside its driver, at one run and at a hundred."""
    printed = printed_by("tests.benchmarks.stores", "--rounds", "1")
    goals = [line for line in printed.splitlines() if "goal" in line]

    assert [line.partition(":")[0] for line in goals] == ["one run", "100 runs"] * 4


def test_an_idle_worker_is_measured() -> None:
    """One command prints what finished and parked runs cost a worker that has nothing to do."""
    printed = printed_by("tests.benchmarks.idle", "--runs", "50", "--parked", "30", "--seconds", "0.05")

    file, worker, command, parked = printed.splitlines()
    assert re.fullmatch(r"50 finished runs: [\d.]+ MB, [\d,]+ bytes a run", file)
    assert re.fullmatch(r"an idle worker: [\d.]+ % of a core", worker)
    assert re.fullmatch(r"`cano runs`: \d+ ms of processor time", command)
    assert re.fullmatch(r"a parked run in the process that parked it: \d+ bytes", parked)


def test_growth_is_measured() -> None:
    """One command measures the same polls and lists in stores of several sizes."""
    options = ["--sizes", "2,3", "--rounds", "1", "--stores", "sqlite,memory"]
    printed = printed_by("tests.benchmarks.growth", *options)
    tables = printed.strip().split("\n\n")

    assert [table.split()[:3] for table in tables] == [["sqlite", "2", "3"], ["memory", "2", "3"]]
    lines = [f"{line} " for table in tables for line in table.splitlines()[1:]]
    assert all(line.count(" B " if "bytes" in line else " ms") == 2 for line in lines)


def test_workers_are_measured() -> None:
    """One command measures how many runs workers take over from one PostgreSQL, and how many claims are refused."""
    printed = printed_by("tests.benchmarks.workers", "--runs", "3", "--workers", "1", "--rounds", "1")
    tables = printed.strip().split("\n\n")

    assert [table.splitlines()[0].strip() for table in tables] == [
        "empty bodies", "empty bodies, 100 at once", "bodies of 20 ms, 32 at once",
    ]  # fmt: skip
    assert all(table.splitlines()[2].split()[2] == "0.0%" for table in tables)


def test_pictures_are_measured() -> None:
    """One command measures how long random machines take to be drawn."""
    printed = printed_by("tests.benchmarks.drawing", "--states", "5", "--machines", "1", "--rounds", "1")
    assert [line.split()[6] for line in printed.splitlines()[2:]] == ["layout", "picture"]


def test_executors_are_measured() -> None:
    """One command measures calls to worker processes beside their engine's own, and a split that computes."""
    engines = {
        "process": ("ProcessPoolExecutor.submit", "process://"),
        "futures": ("ProcessPoolExecutor.submit", "FuturesExecutor"),
        "dask": ("Client.submit", "dask://local"),
    }
    options = ["--steps", "3", "--branches", "2", "--work", "10", "--rounds", "1", "--engines", ",".join(engines)]
    printed = printed_by("tests.benchmarks.executors", *options)

    cpus = f"2 workers on {os.cpu_count()} CPUs: how many times as fast"
    assert [re.split(r"\s{2,}", line)[0] for line in printed.splitlines()[2:]] == [
        line
        for own, name in engines.values()
        for line in (
            f"{own}, a call", f"a remote no-op step, {name}", "a split of 2 branches that compute, here",
            f"the same on {name}, {cpus}",
        )
    ]  # fmt: skip


def test_batches_are_measured() -> None:
    """A batch of few inputs, beside separate runs, and the same batch again."""
    lines = printed_by("tests.benchmarks.batches", "--inputs", "20", "--limit", "4").splitlines()

    assert lines[0] == "20 inputs, 4 at once"
    assert [line[:16].strip() for line in lines[2:]] == ["separate runs", "a batch", "the same again"]
