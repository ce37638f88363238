"""Several processes on one file: none is locked out, nothing is lost, and a killed one leaves whole commits."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cano import RunFilter
from cano.testing.contract_base import loaded
from cano_sqlite import SqliteBackend

pytestmark = pytest.mark.slow

PROGRAM = """
import asyncio, sys
from cano.testing.contract_base import new_run, step
from cano_sqlite import SqliteBackend

path, name, runs, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

async def drive(store, run_id):
    await store.create(new_run(run_id, holder=name))
    for seq in range(1, steps + 1):
        value = f"{run_id} {seq}".encode()
        await store.commit(step(seq, run_id, changed={"last": value, f"k{seq % 3}": value}))
        print(run_id, seq, sep="/")

async def main():
    store = SqliteBackend(path, snapshot_every=7)
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    await asyncio.gather(*(drive(store, f"{name}-{number}") for number in range(runs)))
    await store.close()

sys.stdout.reconfigure(line_buffering=True)
asyncio.run(main())
"""


def start(path: Path, name: str, runs: int, steps: int) -> subprocess.Popen[str]:
    """Start a process that executes runs concurrently, and prints each acknowledged commit."""
    arguments = [sys.executable, "-W", "error", "-c", PROGRAM, str(path), name, str(runs), str(steps)]
    return subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def listening(process: subprocess.Popen[str]) -> Iterator[list[str]]:
    """Collect the lines that a process prints while in here; kill it at the end."""
    assert process.stdout is not None
    printed: list[str] = []
    listener = threading.Thread(target=printed.extend, args=(process.stdout,))
    listener.start()
    try:
        yield printed
    finally:
        process.kill()
        listener.join()


def go(*processes: subprocess.Popen[str]) -> None:
    """Start the processes' work when all are ready."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()


async def check(store: SqliteBackend, run_id: str, acknowledged: int) -> int:
    """Check that a run has all acknowledged commits, and the data of its last ones."""
    run = await loaded(store, run_id)
    assert run.seq >= acknowledged
    made = [line.seq for line in await store.history(run_id)]
    assert made == [*range(run.seq + 1)]
    recent = {f"k{seq % 3}": f"{run_id} {seq}".encode() for seq in range(max(1, run.seq - 2), run.seq + 1)}
    assert run.data == ({"last": f"{run_id} {run.seq}".encode()} | recent if run.seq else {})
    return run.seq


def test_eight_processes(path: Path) -> None:
    """Eight processes that open a new file and write to it at once all succeed, and nothing is lost."""
    with ExitStack() as stack:
        processes = [stack.enter_context(start(path, f"p{number}", 4, 25)) for number in range(8)]
        go(*processes)
        for process in processes:
            printed, error = process.communicate(timeout=100)
            assert (error, process.returncode) == ("", 0)
            assert len(printed.splitlines()) == 100

    async def look() -> None:
        store = SqliteBackend(path)
        await store.open()
        assert len(await store.runs(RunFilter())) == 32
        for number in range(8):
            for run in range(4):
                assert await check(store, f"p{number}-{run}", 25) == 25
        await store.close()

    asyncio.run(look())


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_killed_processes(path: Path) -> None:
    """A process that is killed at any moment loses no acknowledged commit, and leaves no half of one.

    Others that write at the same time do not notice.
    """
    chance = random.Random()
    rounds = 60 if os.environ.get("CANO_SOAK") else 6
    with start(path, "survivor", 5, 1_000_000) as survivor:
        go(survivor)
        with listening(survivor) as survived:
            for number in range(rounds):
                with start(path, f"victim{number}", 10, 1_000_000) as victim:
                    go(victim)
                    assert victim.stdout is not None
                    printed = [victim.stdout.readline() for _ in range(chance.randrange(1, 80))]
                    for _ in range(chance.randrange(100_000)):
                        pass  # at some moment within a transaction
                    victim.kill()
                    printed += victim.stdout
                asyncio.run(look_after(path, printed))
            assert survivor.poll() is None
        asyncio.run(look_after(path, survived))


async def look_after(path: Path, printed: list[str]) -> None:
    """Check all runs of a killed process."""
    acknowledged: dict[str, int] = {}
    for line in printed:
        if not line.endswith("\n"):
            continue
        run_id, _, seq = line.rpartition("/")
        assert int(seq) == acknowledged.get(run_id, 0) + 1
        acknowledged[run_id] = int(seq)
    store = SqliteBackend(path)
    await store.open()
    made = [await check(store, run_id, seq) for run_id, seq in acknowledged.items()]
    assert made
    assert all(seq <= said + 1 for seq, said in zip(made, acknowledged.values(), strict=True))
    await store.close()


async def test_what_another_process_changes_is_seen(path: Path) -> None:
    """Reads see a commit of another process as soon as that process has its acknowledgement."""
    store = SqliteBackend(path)
    await store.open()
    with start(path, "other", 1, 20) as process:
        go(process)
        assert process.stdout is not None
        for seq in range(1, 21):
            assert process.stdout.readline() == f"other-0/{seq}\n"
            assert (await loaded(store, "other-0")).seq >= seq
        assert process.communicate(timeout=60)[1] == ""
    await store.close()
