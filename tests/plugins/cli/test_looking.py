"""`cano runs`, `cano show` and `cano explain`: what is in a store."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cano_cli.settings import STORE_VARIABLE
from click.testing import Result

Cano = Callable[..., Result]
Write = Callable[[str, str], Path]

ABOUT_RUNS = [
    ["runs"],
    ["show", "r1"],
    ["resume", "shop", "r1"],
    ["recover", "shop"],
    ["signal", "r1", "approved"],
    ["fork", "r1", "1", "r2"],
    ["cancel", "r1"],
    ["explain", "r1"],
    ["check"],
    ["compat", "shop"],
    ["prune", "--keep-last", "1"],
]


def without_times(text: str) -> str:
    """The text with what depends on time taken out."""
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "TIME", text)
    return re.sub(r"\bnow\b|\d+ seconds? ago|in \d days?", "THEN", text)


@pytest.fixture
def orders(cano: Cano, project: Path, store: str) -> None:
    """A failed order, one that waits, and one that was shipped; and a run of another workflow."""
    (project / "broken").touch()
    cano("run", "shop", "--run-id", "failed")
    (project / "broken").unlink()
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "stopped", "--data", "wait=1")
    cano("run", "shop", "--run-id", "shipped")
    cano("run", "flows", "--run-id", "page")


@pytest.mark.parametrize("args", [*ABOUT_RUNS, ["submit", "shop"], ["worker", "shop"]], ids=lambda args: args[0])
def test_which_store(cano: Cano, store: str, monkeypatch: pytest.MonkeyPatch, args: list[str]) -> None:
    """Without a store, both ways to name one are told. A store that lives and dies with its process is of no use."""
    in_memory = cano(*args, "--store", "memory://")
    monkeypatch.delenv(STORE_VARIABLE)
    nowhere = cano(*args)

    assert nowhere.exit_code == in_memory.exit_code == 2
    assert nowhere.stderr == (
        "Error: no store is given; add --store URL, such as sqlite:///runs.db, or set CANO_STORE\n"
    )
    assert "this store loses its runs when the process that made them exits" in in_memory.stderr


@pytest.mark.parametrize("args", [args for args in ABOUT_RUNS if "r1" in args], ids=lambda args: args[0])
def test_no_such_run(cano: Cano, store: str, args: list[str]) -> None:
    """A run that is not there is a mistake in the question: exit code 2."""
    cano("recover", "shop")  # makes the store
    result = cano(*args)

    assert result.exit_code == 2
    assert result.stderr == "Error: the store has no run 'r1'\n"


LOOKING = [args for args in ABOUT_RUNS if args[0] != "recover"]


@pytest.mark.parametrize("args", LOOKING, ids=lambda args: args[0])
def test_no_such_store(cano: Cano, project: Path, store: str, args: list[str]) -> None:
    """A wrong name is not made a store: exit code 2. `recover` may wait for runs in one that is still to be filled."""
    result = cano(*args, "--store", "sqlite:///my%20typo.db?synchronous=normal&codec=zstd")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        "Error: the store 'sqlite:///my%20typo.db' does not exist; check the URL and the current directory "
        "(`cano run` creates a missing store)\n"
    )
    assert list(project.glob("*.db*")) == []


@pytest.mark.parametrize("args", LOOKING, ids=lambda args: args[0])
def test_any_store_may_say_that_it_is_not_there(
    cano: Cano, project: Path, store: str, install: Callable[..., None], args: list[str]
) -> None:
    """A store of anybody's has a method for that, which is called in place of `open`."""
    install("lazy", LAZY)
    (project / "there").touch()
    there = cano(*args, "--store", "lazy://there")
    missing = cano(*args, "--store", "lazy://missing")

    assert "does not exist" not in there.stderr
    assert missing.exit_code == 2
    assert missing.stderr.startswith("Error: the store 'lazy://missing' does not exist; check the URL")
    assert not (project / "missing").exists()


