"""Worker processes: they are killed, hang, come and go with the process that uses them."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ExecutorUnavailableError,
    Kernel,
    RunStatus,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    WorkerLostError,
)
from cano.testing import executor_calls
from cano.testing.contract_executor import appears, call_of
from cano_process import ProcessExecutor

from tests.clocks import Passing
from tests.plugins.process.killing import run_with_a_killed_worker
from tests.plugins.process.programs import State, flow

Data = dict[str, Any]
HANGS = TaskConfig(executor="cpu", timeout=60)


def pid_in(folder: Path) -> int:
    """The process that a task has told."""
    return int((folder / "began").read_text())


def alive(pid: int) -> bool:
    """Whether a process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_task_that_hangs_is_killed(workers: Any, data: Data) -> None:
    """Its attempt times out, its process is gone, nothing is abandoned, and the next call has a new worker."""
    clock, folder = Passing(), Path(data["folder"])
    async with Kernel(executor={"cpu": workers}, clock=clock, block=["retry"]) as kernel:
        hangs = asyncio.ensure_future(kernel.run(flow(config=HANGS), data | {"does": "hold"}))
        await appears(folder / "began")
        await clock.advance(60)
        with pytest.raises(StepTimeoutError) as caught:
            await hangs

        assert caught.value.abandoned is False
        assert not alive(pid_in(folder))
        (folder / "go").touch()
        await kernel.run(flow(), data | {"does": "finish"})
        assert not (folder / "done").exists()


async def test_a_cancelled_run_is_killed(kernel: Kernel, data: Data) -> None:
    """Cancelling a run stops what it executes elsewhere, before the cancellation has returned."""
    handle = await kernel.start(flow(), data | {"does": "hold"})
    await appears(Path(data["folder"], "began"))
    await handle.cancel()

    assert handle.status().status is RunStatus.CANCELLED
    assert not alive(pid_in(Path(data["folder"])))


async def test_a_worker_killed_in_mid_step(kernel: Kernel, tmp_path: Path) -> None:
    """Another worker executes the step again; it is the same attempt, and the result is that of one execution."""
    await run_with_a_killed_worker(kernel, tmp_path)


async def test_two_lost_workers_are_no_attempt(kernel: Kernel, data: Data) -> None:
    """A task without retries survives two killed workers."""
    assert (await kernel.run(flow(), data | {"does": "die twice"})).data["attempt"] == 1


async def test_a_task_that_kills_every_worker(kernel: Kernel) -> None:
    """After three lost workers the attempt fails, and the error says how the last one ended."""
    data = {"does": "die", "parent": 0}
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(kill), data)
    error = caught.value.__cause__

    assert isinstance(error, WorkerLostError)
    assert error.losses == 3
    assert "was killed by SIGKILL" in str(error)


def kill(store: Any) -> Any:
    """Kill the process."""
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_task_that_closes_the_socket(kernel: Kernel) -> None:
    """Its worker, which cannot answer, ends; otherwise the run would wait for it for ever."""
    with pytest.raises(TaskError) as caught:
        await kernel.run(flow(close_all), {})

    assert isinstance(caught.value.__cause__, WorkerLostError)


def close_all(store: Any) -> Any:
    """Close all files, as programs do that detach from their parent."""
    os.closerange(3, 100)
    return State.DONE


async def test_calls_begin_by_priority(tmp_path: Path) -> None:
    """Of the calls that wait for the only worker, those with the largest priority begin first, then the oldest."""
    order: list[int] = []
    executor = ProcessExecutor(1)
    first = asyncio.ensure_future(executor.submit(call_of(executor_calls.hold, tmp_path)))
    await appears(tmp_path / "began")

    async def submit(priority: int, number: int) -> None:
        await executor.submit(call_of(executor_calls.echo, priority=priority))
        order.append(number)

    async with asyncio.TaskGroup() as group:
        for number, priority in enumerate([0, 5, -1, 5]):
            group.create_task(submit(priority, number))
        await asyncio.sleep(0)  # they are in the queue, since nothing before that awaits
        (tmp_path / "go").touch()
    await first
    await executor.close()

    assert order == [1, 3, 0, 2]


