"""Write golden data: stores with runs in every stored form, written by the program as it is now.

    python -m tests.acceptance.golden.write FOLDER [KIND ...]

makes FOLDER and writes the files of these kinds of stores to it, by default of all: `sqlite`; `postgres` and `redis`,
whose servers it starts by itself; `lmdb`; and stores with a layer around the codec: SQLite files `zstd`, `encrypt` and
`offload`, and `encrypt-postgres` and `encrypt-redis`.

The folders beside this file are a series. Version 0.1.0 wrote the first one, `001-0.1.0`. Write the next one before you
change the stored form, and when you publish a version:

    python -m tests.acceptance.golden.write tests/acceptance/golden/002-0.2.0

The tests run over all folders, and over a SQLite file that the present program writes. Never write a folder a second
time: if its tests fail, repair the program, or give it a migration.

A process of its own plays each act (see `acts`), and is killed if the act says so. Clocks stand still, so that two
folders differ only in process ids, random ids, and the stored form.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from tests.acceptance.golden.acts import ACTS, Act
from tests.acceptance.golden.kernels import kernel_at
from tests.acceptance.golden.kinds import KEYS, KINDS
from tests.acceptance.golden.schedules import scheduler_on
from tests.acceptance.golden.times import MINUTE, WRITTEN


def write(folder: Path, kind: str) -> None:
    """Write the file of one kind of store to `folder`."""
    with tempfile.TemporaryDirectory() as scratch, KINDS[kind].new(folder, Path(scratch)) as url:
        stopped: int | None = None
        try:
            for number, act in enumerate(ACTS):
                if KINDS[kind].layered and not act.layered:
                    continue
                now = WRITTEN + (number * MINUTE if act.after is None else act.after)
                process = play(act, url, now)
                kill(stopped)
                stopped = process
        finally:
            kill(stopped)


def kill(process: int | None) -> None:
    """Kill a stopped process, if there is one."""
    if process is not None:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def play(act: Act, url: str, now: float) -> int | None:
    """Play an act in a new process. Return the process id if the process was stopped.

    Raises:
        RuntimeError: the process did not end as the act says.
    """
    process = os.fork()
    if process == 0:
        try:
            asyncio.run(act.play(url, now))
        except BaseException:  # noqa: BLE001  # the child must not execute the rest of the writer
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, os.WUNTRACED)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    how = "killed" if killed else "stopped" if os.WIFSTOPPED(status) else "exits" if status == 0 else "fails"
    if how != act.ends:
        raise RuntimeError(f"an act should end with {act.ends!r}, but {how}: {act}")
    return process if how == "stopped" else None


def main(folder: Path, kinds: list[str]) -> None:
    """Write the files of `kinds` to `folder`."""
    os.environ["CANO_ENCRYPTION_KEYS"] = KEYS
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:  # imports, once, the modules that all acts need
        asyncio.run(ACTS[0].play(f"sqlite:///{scratch}/warm-up.db", WRITTEN))
        scheduler_on(kernel_at("memory://", WRITTEN))
    for kind in kinds or KINDS:
        write(folder, kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
