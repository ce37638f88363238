"""A directory with modules of a user's own, and the command to try on them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cano_cli.main import make_app
from click.testing import CliRunner, Result

NOT_A_DURATION = "is not a positive number of seconds, or a duration such as 15m, 2h30m or 7d"

FLOWS = """
    import enum
    from typing import Literal

    from cano import TaskConfig, Workflow, task


    class State(enum.Enum):
        FETCH = 1
        PARSE = 2
        DONE = 3


    @task
    async def fetch(store) -> Literal[State.PARSE]:
        print("fetching for", store.get("name", default="nobody"))
        return State.PARSE


    @task
    async def parse(store) -> Literal[State.DONE]:
        if "broken" in store:
            raise ValueError("bad page")
        store["pages"] = [1, 2]
        return State.DONE


    def build() -> Workflow[State]:
        flow = Workflow(State.FETCH, name="pages", default_config=TaskConfig.minimal())
        return flow.register(State.FETCH, fetch).register(State.PARSE, parse).add_exit_state(State.DONE)


    flow = build()
"""

SHOP = """
    import asyncio, os, signal
    from dataclasses import dataclass

    from cano import TaskConfig, Workflow, current_step, task, wait_for


    @dataclass
    class Order:
        number: int


    def note(line):
        with open("journal", "a") as journal:
            journal.write(line + "\\n")


    @task
    async def take(store):
        note("take")
        store["order"] = Order(store.get("number", default=7))
        return "pay"


    @task
    async def pay(store):
        note("pay")
        if os.path.exists("hold"):
            print("paying", flush=True)
            await asyncio.Event().wait()
        if os.path.exists("stop"):
            os.remove("stop")  # no other process may stop as well, if it takes the run over at once
            signal.raise_signal(signal.SIGINT)
            await asyncio.Event().wait()
        if os.path.exists("broken"):
            raise ValueError("no money")
        store["paid"] = True
        return wait_for("approved", then="ship") if "wait" in store else "ship"


    @task
    async def ship(store):
        note("ship")
        store["by"] = current_step().payload
        return "shipped"


    flow = Workflow("take", name="shop", default_config=TaskConfig.minimal(), types=[Order])
    flow.register("take", take).register("pay", pay).register("ship", ship).add_exit_state("shipped")
"""


def error_of(result: Result) -> str:
    """What a command has said on stderr, without the usage that precedes click's own errors."""
    return re.sub(r"\AUsage: .*\nTry .*\n\n", "", result.stderr)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file into the project."""

    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, str], Path]) -> Iterator[Path]:
    """The current directory: it has a module `flows`, and leaves nothing imported behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("CANO_BLOCK", "structlog")  # it writes to stderr, which these tests compare
    monkeypatch.delenv("CANO_STORE", raising=False)
    write("flows.py", FLOWS)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C interrupts, also where whoever started the tests has had it ignored: in the background, say."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cano() -> Callable[..., Result]:
    """Run the command in this process. What it does not catch, it raises."""

    def cano(*args: str) -> Result:
        return CliRunner().invoke(make_app(), args, prog_name="cano", catch_exceptions=False)

    return cano


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, write: Callable[[str, str], Path]) -> str:
    """A store that outlives the process, which the commands find by themselves; and a module `shop` to fill it with.

    Files in the current directory say what is to happen to an order: `hold`, `stop` or `broken`.
    """
    url = "sqlite:///runs.db"
    monkeypatch.setenv("CANO_STORE", url)
    write("shop.py", SHOP)
    return url


@pytest.fixture
def start(project: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the command as a process of its own, with pipes; what is still running at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*args: str, **options: Any) -> subprocess.Popen[str]:
        settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen(
            # -P: the current directory is on the path only if the command puts it there
            [sys.executable, "-P", "-c", "from cano_cli.main import main; main()", *args],
            # whoever started the tests may have had Ctrl-C ignored
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            cwd=project,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            **settings,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


@pytest.fixture
def install(write: Callable[[str, str], Path], project: Path) -> Callable[..., None]:
    """Install a plugin: a module, and the distribution that names it."""

    def install(name: str, code: str, *, distribution: str | None = None, version: str = "1.2") -> None:
        module = f"plugin_{name}"
        write(f"site/{module}.py", code)
        title = distribution or f"cano-{name}"
        folder = f"site/{title.replace('-', '_')}-{version}.dist-info"
        write(f"{folder}/METADATA", f"Metadata-Version: 2.1\nName: {title}\nVersion: {version}\n")
        write(f"{folder}/entry_points.txt", f"[cano]\n{name} = {module}\n")
        if (site := str(project / "site")) not in sys.path:
            sys.path.insert(0, site)

    return install
