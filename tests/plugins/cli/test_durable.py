"""`cano run` and `cano resume` on a store that outlives them: killed, stopped, failed, waiting, driven by others."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.plugins.cli.conftest import NOT_A_DURATION, error_of

pytestmark = pytest.mark.usefixtures("store")

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]
Start = Callable[..., "subprocess.Popen[str]"]


def journal(project: Path) -> list[str]:
    """Which tasks have run, in order."""
    return (project / "journal").read_text().split()


def wait_for_line(process: subprocess.Popen[str], text: str, *, err: bool = False) -> None:
    """Read until a line begins with `text`."""
    stream = process.stderr if err else process.stdout
    assert stream is not None
    while not (line := stream.readline()).startswith(text):
        assert line, f"the process ended without {text!r}"


def killed(start: Start, project: Path, *args: str) -> None:
    """Start an order, and kill its process while it is being paid."""
    (project / "hold").touch()
    process = start("run", "shop", "--run-id", "r1", *args)
    wait_for_line(process, "paying")
    process.send_signal(signal.SIGKILL)
    process.wait()
    (project / "hold").unlink()


def test_kill_and_run_again(start: Start, project: Path) -> None:
    """The same command again goes on where the killed one was: what was committed is not done again."""
    killed(start, project)

    process = start("run", "shop", "--run-id", "r1", "--json")
    out, err = process.communicate()
    answer = json.loads(out)

    assert process.returncode == 0
    assert answer["earlier"]["state"] == "pay"
    assert answer["earlier"]["steps"] == 1
    assert answer["state"] == "shipped"
    assert answer["steps"] == 3
    assert answer["data"] == {"order": {"number": 7}, "paid": True, "by": None}
    assert [state["state"] for state in answer["states"]] == ["pay", "ship"]
    assert "Resumed: run r1 continues in state pay after 1 step\n" in err
    assert journal(project) == ["take", "pay", "pay", "ship"]


def test_run_again_while_it_runs(start: Start, project: Path) -> None:
    """A second command waits for the first one's process, and takes over when that dies."""
    (project / "hold").touch()
    first = start("run", "shop", "--run-id", "r1")
    wait_for_line(first, "paying")
    second = start("run", "shop", "--run-id", "r1")
    wait_for_line(second, "Waiting: run r1 is held by ", err=True)
    assert journal(project) == ["take", "pay"]

    (project / "hold").unlink()
    first.send_signal(signal.SIGKILL)
    out, err = second.communicate()

    assert second.returncode == 0
    assert err == "Resumed: run r1 continues in state pay after 1 step\n"
    assert out.startswith("shop ended in shipped after 3 steps")


def test_run_again_when_it_has_ended(cano: Cano, project: Path) -> None:
    """A run that has ended is not run again: its result is told, and when it was."""
    first = cano("run", "shop", "--run-id", "r1", "--data", "number=9")
    again = cano("run", "shop", "--run-id", "r1", "--data", "number=10")
    as_json = json.loads(cano("run", "shop", "--run-id", "r1", "--json").stdout)

    assert first.exit_code == again.exit_code == 0
    assert first.stdout.startswith("shop ended in shipped after 3 steps and ")
    assert re.match(r"shop ended in shipped after 3 steps at .*; nothing was run \(run r1\)\n", again.stdout)
    assert 'order   {"number": 9}\n' in again.stdout
    assert as_json["earlier"] == {"status": "succeeded", "state": "shipped", "steps": 3}
    assert as_json["status"] == "succeeded"
    assert as_json["states"] == []
    assert journal(project) == ["take", "pay", "ship"]


def test_an_existing_run(cano: Cano, project: Path) -> None:
    """--on-existing says whether an existing run is the one that is meant. A refused one is left as it is."""

    def again(choice: str, *data: str) -> Result:
        return cano("run", "shop", "--run-id", "r1", "--on-existing", choice, *data)

    assert again("reject", "--data", "number=9").exit_code == 0
    for same in ("--data", "number=9"), ():
        assert "nothing was run" in again("same-data", *same).stdout
    assert "nothing was run" in again("return", "--data", "number=10").stdout
    (project / "empty.json").write_text("{}", encoding="utf-8")
    for other in "number=10", "@empty.json":
        refused = again("same-data", "--data", other)
        assert (refused.exit_code, refused.stderr) == (
            2, "Error: the run id 'r1' is in use: it began with other data; choose another id\n"
        )  # fmt: skip
    assert again("reject", "--data", "number=9").stderr == (
        "Error: the run id 'r1' is in use: a run with it exists; choose another id\n"
    )
    assert journal(project) == ["take", "pay", "ship"]