LAZY = """
    from pathlib import Path
    from cano import hookimpl
    from cano_sqlite import SqliteBackend

    class Lazy(SqliteBackend):
        async def exists(self):
            return self.place.exists()

        async def open(self):
            self.place.touch()
            await super().open()

    @hookimpl
    def cano_open_store(url):
        if not url.startswith("lazy://"):
            return None
        store = Lazy("lazy.db")
        store.place = Path(url.removeprefix("lazy://"))
        return store
"""


def test_unreachable_store(cano: Cano, project: Path) -> None:
    """A store that cannot be opened is a failure, told in a line: exit code 1."""
    (project / "folder").mkdir()
    result = cano("runs", "--store", "sqlite:///folder")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_no_runs(cano: Cano, store: str) -> None:
    """A store with nothing in it."""
    cano("recover", "shop")  # makes it
    assert cano("runs").stdout == "no runs\n"
    assert json.loads(cano("runs", "--json").stdout) == []


@pytest.mark.usefixtures("orders")
def test_runs(cano: Cano) -> None:
    """The newest first, with how they stand, and what is worth knowing beside that."""
    result = cano("runs")

    assert result.exit_code == 0
    assert re.sub(" {2,}", "  ", without_times(result.stdout)).splitlines() == [
        "run  workflow  status  state  steps  updated  note",
        "page  pages  succeeded  DONE  2  THEN",
        "shipped  shop  succeeded  shipped  3  THEN",
        "stopped  shop  interrupted  pay  1  THEN",
        "failed  shop  failed  pay  1  THEN  task 'pay' failed: ValueError: no money",
    ]


@pytest.mark.usefixtures("orders")
def test_some_runs(cano: Cano) -> None:
    """Those of one workflow, of one status, or the newest few; that there are more is told."""

    def ids(*args: str) -> list[str]:
        found = cano("runs", *args, "--json")
        return [run["run_id"] for run in json.loads(found.stdout)]

    assert ids() == ["page", "shipped", "stopped", "failed"]
    assert ids("--workflow", "shop") == ["shipped", "stopped", "failed"]
    assert ids("--status", "interrupted") == ["stopped"]
    assert ids("--status", "running") == []
    assert ids("--workflow", "shop", "--limit", "1") == ["shipped"]
    assert cano("runs", "--limit", "4").stderr == ""
    assert ids("--order", "created", "--limit", "2") == ["failed", "stopped"]
    assert ids("--order=-updated", "--status", "failed") == ["failed"]
    for first, rest in ((("--limit", "3"), ["failed"]), (("--order", "created", "--limit", "3", "--json"), ["page"])):
        told = cano("runs", *first).stderr
        cursor = told.removeprefix("there are more runs; --limit N shows more, --after ").removesuffix(" the next\n")
        assert ids(*first[: -1 if "--json" in first else None], "--after", cursor) == rest, told
    assert "add a status of runs that have ended" in cano("runs", "--order", "updated").stderr
    assert "is not the cursor of a list" in cano("runs", "--after", "page").stderr
    assert cano("runs", "--status", "odd").exit_code == 2


@pytest.mark.usefixtures("orders")
def test_runs_as_json(cano: Cano) -> None:
    """Every field of the records, for programs."""
    answer: dict[str, Any] = json.loads(cano("runs", "--status", "failed", "--json").stdout)[0]

    assert answer.pop("created") < answer.pop("updated")
    assert answer.pop("error")["type"] == "TaskError"
    assert answer == {
        "run_id": "failed",
        "workflow": "shop",
        "version": "1",
        "status": "failed",
        "state": "pay",
        "steps": 1,
        "parent": None,
        "holder": None,
        "lease_until": None,
        "waits_for": None,
    }


