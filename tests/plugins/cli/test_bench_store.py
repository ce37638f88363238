"""`cano bench-store`: it measures, and leaves a store as it was."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import RunRecord
from click.testing import Result

from tests.plugins.cli.stored import do, stored_at

Cano = Callable[..., Result]
Start = Callable[..., "subprocess.Popen[str]"]

URL = "sqlite:///runs.db"
PATIENCE = 60.0


def made_runs(project: Path) -> int:
    """How many runs of a measurement there are."""
    if not (project / "runs.db").exists():
        return 0
    connection = sqlite3.connect(f"file:{project / 'runs.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute("SELECT count(*) FROM definitions WHERE workflow = 'cano.bench'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
    finally:
        connection.close()


@pytest.mark.parametrize("url", [URL, "memory://", "memory://?strict=1"])
def test_measures(cano: Cano, url: str) -> None:
    """One line for each: the store itself and a kernel on it, with one run and with several."""
    table = cano("bench-store", url, "--seconds", "0.05", "--runs", "3")
    answer = json.loads(cano("bench-store", url, "--seconds", "0.05", "--runs", "3", "--json").stdout)

    assert [line.split()[:2] for line in table.stdout.splitlines()] == [
        ["through", "runs"], ["store", "1"], ["store", "3"], ["kernel", "1"], ["kernel", "3"],
    ]  # fmt: skip
    assert (answer["runs"], answer["seconds"], answer["bytes"]) == (3, 0.05, 200)
    assert [(found["through"], found["runs"]) for found in answer["results"]] == [
        ("store", 1), ("store", 3), ("kernel", 1), ("kernel", 3),
    ]  # fmt: skip
    for found in answer["results"]:
        assert found["commits"] >= found["runs"]
        assert 0 < found["p50_ms"] <= found["p99_ms"]
        assert found["commits_per_second"] == pytest.approx(found["commits"] / found["seconds"])


def test_leaves_other_runs(cano: Cano) -> None:
    """Runs that were there stay as they are; what a killed measurement has left goes."""
    cano("run", "flows", "--run-id", "r1", "--store", URL)
    before = stored_at(URL)
    do(URL, lambda store: store.create(RunRecord("cano-bench-x/store-1-0", "cano.bench", "1", "", "step")))

    assert cano("bench-store", URL, "--seconds", "0.05", "--runs", "1").exit_code == 0
    assert stored_at(URL) == before


@pytest.mark.parametrize("moment", [1, 2, 5, 7])
def test_ctrl_c_leaves_nothing(start: Start, project: Path, moment: int) -> None:
    """Also Ctrl-C deletes what was made, whichever part of it is under way."""
    process = start("bench-store", URL, "--seconds", "1" if moment > 1 else "60", "--runs", "3")
    deadline = time.monotonic() + PATIENCE
    while made_runs(project) < moment:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)

    process.send_signal(signal.SIGINT)
    out, err = process.communicate()

    assert (process.returncode, out, err) == (130, "", "Stopped.\n")
    assert stored_at(URL) == {}