def test_a_parked_run_is_refused_in_one_line(cano: Cano, project: Path) -> None:
    """What the existing run waits for is not said first."""
    (project / "broken").touch()
    assert cano("run", "shop", "--run-id", "r1").exit_code == 1
    refused = cano("run", "shop", "--run-id", "r1", "--on-existing", "reject")
    assert (refused.exit_code, len(refused.stderr.splitlines())) == (2, 1)


def test_on_existing_needs_an_id(cano: Cano, monkeypatch: pytest.MonkeyPatch) -> None:
    """The option has no effect without an id in a store, so it is refused."""
    assert "requires --store URL and --run-id ID" in cano("run", "shop", "--on-existing", "reject").stderr
    assert "each run gets its own id" in cano("run", "shop", "--many", "-", "--on-existing", "reject").stderr
    monkeypatch.delenv("CANO_STORE")
    assert "requires --store URL" in cano("run", "shop", "--run-id", "r1", "--on-existing", "reject").stderr


def test_failed(cano: Cano, project: Path) -> None:
    """A run that failed stays failed, and says so again, until it is resumed: then it goes on from that state."""
    (project / "broken").touch()
    first = cano("run", "shop", "--run-id", "r1")
    again = cano("run", "shop", "--run-id", "r1")
    (project / "broken").unlink()
    resumed = cano("resume", "shop", "r1")

    assert first.exit_code == again.exit_code == 1
    assert "  (to retry from that state: cano resume shop r1)\n" in first.stderr
    assert again.stderr == (
        "Error: task 'pay' failed: ValueError: no money\n"
        "  note:     caused by ValueError: no money\n"
        "  at:       shop.py:25 (task pay)\n"
        "  workflow: shop\n"
        "  state:    pay, attempt 1\n"
        "  run:      r1\n"
        "  (the run had failed before; to retry from that state: cano resume shop r1)\n"
        "  (--traceback prints the full traceback)\n"
    )
    assert resumed.exit_code == 0
    assert resumed.stderr == "Resumed: run r1 continues in state pay after 1 step\n"
    assert journal(project) == ["take", "pay", "pay", "ship"]


def test_ctrl_c(cano: Cano, project: Path) -> None:
    """Ctrl-C does not end a run for good: it stands at its last commit, free at once for the next command."""
    (project / "stop").touch()
    stopped = cano("run", "shop", "--run-id", "r1", "--json")
    again = cano("run", "shop", "--run-id", "r1")

    assert stopped.exit_code == 130
    assert json.loads(stopped.stdout)["status"] == "interrupted"
    assert stopped.stderr == (
        "Interrupted: the run was stopped and can be resumed from its last commit\n"
        "  workflow: shop\n"
        "  state:    pay, attempt 1\n"
        "  run:      r1\n"
        "  (to resume it: cano resume shop r1)\n"
    )
    assert again.exit_code == 0
    assert again.stderr == "Resumed: run r1 continues in state pay after 1 step\n"
    assert journal(project) == ["take", "pay", "pay", "ship"]


def test_waiting(start: Start, cano: Cano, project: Path) -> None:
    """A run that waits says for what; Ctrl-C leaves it waiting, and it goes on when the signal is there."""
    args = ["run", "shop", "--run-id", "r1", "--data", "wait=1", "--json"]
    process = start(*args)
    told = "Parked: run r1 waits for signal 'approved', then ship; Ctrl-C leaves it parked"
    wait_for_line(process, told, err=True)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert json.loads(out)["status"] == "parked"
    stopped = "Stopped: the command was stopped; the run stays parked\n"
    assert err == f"{stopped}  workflow: shop\n  state:    ship\n  run:      r1\n"

    process = start(*args)
    wait_for_line(process, told, err=True)
    sent = cano("signal", "r1", "approved", '{"who": "Ada"}')
    out, err = process.communicate()

    assert sent.stdout.startswith("sent 'approved' to run r1: ")
    assert process.returncode == 0
    assert err == "Resumed: run r1 continues in state ship after 2 steps\n"
    assert json.loads(out)["data"]["by"] == {"who": "Ada"}
    assert journal(project) == ["take", "pay", "ship"]


def test_stop_waiting_for_others(start: Start, project: Path) -> None:
    """Ctrl-C on a command that waits for another one's run leaves that alone."""
    (project / "hold").touch()
    first = start("run", "shop", "--run-id", "r1")
    wait_for_line(first, "paying")
    second = start("run", "shop", "--run-id", "r1")
    wait_for_line(second, "Waiting: run r1 is held by ", err=True)

    second.send_signal(signal.SIGINT)
    _, err = second.communicate()

    assert second.returncode == 130
    stopped = "Stopped: the command was stopped; the run is unchanged\n"
    assert err == f"{stopped}  workflow: shop\n  state:    pay\n  run:      r1\n"
    assert first.poll() is None