@pytest.mark.usefixtures("orders")
def test_show(cano: Cano) -> None:
    """A run with its data and history, by a process that knows nothing of the workflow: what is unreadable is named."""
    result = cano("show", "failed")

    assert result.exit_code == 0
    shown = re.sub(r"[\w/.-]*/shop\.py", "SHOP", without_times(result.stdout))
    assert re.sub(r"register\(\).*", "register()…)", shown) == (
        "run:       failed\n"
        "workflow:  shop, version 1\n"
        "status:    failed in state pay after 1 step\n"
        "why:       it failed: in state pay: task 'pay' failed: ValueError: no money; at SHOP:36 in pay; "
        "to retry from that state: cano resume MODULE:FLOW failed\n"
        "error:     TaskError: task 'pay' failed: ValueError: no money\n"
        "cause:     ValueError: no money\n"
        "at:        state pay, attempt 1\n"
        "created:   TIME (THEN)\n"
        "updated:   TIME (THEN)\n"
        "\n"
        "  Traceback (most recent call last):\n"
        '    File "SHOP", line 36, in pay\n'
        '      raise ValueError("no money")\n'
        "  ValueError: no money\n"
        "  \n"
        "  The above exception was the direct cause of the following exception:\n"
        "  \n"
        "  cano.errors.TaskError: task 'pay' failed: ValueError: no money\n"
        "  at run failed, workflow shop, state pay, attempt 1\n"
        "\n"
        "key    value\n"
        "order  (cannot decode the value: the class 'shop:Order' is not registered)\n"
        "\n"
        "step  time                       status   state  changed\n"
        "0     TIME  running  take\n"
        "1     TIME  running  pay    order\n"
    )
    assert result.stderr == "\nto read these values, name their workflow: --flow MODULE:FLOW\n"


def test_show_progress_and_children(cano: Cano, project: Path, write: Write, store: str) -> None:
    """A run shows how far its step came, and the runs that it started; as JSON also the traceback."""
    write(
        "long.py",
        """
        import asyncio
        import os
        from typing import Literal
        from cano import Kernel, SubWorkflow, TaskConfig, Workflow, current_step

        once = TaskConfig.minimal()
        part = Workflow("a", name="part", default_config=once).add_exit_state("b")

        @part.on("a")
        async def work(store) -> Literal["b"]:
            current_step().progress(3, 4, "parts")
            async with Kernel(store=os.environ["CANO_STORE"]) as other, asyncio.timeout(60):
                while (await other.get(current_step().run_id)).progress is None:
                    await asyncio.sleep(0)
            raise ValueError("password=hunter2")

        flow = Workflow("c", name="long", default_config=once).add_exit_state("d")
        flow.register("c", SubWorkflow(part, then="d"))
        """,
    )
    result = cano("run", "long:flow", "--run-id", "r")
    assert result.exit_code == 1, result.stderr
    answer = json.loads(cano("show", "r", "--json", "--redact").stdout)
    (child,) = answer["children"]
    assert f"children:  {child}\n" in cano("show", "r").stdout
    shown = json.loads(cano("show", child, "--json").stdout)
    assert shown["progress"] == {"done": 3, "total": 4, "message": "parts"}
    assert "password=hunter2" in shown["traceback"]
    assert "progress:  [#######...] 75% 3/4 parts\n" in cano("show", child).stdout
    assert "hunter2" not in cano("show", child, "--redact").stdout


@pytest.mark.usefixtures("orders")
def test_show_with_the_flow(cano: Cano) -> None:
    """With the workflow at hand its classes are known."""
    result = cano("show", "failed", "--flow", "shop")

    assert 'order  {"number": 7}\n' in result.stdout
    assert result.stderr == ""


@pytest.mark.usefixtures("orders")
def test_show_a_part_of_the_history(cano: Cano) -> None:
    """--after and --limit choose a part of the history; all else is shown as always."""
    for options, expected in (
        (("--after", "1"), [2, 3]), (("--limit", "1"), [0]), (("--after", "0", "--limit", "2"), [1, 2]),
        (("--after", "3"), []),
    ):  # fmt: skip
        answer: dict[str, Any] = json.loads(cano("show", "shipped", "--json", *options).stdout)
        assert [line["seq"] for line in answer["history"]] == expected
        assert answer["data"] == {"paid": True, "by": None}
    assert cano("show", "shipped", "--limit", "-1").exit_code == 2


