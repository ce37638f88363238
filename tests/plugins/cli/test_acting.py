"""`--where` with `cano resume`, `cancel`, `signal` and `fork`: all runs that match."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cano_cli.acting import rate
from click.testing import Result

Cano = Callable[..., Result]


@pytest.fixture
def orders(cano: Cano, project: Path, store: str) -> Path:
    """Two failed orders, two that wait, and a page; return the file that makes orders fail."""
    broken = project / "broken"
    broken.touch()
    for run_id in ("f1", "f2"):
        cano("run", "shop", "--run-id", run_id)
    broken.unlink()
    for run_id in ("w1", "w2"):
        (project / "stop").touch()
        cano("run", "shop", "--run-id", run_id, "--data", "wait=1")
    cano("recover", "shop")
    cano("run", "flows", "--run-id", "page")
    return broken


def statuses(cano: Cano) -> dict[str, str]:
    """The status of each run."""
    return {run["run_id"]: run["status"] for run in json.loads(cano("runs", "--json").stdout)}


def test_all_that_failed_are_resumed(cano: Cano, orders: Path) -> None:
    """A dry run counts; the command resumes, names the runs that failed again or were refused, and can be repeated."""
    where = "status = failed and error = ValueError and updated > 1h ago"
    dry = cano("resume", "shop", "--where", where, "--dry-run")
    assert (dry.exit_code, dry.stdout, dry.stderr) == (0, "2 runs would be resumed\n", "2 runs found\n")
    orders.touch()
    again = cano("resume", "shop", "--where", where, "--rate", "1000/s", "--json")
    orders.unlink()
    assert again.exit_code == 1
    report = json.loads(again.stdout)
    assert (report["dry_run"], report["matched"], report["done"], report["refused"]) == (False, 2, 2, {})
    assert list(report["failed"]) == ["f2", "f1"]
    assert report["outcomes"] == {"failed": 2}
    done = cano("resume", "shop", "--where", where)
    assert (done.exit_code, done.stdout) == (0, "2 runs resumed: 2 succeeded\n")
    assert {statuses(cano)[run_id] for run_id in ("f1", "f2")} == {"succeeded"}
    nothing = cano("resume", "shop", "--where", where)
    assert (nothing.exit_code, nothing.stdout) == (0, "0 runs resumed\n")


@pytest.mark.usefixtures("orders")
def test_runs_are_signalled_forked_and_cancelled(cano: Cano) -> None:
    """Each command takes a filter in place of one run; what it cannot be applied to is named, with exit code 1."""
    signalled = cano("signal", "--where", "workflow = shop and status = parked", "approved", "1", "--id", "once")
    forked = cano("fork", "--where", "workflow = shop and status = parked", "--suffix", ".2")
    cancelled = cano("cancel", "--where", "workflow = shop")
    pages = cano("signal", "--where", "workflow = pages", "go")

    assert (signalled.exit_code, signalled.stdout) == (0, "2 runs signalled\n")
    assert (forked.exit_code, forked.stdout) == (0, "2 runs forked\n")
    assert (cancelled.exit_code, cancelled.stdout) == (1, "4 runs cancelled\n")
    assert cancelled.stderr == (
        "6 runs found, of which 2 would be refused\n"
        "run f2 refused: it has ended: failed\nrun f1 refused: it has ended: failed\n"
    )
    assert (pages.exit_code, pages.stdout) == (1, "0 runs signalled\n")
    assert sorted(statuses(cano).items())[:2] == [("f1", "failed"), ("f2", "failed")]
    assert statuses(cano)["w1.2"] == "cancelled"


@pytest.mark.usefixtures("orders")
def test_forks_are_edited(cano: Cano) -> None:
    """`--set` takes JSON or a text, as `--data` does, and `--unset` removes a key: of one fork, or of many."""
    one = cano("fork", "f1", "1", "g1", "--set", 'address={"zip": 8000}', "--set", "name=Ada Lovelace")
    again = cano("fork", "g1", "1", "h1", "--unset", "address")
    many = cano("fork", "--where", "status = failed", "--suffix", ".2", "--set", "name=Bob")

    assert (one.exit_code, again.exit_code, many.exit_code) == (0, 0, 0)
    assert one.stderr == "--set added keys that run f1 does not have: address, name\n"  # it may be a misspelt one
    assert cano("fork", "g1", "1", "g2", "--set", "address=1", "--set", "name=Eve").stderr == ""
    data = {run_id: json.loads(cano("show", run_id, "--json").stdout)["data"] for run_id in ("g1", "h1", "f2.2")}
    assert {run_id: (run.get("address"), run["name"]) for run_id, run in data.items()} == {
        "g1": ({"zip": 8000}, "Ada Lovelace"),
        "h1": (None, "Ada Lovelace"),
        "f2.2": (None, "Bob"),
    }


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize(
    ("args", "problem"),
    [
        (["fork", "f1", "0", "g", "--set", "name"], "--set name: expected key=value"),
        (["fork", "f1", "0", "g", "--set", "a=1", "--set", "a=2"], "by --set a=1 and by --set a=2"),
        (["fork", "f1", "0", "g", "--set", "@nope.json"], "--set @nope.json: cannot read the file"),
        (["fork", "f1", "0", "g", "--set", "a=[1"], "is not JSON"),
        (["fork", "f1", "0", "g", "--unset", "nme"], "the key 'nme', to be removed from the data of run f1"),
        (["resume", "shop"], "Missing argument 'RUN'. Name one run, or all that match with --where FILTER."),
        (["fork", "f1", "--suffix", "a"], "Missing argument 'SEQ'"),
        (["signal", "f1"], "Missing argument 'NAME'"),
        (["cancel", "f1", "--where", "status = failed"], "not both"),
        (["cancel", "f1", "--dry-run"], "An option for many runs is given without --where FILTER."),
        (["signal", "--where", "status = parked"], "With --where, give NAME and [PAYLOAD]"),
        (["fork", "--where", "status = parked"], "--where needs --suffix TEXT"),
        (["resume", "shop", "--where", "a = b", "--timeout", "3"], "--timeout is for one run"),
        (["cancel", "--where", "status = faild"], "is wrong at column 10, 'faild'"),
        (["cancel", "--where", ""], "a condition is missing"),
        (["cancel", "--where", "state = A", "--rate", "0/s"], "is not a positive number of runs per second"),
    ],
)
def test_wrong_uses_change_nothing(cano: Cano, args: list[str], problem: str) -> None:
    """A command without a run or a filter, with both, or with a wrong one is a usage error."""
    result = cano(*args)
    assert result.exit_code == 2
    assert problem in " ".join(result.stderr.replace("│", " ").split())
    assert [status for _, status in sorted(statuses(cano).items())] == [
        "failed", "failed", "succeeded", "parked", "parked",
    ]  # fmt: skip


def test_rates() -> None:
    """A rate is by the second, unless it says otherwise."""
    assert [rate(text) for text in ("50", "50/s", "30/m", "36/h", " .5 ", "1.5/S")] == [50, 50, 0.5, 0.01, 0.5, 1.5]