async def test_any_event_loop_may_use_it(workers: Any) -> None:
    """Calls come from several loops at once, each in a thread of its own."""

    def use(number: int) -> bytes:
        call = call_of(executor_calls.echo, b"%d" % number)
        return bytes(asyncio.run(workers.submit(call)))

    with ThreadPoolExecutor(4) as pool:
        answers = await asyncio.gather(*(asyncio.to_thread(use, n) for n in range(8)))
        assert [*pool.map(use, range(8))] == answers == [b"%d" % number for number in range(8)]


async def test_closing_and_opening_again() -> None:
    """A closed executor takes no call; opened again, it does, and it starts new workers."""
    executor = ProcessExecutor(1)
    assert await executor.submit(call_of(executor_calls.echo, b"1")) == b"1"
    await executor.close()
    with pytest.raises(ExecutorUnavailableError, match="is closed"):
        await executor.submit(call_of(executor_calls.echo))
    await executor.open()
    assert await executor.submit(call_of(executor_calls.echo, b"2")) == b"2"
    await executor.close()
    await executor.close()


async def test_no_worker_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call fails with the reason; the next one tries again."""
    executor = ProcessExecutor(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(ExecutorUnavailableError, match=r"no worker process can be started: .*/nowhere/python"):
            await executor.submit(call_of(executor_calls.echo))
    assert await executor.submit(call_of(executor_calls.echo, b"2")) == b"2"
    await executor.close()


PROGRAM = """
import asyncio, os, sys
from cano import Kernel, TaskConfig, Workflow, task
from cano.testing import executor_calls

@task(config=TaskConfig(executor="cpu"))
def work(store):
    print("from the worker", flush=True)
    store["pid"] = os.getpid()
    if store["holds"]:
        executor_calls.hold(os.fsencode(store["holds"]))
    return "done"

flow = Workflow("work").register("work", work).add_exit_state("done")

async def main(folder):
    async with Kernel(executor={"cpu": "process://?workers=1"}) as kernel:
        result = await kernel.run(flow, {"holds": folder})
        print(result.data["pid"] != os.getpid())

GUARD
"""
MAIN = """if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))"""


def executed(folder: Path, guard: str) -> subprocess.CompletedProcess[str]:
    """The program, executed to its end."""
    (folder / "program.py").write_text(PROGRAM.replace("GUARD", guard))
    command = [sys.executable, str(folder / "program.py"), ""]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_tasks_of_the_main_program(tmp_path: Path) -> None:
    """A worker finds the tasks of the program itself, and prints where the program prints."""
    done = executed(tmp_path, MAIN)

    assert (done.returncode, done.stdout) == (0, "from the worker\nTrue\n"), done.stderr


def test_a_program_without_a_guard(tmp_path: Path) -> None:
    """A program that starts its kernel while a worker imports it is told what to do, and ends."""
    done = executed(tmp_path, "asyncio.run(main(''))")

    assert done.returncode == 1
    assert "put the part that starts the kernel behind `if __name__ == '__main__':`" in done.stderr
    last = done.stderr[done.stderr.rindex("WorkerLostError") :]
    assert "could not import the program; its traceback is on stderr; put the part that starts the kernel" in last


def test_workers_end_with_their_program(tmp_path: Path) -> None:
    """A worker does not outlive a program that is killed, not even in the middle of a task."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.replace("GUARD", MAIN))
    with subprocess.Popen([sys.executable, program, tmp_path], text=True) as process:
        asyncio.run(appears(tmp_path / "began"))
        worker = os.pidfd_open(pid_in(tmp_path))
        process.kill()
    ended = select.select([worker], [], [], 60)[0]
    os.close(worker)
    assert ended == [worker]