def test_cancelled_from_elsewhere(start: Start, cano: Cano, project: Path) -> None:
    """`cano cancel` ends a run that another process drives, for good."""
    (project / "hold").touch()
    process = start("run", "shop", "--run-id", "r1", "--lease", "5")
    wait_for_line(process, "paying")

    asked = cano("cancel", "r1")
    _, err = process.communicate()
    again = cano("run", "shop", "--run-id", "r1", "--json")

    assert asked.exit_code == 0
    assert asked.stdout.startswith("cancellation of run r1 requested; it is held by ")
    assert process.returncode == 1
    assert err.startswith("Cancelled: run r1 was cancelled\n")
    assert again.exit_code == 1
    assert json.loads(again.stdout)["status"] == "cancelled"
    assert cano("cancel", "r1").exit_code == 1


def test_resume_of_a_live_run(start: Start, cano: Cano, project: Path) -> None:
    """A run that somebody drives is not touched; the message says who, and when it is free if that process is dead."""
    (project / "hold").touch()
    process = start("run", "shop", "--run-id", "r1", "--lease", "60")
    wait_for_line(process, "paying")

    refused = cano("resume", "shop", "r1")

    assert refused.exit_code == 1
    assert refused.stderr.startswith("Error: run r1 is held by ")
    assert re.search(r"if that process is dead, try again after its lease expires, in \d\d\.\d s\)\n", refused.stderr)
    assert process.poll() is None
    assert journal(project) == ["take", "pay"]


def test_changed_definition(cano: Cano, project: Path, write: Write) -> None:
    """A run of another definition does not go on; what has changed is told, and no way is offered that is none."""
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "r1")
    shop = (project / "shop.py").read_text()
    write("later.py", shop.replace('name="shop"', 'name="shop", version="2"'))

    refused = cano("resume", "later", "r1")

    assert refused.exit_code == 1
    assert "its version was '1', this one is '2'" in refused.stderr
    assert "cano resume" not in refused.stderr


@pytest.mark.parametrize("command", ["run", "resume"])
def test_of_another_workflow(cano: Cano, command: str) -> None:
    """A run's id that belongs to another workflow is a mistake."""
    cano("run", "flows", "--run-id", "r1")

    result = cano("run", "shop", "--run-id", "r1") if command == "run" else cano("resume", "shop", "r1")

    assert result.exit_code in (1, 2)
    assert "'pages'" in result.stderr
    assert "'shop'" in result.stderr


def test_resume_of_nothing(cano: Cano) -> None:
    """A run that is not there cannot be resumed: exit code 2."""
    cano("recover", "shop")  # makes the store
    result = cano("resume", "shop", "r1")

    assert result.exit_code == 2
    assert result.stderr == "Error: the store has no run 'r1'\n"


def test_resume_in_memory(cano: Cano) -> None:
    """There is nothing to resume in a store that is made anew by each process."""
    result = cano("resume", "shop", "r1", "--store", "memory://")

    assert result.exit_code == 2
    assert result.stderr.startswith("Error: this store loses its runs when the process that made them exits;")


def test_wrong_lease(cano: Cano) -> None:
    """A lease that is none is refused."""
    result = cano("run", "shop", "--lease", "0")

    assert result.exit_code == 2
    assert error_of(result) == f"Error: Invalid value for '--lease': '0' {NOT_A_DURATION}\n"


def test_readme(start: Start, write: Write) -> None:
    """What the README shows is what happens: killed on page 3, it goes on with page 3."""
    readme = Path(__file__).parents[3] / "plugins" / "cli" / "README.md"
    code = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)[0]
    assert code.count("await asyncio.sleep(1)") == 1
    wait = "await asyncio.Event().wait() if page == 3 else None"
    write("nightly.py", code.replace("await asyncio.sleep(1)", wait))
    args = ["run", "nightly.py", "--run-id", "monday"]

    process = start(*args)
    wait_for_line(process, "page 3")
    process.send_signal(signal.SIGKILL)
    process.wait()
    write("nightly.py", code.replace("asyncio.sleep(1)", "asyncio.sleep(0)"))
    process = start(*args)
    out, err = process.communicate()

    assert out.startswith("page 3\npage 4\npage 5\nnightly ended in done after 5 steps and ")
    assert err.endswith("Resumed: run monday continues in state fetch after 2 steps\n")
    assert start(*args).communicate()[0].startswith("nightly ended in done after 5 steps at ")
