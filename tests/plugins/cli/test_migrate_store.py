"""`cano migrate-store`: what is copied goes on in the other store as it would have in the first."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import Commit, RunRecord, RunStatus, Signal, StoreBackend
from click.testing import Result

from tests.plugins.cli.stored import do, stored_at
from tests.plugins.cli.test_durable import journal, killed, wait_for_line

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]

SRC, DST = "sqlite:///runs.db", "sqlite:///new.db"
PATIENCE = 60.0


def stop_in_pay(cano: Cano, project: Path, run_id: str, *args: str) -> None:
    """Start an order, and let Ctrl-C come while it is being paid."""
    (project / "stop").touch()
    cano("run", "shop", "--run-id", run_id, *args)


async def fill(store: StoreBackend, runs: int, steps: int) -> None:
    """Finished runs with a history, and signals that wait, were consumed, and came early."""
    for number in range(runs):
        run_id = f"r{number:03}"
        parent = f"r{number - 1:03}" if number % 3 == 2 else None
        await store.create(
            RunRecord(run_id=run_id, workflow="flow", version="1", fingerprint="f", state="S0", token=1, parent=parent,
                      created=1000.0 + number, updated=1000.0 + number, data={"first": b"1"})
        )  # fmt: skip
        for id in "123":
            await store.put_signal(run_id, Signal(id, "go", b"payload"))
        for seq in range(1, steps + 1):
            status = RunStatus.SUCCEEDED if seq == steps else RunStatus.RUNNING
            changed = {f"key {seq % 5}": str(seq).encode()}
            await store.commit(
                Commit(run_id=run_id, token=1, expected_seq=seq - 1, seq=seq, state=f"S{seq}", status=status,
                       changed=changed, removed=["key 1"], consumed=["2"], at=2000.0 + seq)
            )  # fmt: skip
        await store.put_signal(f"early {number}", Signal("1", "go", None))


def test_runs_go_on_in_the_copy(cano: Cano, project: Path) -> None:
    """A finished, an interrupted, a failed and a waiting run: copied, each goes on as it would have."""
    cano("run", "shop", "--run-id", "done", "--data", "number=9")
    stop_in_pay(cano, project, "stopped")
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "failed")
    (project / "broken").unlink()
    stop_in_pay(cano, project, "waits", "--data", "wait=1")
    cano("recover", "shop")  # it takes what was interrupted, too
    stop_in_pay(cano, project, "stopped again")
    cano("signal", "stopped again", "approved", '"early"')

    copied = cano("migrate-store", SRC, DST)

    assert copied.exit_code == 0
    assert copied.stdout.startswith("copied 5 runs (")
    assert stored_at(DST) == stored_at(SRC)
    noted = journal(project)
    again = json.loads(cano("run", "shop", "--run-id", "done", "--store", DST, "--json").stdout)
    assert (again["state"], again["data"]["order"]) == ("shipped", {"number": 9})
    assert journal(project) == noted
    for url in (SRC, DST):
        assert cano("resume", "shop", "failed", "--store", url).exit_code == 0
        assert cano("resume", "shop", "stopped again", "--store", url).exit_code == 0
        assert cano("signal", "waits", "approved", '"Ada"', "--store", url).exit_code == 0
        assert (
            cano("recover", "shop", "--store", url).stdout == "run waits of shop succeeded in shipped after 3 steps\n"
        )
    shown = [json.loads(cano("show", "waits", "--store", url, "--json").stdout) for url in (SRC, DST)]
    assert shown[0]["data"] == shown[1]["data"]
    assert shown[0]["data"]["by"] == "Ada"
    mine, its = stored_at(SRC), stored_at(DST)
    assert {run_id: found[1] for run_id, found in mine.items()} == {run_id: found[1] for run_id, found in its.items()}


def test_again_and_further(cano: Cano, project: Path) -> None:
    """Done again, nothing is copied again; a run that has moved on in SRC, and a new one, are."""
    stop_in_pay(cano, project, "r1")
    stop_in_pay(cano, project, "r2")
    dry = cano("migrate-store", SRC, DST, "--dry-run")
    assert stored_at(DST) == {}
    first = cano("migrate-store", SRC, DST)
    second = cano("migrate-store", SRC, DST)
    cano("resume", "shop", "r1")
    cano("run", "flows", "--run-id", "r3")
    would = cano("migrate-store", SRC, DST, "--dry-run")
    third = json.loads(cano("migrate-store", SRC, DST, "--json").stdout)

    assert dry.stdout == "would copy 2 runs (2 transitions)\n"
    assert first.stdout == "copied 2 runs (2 transitions)\n"
    assert second.stdout == "copied 0 runs (0 transitions), 2 up to date\n"
    assert would.stdout == "would copy 1 run (4 transitions), 1 updated, 1 up to date\n"
    assert third == {
        "dry_run": False, "copied": 1, "updated": 1, "up_to_date": 1, "removed": 0, "transitions": 4, "signals": 0,
        "held": [], "corrupt": [], "refused": [], "different": [], "notes": [],
    }  # fmt: skip
    assert stored_at(DST) == stored_at(SRC)


def test_a_dry_run_makes_no_store(cano: Cano, project: Path) -> None:
    """A target that is not there is as an empty one: it is not opened."""
    cano("run", "flows", "--run-id", "r1")
    do(SRC, lambda store: store.put_signal("early", Signal("1", "go")))
    dry = cano("migrate-store", SRC, DST, "--dry-run")

    assert (dry.exit_code, dry.stdout, dry.stderr) == (0, "would copy 1 run (2 transitions)\n", "")
    assert [*project.glob("new.db*")] == []
    copied = "copied 1 run (2 transitions), 1 signal for runs that do not exist yet\n"
    assert cano("migrate-store", SRC, DST).stdout == copied
    assert stored_at(DST) == stored_at(SRC)


def test_a_run_that_is_driven_is_left(start: Start, cano: Cano, project: Path) -> None:
    """What somebody drives in SRC is not copied, but named; once it is free, it is."""
    cano("run", "flows", "--run-id", "r0")
    (project / "hold").touch()
    process = start("run", "shop", "--run-id", "r1", "--lease", "30")
    wait_for_line(process, "paying")

    held = cano("migrate-store", SRC, DST)
    as_json = json.loads(cano("migrate-store", SRC, DST, "--json").stdout)
    process.send_signal(signal.SIGINT)
    process.communicate()
    free = cano("migrate-store", SRC, DST)

    assert held.exit_code == 1
    assert held.stdout.splitlines()[1].split()[:2] == ["held", "r1"]
    assert held.stdout.splitlines()[-1] == "copied 1 run (2 transitions), 1 held"
    assert held.stderr == "Stop the workers of SRC and repeat the command; runs already copied are skipped\n"
    assert [run["run_id"] for run in as_json["held"]] == ["r1"]
    assert (free.exit_code, free.stdout) == (0, "copied 1 run (1 transition), 1 up to date\n")
    assert stored_at(DST) == stored_at(SRC)


def test_a_run_whose_process_was_killed(start: Start, cano: Cano, project: Path) -> None:
    """Once the lease of the dead is over its run is copied, and goes on in DST."""
    killed(start, project)
    deadline = time.monotonic() + PATIENCE
    while cano("migrate-store", SRC, DST).exit_code:
        assert time.monotonic() < deadline

    resumed = cano("run", "shop", "--run-id", "r1", "--store", DST)

    assert resumed.exit_code == 0
    assert journal(project) == ["take", "pay", "pay", "ship"]


def test_one_workflow(cano: Cano, write: Write) -> None:
    """With --workflow its runs are copied, and those that they have started."""
    write("trip.py", """
        from cano import SubWorkflow, TaskConfig, Workflow

        inner = Workflow("go", name="inner").add_exit_state("gone")

        @inner.on("go")
        async def go(store):
            return "gone"

        outer = Workflow("ride", name="outer").add_exit_state("there")
        outer.register("ride", SubWorkflow(inner, inputs={}, outputs={}, then="there"))
    """)  # fmt: skip
    cano("run", "trip:outer", "--run-id", "t1")
    cano("run", "flows", "--run-id", "r1")
    do(SRC, lambda store: store.put_signal("early", Signal("1", "go")))

    copied = cano("migrate-store", SRC, DST, "--workflow", "outer")

    assert copied.stdout.startswith("copied 2 runs (")
    found, source = stored_at(DST), stored_at(SRC)
    assert found == {run_id: kept for run_id, kept in source.items() if run_id.startswith("t1")}
    assert sorted(kept[0].parent or "" for kept in found.values()) == ["", "t1"]


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (SRC, SRC, "SRC and DST are the same store: 'sqlite:///runs.db'"),
        (
            SRC,
            "sqlite:///./runs.db?busy_timeout=3",
            "SRC and DST are the same store: 'sqlite:///runs.db' and 'sqlite:///./runs.db'",
        ),
        ("sqlite:///typo.db", DST, "the store 'sqlite:///typo.db' does not exist; "),
        ("memory://", DST, "SRC 'memory://' keeps objects in memory, so its runs can be neither copied nor "),
        (SRC, "memory://", "DST 'memory://' keeps objects in memory, so its runs can be neither copied nor "),
        (SRC, "shelf://x", "no active plugin provides the store 'shelf://x'"),
    ],
)
def test_stores_that_will_not_do(cano: Cano, source: str, target: str, message: str) -> None:
    """Each with a message of its own, and exit code 2."""
    cano("run", "flows", "--run-id", "r1")
    before = stored_at(SRC)

    result = cano("migrate-store", source, target)

    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {message}")
    assert stored_at(SRC) == before


def test_into_a_strict_store_in_memory(cano: Cano) -> None:
    """It is copied and compared, although it does not outlive the command."""
    cano("run", "flows", "--run-id", "r1")

    assert cano("migrate-store", SRC, "memory://?strict=1").stdout == "copied 1 run (2 transitions)\n"


def test_a_damaged_run_hides_no_other(cano: Cano, project: Path) -> None:
    """What cannot be read is named and skipped; all others are copied."""
    for number in range(3):
        cano("run", "flows", "--run-id", f"r{number}")
    with sqlite3.connect(project / "runs.db") as connection:
        connection.execute("UPDATE runs SET seq = seq + 1 WHERE run_id = 'r1'")
    connection.close()

    result = cano("migrate-store", SRC, DST)

    assert result.exit_code == 1
    assert result.stdout.splitlines()[1].split()[:2] == ["corrupt", "r1"]
    assert result.stdout.splitlines()[-1] == "copied 2 runs (4 transitions), 1 corrupt"
    assert sorted(stored_at(DST)) == ["r0", "r2"]


def test_killed_at_ten_moments(start: Start, cano: Cano, project: Path) -> None:
    """Killed with SIGKILL ten times in the middle of it, and done again: all is there, once, and nobody holds it."""
    chance = random.Random(os.environ.get("CANO_SEED", "3"))
    do(SRC, lambda store: fill(store, runs=40, steps=20))
    before, kills = stored_at(SRC), 0
    for share in sorted(chance.sample(range(1, 80), 10)):
        process = start("migrate-store", SRC, DST, "--lease", "0.05")
        wanted, deadline = 40 * 21 * share // 100, time.monotonic() + PATIENCE
        while process.poll() is None and lines_in(project / "new.db") < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        kills += process.poll() is None
        process.kill()
        process.communicate()

    last = start("migrate-store", SRC, DST, "--lease", "0.05", "--json")
    told = json.loads(last.communicate()[0])

    assert kills == 10
    assert (last.returncode, told["refused"], told["different"]) == (0, [], [])
    assert told["copied"] + told["up_to_date"] == 40
    assert told["up_to_date"] > 0
    assert stored_at(DST) == stored_at(SRC) == before
    assert lines_in(project / "new.db", "SELECT count(*) FROM runs WHERE holder IS NOT NULL") == 0


def lines_in(file: Path, question: str = "SELECT count(*) FROM journal") -> int:
    """A number that SQLite tells of the copy, as far as it is there."""
    if not file.exists():
        return 0
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return int(connection.execute(question).fetchone()[0])
    except sqlite3.OperationalError:
        return 0  # its tables are not made yet, or it is just being opened
    finally:
        connection.close()


@pytest.mark.parametrize("server", ["sqlite", "redis"])
def test_old_history_that_was_discarded(server: str, cano: Cano, project: Path, request: pytest.FixtureRequest) -> None:
    """The present state is copied, and later entries follow. A copy that has the old history keeps it."""
    target: str = DST if server == "sqlite" else request.getfixturevalue(server).new_url()

    async def go_on(store: StoreBackend, last: int) -> None:
        """Commit to both runs until they are at `last`, and discard old history, if there is enough."""
        for run_id in ("cut", "whole"):
            if (run := await store.load(run_id)) is None:
                run = RunRecord(
                    run_id=run_id, workflow=run_id, version="1", fingerprint="f", state="S0", token=1,
                    created=1000.0, updated=1000.0, data={"first": b"1"},
                )  # fmt: skip
                await store.create(run)
            for seq in range(run.seq + 1, last + 1):
                await store.commit(
                    Commit(run_id=run_id, token=1, expected_seq=seq - 1, seq=seq, state=f"S{seq}", at=2000.0 + seq,
                           status=RunStatus.PARKED, changed={f"key {seq % 50}": str(seq).encode()})
                )  # fmt: skip

    async def discard(store: StoreBackend) -> None:
        for run_id in ("cut", "whole"):
            first = (await store.history(run_id))[0].seq
            await store.discard_history(run_id, 10_000)  # type: ignore[attr-defined]
            assert (await store.history(run_id))[0].seq > first

    async def delete(store: StoreBackend) -> None:
        await store.delete("cut")
        await store.delete("whole")

    def check_copies(starts: dict[str, int]) -> None:
        mine, its = stored_at(SRC), stored_at(target)
        for run_id, start in starts.items():
            (record, data, history, _), (found, copied, entries, _) = mine[run_id], its[run_id]
            assert (found, copied, entries[0][0]) == (record, data, start)
            assert [entry for entry in entries if entry[0] > max(start, history[0][0])] == [
                entry for entry in history if entry[0] > max(start, history[0][0])
            ]

    source = f"{SRC}?synchronous=normal"
    do(source, lambda store: go_on(store, 260))
    cano("migrate-store", SRC, target, "--workflow", "whole")
    do(source, discard)
    done = cano("migrate-store", SRC, target)
    assert (done.exit_code, done.stdout) == (0, "copied 1 run (0 transitions), 1 up to date\n")
    assert done.stderr == "Note: SRC has discarded old history of 1 run, so only its present state is copied\n"
    check_copies({"cut": 260, "whole": 0})
    assert cano("migrate-store", SRC, target).stdout == "copied 0 runs (0 transitions), 2 up to date\n"

    do(source, lambda store: go_on(store, 264))
    assert cano("migrate-store", SRC, target).stdout == "copied 0 runs (8 transitions), 2 updated\n"
    assert cano("migrate-store", SRC, target).stdout == "copied 0 runs (0 transitions), 2 up to date\n"
    check_copies({"cut": 260, "whole": 0})

    do(source, lambda store: go_on(store, 520))
    do(source, discard)
    refused = json.loads(cano("migrate-store", SRC, target, "--json").stdout)["refused"]
    assert [each["run_id"] for each in refused] == ["cut", "whole"]
    assert refused[0]["detail"].startswith("SRC has discarded its history after seq 264, which DST does not have; ")
    do(target, delete)
    assert cano("migrate-store", SRC, target).stdout == "copied 2 runs (0 transitions)\n"
    check_copies({"cut": 520, "whole": 520})