@pytest.mark.usefixtures("orders")
def test_show_as_json(cano: Cano) -> None:
    """All of it for programs."""
    answer: dict[str, Any] = json.loads(cano("show", "shipped", "--json").stdout)

    assert answer["status"] == "succeeded"
    assert answer["why"] == {"reason": "SUCCEEDED", "text": "it has ended in success: in state shipped"}
    assert answer["data"] == {"paid": True, "by": None}
    assert list(answer["unreadable"]) == ["order"]
    assert "is not registered" in answer["unreadable"]["order"]
    assert answer["definition"].startswith("start take; exit shipped; ")
    assert [(line["seq"], line["state"], line["changed"], list(line["unreadable"])) for line in answer["history"]] == [
        (0, "take", {}, []),
        (1, "pay", {}, ["order"]),
        (2, "ship", {"paid": True}, []),
        (3, "shipped", {"by": None}, []),
    ]


@pytest.mark.usefixtures("orders")
def test_waiting(cano: Cano) -> None:
    """A run that waits: for what, and what follows."""
    recovered = cano("recover", "shop")
    shown = cano("show", "stopped")
    answer: dict[str, Any] = json.loads(cano("show", "stopped", "--json").stdout)

    assert recovered.exit_code == 0
    assert "\nstatus:    parked after 2 steps\n" in shown.stdout
    assert "\nwaits:     for signal 'approved', then ship\n" in shown.stdout
    assert "\ntoken:     stopped:2\n" in shown.stdout
    assert answer["waits_for"] == {
        "signal": "approved", "child": None, "until": None, "then": "ship", "on_timeout": None, "token": "stopped:2",
    }  # fmt: skip
    assert re.search(r"^stopped .* waits for signal 'approved', then ship$", cano("runs").stdout, re.MULTILINE)


@pytest.mark.usefixtures("orders")
def test_damage_is_shown(cano: Cano, store: str) -> None:
    """The list says of a corrupt row of a parked run that it is corrupt, not that it waits."""
    with closing(sqlite3.connect(store.removeprefix("sqlite:///"), isolation_level=None)) as connection:
        connection.execute("UPDATE runs SET seq = 99, status = 'parked'")

    shown = cano("runs").stdout.splitlines()[1:]

    assert len(shown) == 4
    assert all("parked" in each and each.endswith("the newest entry of its journal differ") for each in shown)


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("command", ["explain", "show"])
def test_a_changed_definition(cano: Cano, project: Path, write: Write, command: str) -> None:
    """With the workflow, a run that it cannot continue is explained so; what has changed is said."""
    (project / "stop").touch()
    cano("run", "shop", "--run-id", "r1")
    write("later.py", (project / "shop.py").read_text().replace('name="shop"', 'name="shop", version="2"'))

    assert "; to continue it: cano resume MODULE:FLOW r1\n" in cano(command, "r1").stdout
    assert "; to continue it: cano resume shop r1\n" in cano(command, "r1", "--flow", "shop").stdout
    changed = cano(command, "r1", "--flow", "later").stdout
    assert "to continue it" not in changed
    assert "its workflow has changed; " in changed
    assert "its version was '1', this one is '2'" in changed


@pytest.mark.usefixtures("orders")
def test_explain(cano: Cano) -> None:
    """One reason, for people and for programs."""
    result = cano("explain", "stopped")
    answer = json.loads(cano("explain", "stopped", "--json").stdout)

    assert result.stdout == "no process executes it: in state pay; to continue it: cano resume MODULE:FLOW stopped\n"
    assert answer == {
        "run_id": "stopped",
        "reason": "INTERRUPTED",
        "detail": "in state pay",
        "text": "no process executes it: in state pay; to continue it: cano resume MODULE:FLOW stopped",
    }


def test_removed_keys(cano: Cano, store: str, write: Write) -> None:
    """A key that a step has removed is told as such; what the engine keeps for itself is not shown."""
    write(
        "w.py",
        "from cano import *\n"
        "async def put(store):\n    store['a'] = store['b'] = 1\n    return 'y'\n"
        "async def drop(store):\n    store.remove('a')\n    return 'z'\n"
        "flow = Workflow('x', name='w', default_config=TaskConfig.minimal()).register('x', task(put))\n"
        "flow.register('y', task(drop)).add_exit_state('z')\n",
    )
    cano("run", "w", "--run-id", "r1")

    lines = cano("show", "r1").stdout.splitlines()
    answer: dict[str, Any] = json.loads(cano("show", "r1", "--json").stdout)

    assert [line.split()[-1] for line in lines[-2:]] == ["b", "-a"]
    assert [line["removed"] for line in answer["history"]] == [[], [], ["a"]]
    assert answer["data"] == {"b": 1}


