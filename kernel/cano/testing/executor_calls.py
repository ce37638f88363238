"""Functions and a workflow that the contract of executors executes elsewhere."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cano.data.store import Key, KeyValueStore
from cano.engine.step import current_step
from cano.model.config import TaskConfig
from cano.model.node import Node
from cano.model.split import JoinConfig, JoinStrategy
from cano.model.task import task
from cano.model.workflow import Workflow

EXECUTOR = "elsewhere"
"""The name of the executor that the workflow's tasks name."""
PAUSE = 0.005
REPORTS = 50
COUNTS = Key("counts", dict[str, int], reducer=lambda old, new: {**old, **new})


def echo(data: bytes) -> bytes:
    """Return the bytes."""
    return data


def fail(data: bytes) -> bytes:
    """Raise ValueError."""
    raise ValueError("this call fails")


def note(path: bytes) -> bytes:
    """Append a line to a file."""
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    return b""


def hold(folder: bytes) -> bytes:
    """Make a file `began`, with this process's PID, wait for a file `go`, and make a file `done`; a minute at most."""
    here = Path(os.fsdecode(folder))
    (here / "beginning").write_text(str(os.getpid()), encoding="utf-8")
    (here / "beginning").rename(here / "began")
    for _ in _moments():
        if (here / "go").exists():
            break
    (here / "done").touch()
    return b"done"


def tell(folder: bytes, report: Callable[[bytes], object]) -> bytes:
    """Report many values, and one more from a thread; wait for a file `go` in between."""
    for number in range(REPORTS):
        report(b"%d" % number)
    hold(folder)
    thread = threading.Thread(target=report, args=(b"\0" * 100_000,))
    thread.start()
    thread.join()
    return b"told"


def die(data: bytes) -> bytes:
    """Kill the process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return data


def _moments() -> Iterator[None]:
    for _ in range(int(60 / PAUSE)):
        yield
        time.sleep(PAUSE)


# a workflow


class Words(Node[str, str, tuple[str, int]]):
    """Counts the words of a text."""

    def __init__(self, longer_than: int) -> None:
        super().__init__(TaskConfig(executor=EXECUTOR))
        self.longer_than = longer_than

    async def prep(self, store: KeyValueStore) -> str:
        """Read the text."""
        return store.get("text", str)

    async def exec(self, prepared: str) -> tuple[str, int]:
        """Count."""
        return "total", sum(len(word) > self.longer_than for word in prepared.split())

    async def post(self, store: KeyValueStore, prepared: str, result: tuple[str, int]) -> str:
        """Write."""
        name, number = result
        store[name] = number
        return "COUNT"


def first(store: KeyValueStore) -> Any:
    """Count the first letter of each word."""
    store[COUNTS] = {word[0]: 1 for word in store.get("text", str).split()}


async def longest(store: KeyValueStore) -> Any:
    """Find the longest word."""
    store["longest"] = max(store.get("text", str).split(), key=len)
    store.append("keys", current_step().idempotency_key)


@task
def once(store: KeyValueStore) -> str:
    """Kill the process if it is the first to come here."""
    try:
        Path(store.get("folder", str), "killed").touch(exist_ok=False)
    except FileExistsError:
        store["attempt"] = current_step().attempt
        return "DONE"
    if store.get("kills", bool):
        os.kill(os.getpid(), signal.SIGKILL)
    store["attempt"] = current_step().attempt
    return "DONE"


def word_count() -> Workflow[str]:
    """Return a workflow of a node, a split, and a task that kills its first worker if the run's data says so."""
    flow: Workflow[str] = Workflow("WORDS", name="words", default_config=TaskConfig(executor=EXECUTOR))
    flow.register("WORDS", Words(2))
    flow.register_split("COUNT", [first, longest], JoinConfig(JoinStrategy.all(), "ONCE"))
    return flow.register("ONCE", once).add_exit_state("DONE")
