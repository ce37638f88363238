"""`cano signal`, `cano fork`, `cano cancel`, `cano prune` and `cano check`."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cano import Kernel, RunRecord, RunStatus, StoreBackend, Wait, Workflow
from cano_cli.migration import SCHEDULES
from click.testing import Result

from tests.plugins.cli.conftest import NOT_A_DURATION, error_of
from tests.plugins.cli.stored import do

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]


@pytest.fixture
def stopped(cano: Cano, project: Path, store: str) -> None:
    """An order `r1` that was interrupted while it was being paid, and is to wait after that."""
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "r1", "--data", "wait=1")


@pytest.mark.usefixtures("stopped")
def test_signal_before_the_wait(cano: Cano) -> None:
    """A signal that comes early is kept; its payload is JSON."""
    sent = cano("signal", "r1", "approved", '["Ada"]')
    recovered = cano("recover", "shop")

    assert sent.exit_code == 0
    assert sent.stdout == (
        "kept for the next wait for 'approved' of run r1: no process executes it: in state pay; "
        "to continue it: cano resume MODULE:FLOW r1\n"
    )
    assert recovered.stdout == "run r1 of shop succeeded in shipped after 3 steps\n"
    assert json.loads(cano("show", "r1", "--json").stdout)["data"]["by"] == ["Ada"]


@pytest.mark.usefixtures("stopped")
def test_signal_twice(cano: Cano) -> None:
    """A signal sent twice under one id counts once; without a payload it carries null."""
    cano("recover", "shop")
    for _ in range(2):
        answer = json.loads(cano("signal", "r1", "approved", "--id", "s1", "--json").stdout)
        assert answer["sent"] is True
    cano("recover", "shop")

    late = cano("signal", "r1", "approved", "--json")

    assert late.exit_code == 1
    assert json.loads(late.stdout)["sent"] is False
    assert cano("signal", "r1", "approved").stderr == (
        "not sent: run r1 has ended: it has ended in success: in state shipped\n"
    )


@pytest.mark.usefixtures("stopped")
def test_signal_with_a_text(cano: Cano) -> None:
    """A payload that is not JSON is a text, as it is in `--data`."""
    cano("signal", "r1", "approved", "yes")
    cano("recover", "shop")

    assert json.loads(cano("show", "r1", "--json").stdout)["data"]["by"] == "yes"


@pytest.mark.parametrize(("payload", "problem"), [("{", "Expecting"), ("[NaN]", "NaN is not a JSON value")])
@pytest.mark.usefixtures("stopped")
def test_signal_with_a_wrong_payload(cano: Cano, payload: str, problem: str) -> None:
    """A payload that begins like JSON but is not is refused, and nothing is sent."""
    result = cano("signal", "r1", "approved", payload)
    cano("recover", "shop")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: the payload {payload} is not JSON ({problem}")
    assert result.stderr.endswith(f"; a text that begins like JSON needs quotes: '\"{payload}\"'\n")
    assert "waits for a signal: 'approved'" in cano("explain", "r1").stdout


@pytest.mark.usefixtures("stopped")
def test_signal_with_a_token(cano: Cano) -> None:
    """A signal with a token answers that wait only, once; a token of another run is a usage error."""
    cano("recover", "shop")

    wrong = cano("signal", "r1", "approved", "--wait", "r2:2")
    sent, again = (cano("signal", "r1", "approved", '"Ada"', "--wait", "r1:2", "--id", "6") for _ in range(2))
    second = cano("signal", "r1", "approved", '"Bob"', "--wait", "r1:2", "--json")
    late = cano("signal", "r1", "approved", '"Bob"', "--wait", "r1:2")
    cano("recover", "shop")

    assert (wrong.exit_code, "'r2:2' is not the token of a wait of run r1" in wrong.stderr) == (2, True)
    assert sent.stdout.startswith("sent 'approved' to run r1: its wait is over")
    assert again.stdout.startswith("ignored: id 6 was already sent to run r1: ")
    assert (second.exit_code, json.loads(second.stdout)["sent"]) == (1, False)
    assert late.stderr.startswith("not sent: wait r1:2 of run r1 already has an answer: its wait is over")
    assert json.loads(cano("show", "r1", "--json").stdout)["data"]["by"] == "Ada"


@pytest.mark.usefixtures("stopped")
def test_what_a_signal_does(cano: Cano) -> None:
    """The report tells a signal that ends the wait from one that is kept, is a repetition, or comes too late."""
    cano("recover", "shop")

    other = cano("signal", "r1", "answr")
    waiting = cano("explain", "r1").stdout
    shown = cano("show", "r1").stdout
    sent = cano("signal", "r1", "approved", "--id", "5")
    again = cano("signal", "r1", "approved", "--id", "5")
    second = cano("signal", "r1", "approved")
    as_json = json.loads(cano("signal", "r1", "answr", "--json").stdout)
    cano("recover", "shop")
    late = cano("signal", "r1", "approved", "--wait", "r1:1")

    assert other.stdout.startswith("kept for the next wait for 'answr' of run r1: it waits for a signal: 'approved'")
    assert waiting == "it waits for a signal: 'approved', then ship; for later waits, it keeps 'answr'\n"
    assert "\nsignals:   'answr' (no wait has taken them yet)\n" in shown
    assert sent.stdout.startswith("sent 'approved' to run r1: its wait is over")
    assert again.stdout.startswith("ignored: id 5 was already sent to run r1: ")
    assert second.stdout.startswith("kept for the next wait for 'approved' of run r1: its wait is over")
    assert (as_json["sent"], as_json["effect"]) == (True, "kept for the next wait for 'answr' of run r1")
    assert (late.exit_code, late.stderr.startswith("not sent: run r1 has ended: ")) == (1, True)


@pytest.mark.usefixtures("stopped")
@pytest.mark.parametrize("token", [(), ("--wait", "r1:2")])
def test_a_signal_to_a_cancelled_run(cano: Cano, token: tuple[str, ...]) -> None:
    """It is not sent, as to a run that has succeeded."""
    cano("recover", "shop")
    cano("cancel", "r1")

    sent = cano("signal", "r1", "approved", *token)

    assert (sent.exit_code, sent.stderr.startswith("not sent: run r1 has ended: it was cancelled")) == (1, True)


@pytest.mark.usefixtures("stopped")
def test_a_signal_to_an_earlier_wait(cano: Cano) -> None:
    """A step that the run has left does not wait any more."""
    cano("recover", "shop")

    sent = cano("signal", "r1", "approved", "--wait", "r1:1")

    assert (sent.exit_code, sent.stderr.startswith("not sent: run r1 does not wait at r1:1 any more: ")) == (1, True)


@pytest.mark.usefixtures("stopped")
def test_check_names_the_next_step(cano: Cano, store: str) -> None:
    """A finding has the command that solves it, and which works."""

    async def claim(backend: StoreBackend) -> None:
        await backend.claim("r1", "host-b:1", 1_000.0, 1_001.0)
        child = RunRecord("r1:2/child", "child", "1", "f", "a", parent="gone", created=1.0, updated=1.0)
        await backend.create(child)

    do(store, claim)
    found = {row["kind"]: row for row in json.loads(cano("check", "--json").stdout)}

    assert re.fullmatch(
        r"held by host-b:1, expired [\d,]+ days ago; to take it over: cano recover MODULE:FLOW",
        found["stale lease"]["detail"],
    )
    assert found["orphan"]["detail"].endswith("; to end it: cano cancel r1:2/child")
    assert cano("recover", "shop").exit_code == 0
    assert cano("cancel", "r1:2/child").exit_code == 0
    assert json.loads(cano("check", "--json").stdout) == []


def test_fork(cano: Cano) -> None:
    """A fork stands where the run stood, and goes on by itself; the run stays as it is."""
    cano("run", "shop", "--run-id", "r1")

    forked = cano("fork", "r1", "1", "r2")
    as_json = json.loads(cano("fork", "r1", "2", "r3", "--json").stdout)
    resumed = cano("resume", "shop", "r2")

    assert forked.exit_code == 0
    assert forked.stdout == "run r2 created in state pay, from run r1 after step 1\n"
    assert (as_json["run_id"], as_json["state"], as_json["status"]) == ("r3", "ship", "interrupted")
    assert resumed.stdout.startswith("shop ended in shipped after 3 steps")
    assert json.loads(cano("show", "r1", "--json").stdout)["steps"] == 3
    assert json.loads(cano("show", "r1", "--json").stdout)["forked_from"] is None
    assert json.loads(cano("show", "r2", "--json").stdout)["forked_from"] == {"run_id": "r1", "seq": 1}
    assert "\nforked:    from run r1 after step 1\n" in cano("show", "r2").stdout


@pytest.mark.parametrize(
    ("seq", "new", "message"),
    [("9", "r2", "run r1 has no transition 9; there are: 0 to 3"), ("1", "r1", "the run id 'r1' is in use")],
)
def test_fork_that_cannot_be(cano: Cano, seq: str, new: str, message: str) -> None:
    """A step that was not made, or an id that is taken, is a mistake: exit code 2."""
    cano("run", "shop", "--run-id", "r1")

    result = cano("fork", "r1", seq, new)

    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("stopped")
def test_cancel(cano: Cano) -> None:
    """A run that nobody drives is cancelled at once, for good."""
    first = cano("cancel", "r1")
    second = cano("cancel", "r1")
    as_json = cano("cancel", "r1", "--json")

    assert (first.exit_code, first.stdout) == (0, "run r1 is cancelled\n")
    assert (second.exit_code, second.stderr) == (1, "run r1 has already ended: cancelled\n")
    assert (as_json.exit_code, json.loads(as_json.stdout)["accepted"]) == (1, False)
    assert json.loads(cano("explain", "r1", "--json").stdout)["reason"] == "CANCELLED"


@pytest.mark.usefixtures("stopped")
def test_resuming_a_cancelled_run(cano: Cano) -> None:
    """It does not continue; the command says how a fork of it does."""
    cano("cancel", "r1")

    refused = cano("resume", "shop", "r1")
    assert refused.exit_code == 1
    assert "\n  (to continue it in a fork: cano fork r1 1 NEW; then: cano resume shop NEW)\n" in refused.stderr
    assert cano("fork", "r1", "1", "NEW").exit_code == 0


@pytest.mark.parametrize(
    ("name", "hint"), [("history", " Did you mean 'show'?"), ("resme", " Did you mean 'resume'?"), ("xyz", "")]
)
def test_a_command_that_does_not_exist(cano: Cano, name: str, hint: str) -> None:
    """The command that was probably meant is named."""
    result = cano(name, "r1")

    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: No such command {name!r}.{hint}\n")


@pytest.mark.usefixtures("stopped")
def test_delete(cano: Cano) -> None:
    """A finished run is deleted; one that can go on is refused, with what to do."""
    cano("run", "flows", "--run-id", "page 1")

    done = cano("delete", "page 1")
    refused = cano("delete", "r1")
    cano("cancel", "r1")
    as_json = cano("delete", "r1", "--json")

    assert (done.exit_code, done.stdout) == (0, "run 'page 1' is deleted\n")
    assert refused.exit_code == 1
    assert refused.stderr == "Error: run r1 is not deleted: it is interrupted; cancel first: cano cancel r1\n"
    assert json.loads(as_json.stdout) == {"deleted": "r1"}
    assert cano("delete", "r1").exit_code == 2
    assert json.loads(cano("runs", "--json").stdout) == []


@pytest.mark.usefixtures("stopped")
def test_a_corrupt_run(cano: Cano) -> None:
    """A run whose row cannot be read is cancelled; or the command says which other command deletes it."""
    cano("fork", "r1", "1", "r 2")
    with closing(sqlite3.connect("runs.db", isolation_level=None)) as connection:
        connection.execute("UPDATE journal SET extra = x'c1' WHERE id IN (SELECT head FROM runs WHERE run_id = 'r1')")
        connection.execute("UPDATE runs SET seq = 99 WHERE run_id = 'r 2'")

    readable, lost = cano("cancel", "r1"), cano("cancel", "r 2")

    assert (readable.exit_code, readable.stdout) == (0, "run r1 is cancelled\n")
    assert lost.exit_code == 1
    assert "to delete it, call cano delete 'r 2': " in lost.stderr
    assert cano("delete", "r 2").exit_code == 0
    assert cano("prune", "--delete-all-finished").stdout == "r1\n1 run deleted\n"


@pytest.mark.usefixtures("stopped")
def test_prune(cano: Cano) -> None:
    """Finished runs that are not to be kept are forgotten; what can go on is kept in any case."""
    for number in range(3):
        cano("run", "flows", "--run-id", f"page-{number}")

    kept = cano("prune", "--max-age", "7d", "--json")
    others = cano("prune", "--delete-all-finished", "--workflow", "none", "--json")
    shown = cano("prune", "--keep-last", "1", "--dry-run")
    planned = cano("prune", "--delete-all-finished", "--workflow", "pages", "--dry-run", "--json")
    some = cano("prune", "--keep-last", "1")
    rest = cano("prune", "--delete-all-finished", "--json")

    assert json.loads(kept.stdout) == json.loads(others.stdout) == {"pruned": []}
    assert sorted(shown.stdout.splitlines()) == ["2 runs would be deleted", "page-0", "page-1"]
    assert sorted(json.loads(planned.stdout)["would_prune"]) == ["page-0", "page-1", "page-2"]
    assert sorted(some.stdout.splitlines()) == ["2 runs deleted", "page-0", "page-1"]
    assert json.loads(rest.stdout) == {"pruned": ["page-2"]}
    assert [run["run_id"] for run in json.loads(cano("runs", "--json").stdout)] == ["r1"]


def test_prune_names_few_runs(cano: Cano, store: str) -> None:
    """Of many, it prints the newest 20; `--json` names all."""

    async def work(store: Any) -> str:
        return "end"

    flow = Workflow("work", name="many").register("work", work).add_exit_state("end")

    async def fill() -> None:
        async with Kernel(store=store) as kernel:
            for number in range(22):
                await kernel.run(flow, run_id=f"m-{number:02}")

    asyncio.run(fill())
    pruned = cano("prune", "--delete-all-finished")

    assert pruned.stdout.splitlines() == [*(f"m-{number:02}" for number in range(21, 1, -1)), "22 runs deleted"]
    assert pruned.stderr == "and 2 more runs; --json names all\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no option says which runs to keep; give --keep-last N, --max-age DURATION or --delete-all-finished"),
        (["--keep-last", "-1"], "Invalid value for '--keep-last': -1 is not in the range x>=0."),
        (
            ["--max-age", "0"],
            f"Invalid value for '--max-age': '0' {NOT_A_DURATION}",
        ),
    ],
)
def test_prune_what(cano: Cano, args: list[str], message: str) -> None:
    """Nothing is forgotten that was not named."""
    result = cano("prune", *args)

    assert result.exit_code == 2
    assert error_of(result) == f"Error: {message}\n"


@pytest.mark.usefixtures("stopped")
def test_check(cano: Cano) -> None:
    """A store in which all is well: classes that this process does not know are no damage."""
    result = cano("check")

    assert (result.exit_code, result.stdout) == (0, "ok: no problems found\n")
    assert json.loads(cano("check", "shop", "--json").stdout) == []


@pytest.mark.usefixtures("stopped")
def test_check_says_what_it_has_not_looked_into(cano: Cano) -> None:
    """The values of the workflows that were not named: of how many runs, which, and what to do; also with --json."""
    cano("run", "flows", "--run-id", "p1")
    cano("run", "flows", "--run-id", "p2")
    how = "; to check them, name the workflows: cano check MODULE:FLOW...\n"

    none, one, both = cano("check", "--json"), cano("check", "flows"), cano("check", "flows", "shop")

    assert json.loads(none.stdout) == []
    assert none.stderr == f"Note: the values of 3 runs were not checked (workflows: pages, shop){how}"
    assert (one.exit_code, one.stdout) == (0, "ok: no problems found\n")
    assert one.stderr == f"Note: the values of 1 run were not checked (workflows: shop){how}"
    assert (both.stdout, both.stderr) == ("ok: no problems found\n", "")


def test_check_looks_into_schedules(cano: Cano) -> None:
    """Nobody can name a workflow for these, and nobody has to: their values need no classes."""
    schedule = RunRecord(run_id="s", workflow=SCHEDULES, version="1", fingerprint="", state="active",
                         status=RunStatus.PARKED, data={"state": b"\xc1"}, wait=Wait("on", signal="x"))  # fmt: skip
    do("sqlite:///runs.db", lambda store: store.create(schedule))

    result = cano("check")

    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.splitlines()[1].split()[:4] == ["corrupt", "s", "key", "'state':"]


@pytest.mark.usefixtures("stopped")
def test_check_finds_damage(cano: Cano, project: Path) -> None:
    """A row that somebody has damaged is found and named; the exit code is 1."""
    with sqlite3.connect(project / "runs.db") as connection:
        connection.execute("UPDATE runs SET seq = seq + 1")
    connection.close()

    result = cano("check", "shop")
    as_json = cano("check", "--json")

    assert result.exit_code == as_json.exit_code == 1
    assert result.stdout.splitlines()[1].split()[:2] == ["corrupt", "r1"]
    assert [(found["kind"], found["run_id"]) for found in json.loads(as_json.stdout)] == [("corrupt", "r1")]
    assert "r1" in cano("runs").stdout
    assert cano("show", "r1").exit_code == 1


@pytest.mark.usefixtures("stopped")
def test_check_knows_the_classes(cano: Cano, project: Path, write: Write) -> None:
    """With a workflow named, values of classes that it does not have any more are found."""
    shop = (project / "shop.py").read_text()
    write("later.py", shop.replace(", types=[Order]", "").replace("Order", "Basket"))

    result = cano("check", "later")

    assert result.exit_code == 1
    assert "key 'order': " in result.stdout
    assert "'shop:Order' is not registered" in result.stdout