def test_appended_items(cano: Cano, store: str, write: Write) -> None:
    """The items that a step has appended are told apart from the list that another has put."""
    write(
        "w.py",
        "from cano import *\n"
        "async def put(store):\n    store['a'] = [1]\n    return 'y'\n"
        "async def add(store):\n    store.append('a', 2)\n    store.append('a', 3)\n    return 'z'\n"
        "flow = Workflow('x', name='w', default_config=TaskConfig.minimal()).register('x', task(put))\n"
        "flow.register('y', task(add)).add_exit_state('z')\n",
    )
    cano("run", "w", "--run-id", "r1")

    answer: dict[str, Any] = json.loads(cano("show", "r1", "--json").stdout)

    assert [line["changed"] for line in answer["history"]] == [{}, {"a": [1]}, {}]
    assert [line["appended"] for line in answer["history"]] == [{}, {}, {"a": [2, 3]}]
    assert answer["data"] == {"a": [1, 2, 3]}


SECRETS = """
    import asyncio, signal

    from cano import TaskConfig, Workflow, current_step, task, wait_for

    @task
    async def log_in(store):
        if stops.pop() == "stop":
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        return wait_for("login", then="use")

    @task
    async def use(store):
        raise ValueError("GET https://ada:hunter2@host/?access_token=hunter2 failed")

    stops = ["", "stop"]
    flow = Workflow("log_in", name="secrets", default_config=TaskConfig.minimal())
    flow.register("log_in", log_in).register("use", use).add_exit_state("done")
"""


@pytest.mark.parametrize("extra", [[], ["--json"]])
@pytest.mark.parametrize("by", ["option", "variable"])
def test_show_without_secrets(
    cano: Cano, store: str, write: Write, monkeypatch: pytest.MonkeyPatch, extra: list[str], by: str
) -> None:
    """With --redact, no secret of the data, the payload, the history or the error is shown; the rest is."""
    write("secrets_flow.py", SECRETS)
    data = ['db_password="hunter2"', 'user={"name": "Ada", "apiKey": "hunter2"}', 'url="postgres://ada:hunter2@db/x"']
    cano("run", "secrets_flow", "--run-id", "r1", *(part for each in data for part in ("--data", each)))
    sent = cano("signal", "r1", "login", '{"client_secret": "hunter2", "by": "Bob"}')
    assert "hunter2" not in sent.output
    cano("run", "secrets_flow", "--run-id", "r1")
    plain = cano("show", "r1", *extra)
    if by == "variable":
        monkeypatch.setenv("CANO_REDACT", "1")
    shown = cano("show", "r1", *extra, *(["--redact"] if by == "option" else []))

    assert plain.output.count("hunter2") >= 6
    assert "hunter2" not in shown.output
    assert shown.output.count("[redacted]") >= 6
    for text in ("Ada", "db_password", "@db/x", "@host/?access_token=", "failed"):
        assert text in shown.output


@pytest.mark.usefixtures("orders")
def test_runs_are_filtered_by_a_text(cano: Cano) -> None:
    """`--where` selects what is listed and counted; a mistake is a usage error that names its place."""
    listed = cano("runs", "--where", "workflow = shop and error = ValueError and updated > 1h ago", "--json")
    counted = cano("runs", "--count", "--where", "created > 1h ago")
    as_json = cano("runs", "--count", "--json", "--workflow", "shop", "--where", "updated < 1h ago")
    wrong = cano("runs", "--where", "status = faild")

    assert [run["run_id"] for run in json.loads(listed.stdout)] == ["failed"]
    assert counted.stdout == "4\n"
    assert json.loads(as_json.stdout) == {"count": 0}
    assert wrong.exit_code == 2
    assert "is wrong at column 10, 'faild': there is no such status (did you mean 'failed'?)" in wrong.stderr
