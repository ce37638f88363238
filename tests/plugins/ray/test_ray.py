"""A Ray cluster keeps every promise of an executor; and what is Ray's own: its resources, errors and addresses.

All in one file, so that one process of the tests starts one cluster.
"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    ExecutorUnavailableError,
    Kernel,
    TaskConfig,
    TaskError,
)
from cano.testing import ExecutorContract, executor_calls
from cano.testing.contract_executor import appears, call_of
from cano_ray import RayExecutor, worker

from tests.plugins.process.killing import check_that_a_stored_run_survives
from tests.plugins.process.live import check_that_reports_are_live
from tests.plugins.process.programs import State, flow
from tests.servers import ray as servers

FINISH: dict[str, Any] = {"parent": os.getpid(), "does": "finish"}


class TestRay(ExecutorContract):
    """A head, and two places on one node."""

    @pytest.fixture(autouse=True)
    def use(self, ray_cluster: str) -> None:
        """Connect to the cluster."""

    def make_executor(self) -> RayExecutor:
        """Return an executor that uses the connection of this process."""
        return RayExecutor()


async def test_a_worker_is_killed_in_mid_step(ray_cluster: str, tmp_path: Path) -> None:
    """Another worker executes the step; it is the same attempt, and is committed once."""
    await check_that_a_stored_run_survives(f"sqlite:///{tmp_path}/runs.db", RayExecutor(), tmp_path)


async def test_items_and_progress_are_live(ray_cluster: str, tmp_path: Path) -> None:
    """What a task flushes, and its progress, is there while the task still executes."""
    await check_that_reports_are_live(RayExecutor(), f"sqlite:///{tmp_path}/runs.db", tmp_path)


async def test_reports_that_cannot_be_sent_come_with_the_answer(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that the workers cannot reach, behind a firewall, say, gets the reports at the end, in order."""
    (tmp_path / "go").touch()
    reports: list[bytes] = []
    executor = RayExecutor()
    await executor.open()
    assert executor._listener is not None
    executor._listener.address = "127.0.0.1", 1
    assert await executor.submit(call_of(executor_calls.tell, tmp_path)._replace(report=reports.append)) == b"told"
    await executor.close()
    assert reports == [b"%d" % number for number in range(executor_calls.REPORTS)] + [b"\0" * 100_000]


async def test_a_connection_without_the_token_is_closed(ray_cluster: str) -> None:
    """Nothing that a stranger sends is taken for a report."""
    reports: list[bytes] = []
    executor = RayExecutor()
    await executor.open()
    assert executor._listener is not None
    executor._channel.open("k", reports.append)
    reader, writer = await asyncio.open_connection(*executor._listener.address)
    writer.write(b"x" * worker.TOKEN_BYTES + worker.FRAME.pack(1, 1) + b"kx")
    assert await reader.read() == b""
    writer.close()
    assert reports == []
    await executor.close()


PROGRAM = """
import asyncio, os, signal, sys
from cano import Kernel, KeyValueStore, TaskConfig, Workflow, task

@task(config=TaskConfig(executor="cpu"))
def work(store: KeyValueStore) -> str:
    store["pid"] = os.getpid()
    return "done"

flow = Workflow("work").register("work", work).add_exit_state("done")

async def main() -> None:
    async with Kernel(executor={"cpu": sys.argv[1]}) as kernel:
        result = await kernel.run(flow, {})
        print(result.data["pid"] != os.getpid(), signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)

if __name__ == "__main__":
    asyncio.run(main())
"""


def test_a_program_connects_to_a_cluster(ray_cluster: str, tmp_path: Path) -> None:
    """Workers find the tasks of the program itself, and Ray leaves its signals and its output alone."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "program.py"), f"ray://{ray_cluster}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)

    assert (done.returncode, done.stdout) == (0, "True True\n"), done.stderr


async def test_cancelling_ends_the_process(ray_cluster: str, tmp_path: Path) -> None:
    """Ray ends the process of a cancelled call, though it does not say when it has."""
    async with Kernel(executor={"cpu": RayExecutor()}) as kernel:
        executor = kernel.executors["cpu"]
        assert isinstance(executor, RayExecutor)
        held = asyncio.ensure_future(executor.submit(call_of(executor_calls.hold, tmp_path)))
        await appears(tmp_path / "began")
        process = os.pidfd_open(int((tmp_path / "began").read_text()))
        held.cancel()
        await asyncio.wait([held])
        ended, _, _ = await asyncio.to_thread(select.select, [process], [], [], 60)
        os.close(process)
    assert ended == [process]
    assert executor.abandons is True


async def test_resources(ray_cluster: str) -> None:
    """GPUs, CPUs and other resources are Ray's. A call waits as long as no node has its resource."""
    async with Kernel(executor={"cpu": RayExecutor()}) as kernel:
        for resources in ({"GPU": 1}, {"TPU": 1, "CPU": 2}):
            config = TaskConfig(executor="cpu", resources=resources)
            assert (await kernel.run(flow(config=config), FINISH)).data["told"][0] is True
        none = TaskConfig(executor="cpu", resources={"CPU": servers.PLACES + 1})
        waiting = asyncio.ensure_future(kernel.run(flow(config=none), FINISH))
        await kernel.run(flow(), FINISH)
        assert not waiting.done()
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_another_event_loop(ray_cluster: str) -> None:
    """Calls may come from any event loop; the connection is watched in the one that opened it."""
    executor = RayExecutor(ray_cluster)
    await executor.open()

    def use() -> bytes:
        return bytes(asyncio.run(executor.submit(call_of(executor_calls.echo, b"there"))))

    assert await asyncio.to_thread(use) == b"there"
    await executor.close()


@pytest.mark.parametrize("executor", [RayExecutor("127.0.0.1:1"), RayExecutor(workers=1)], ids=["address", "workers"])
async def test_connected_to_another_cluster(ray_cluster: str, executor: RayExecutor) -> None:
    """A process has one connection to Ray, and the error says to what."""
    with pytest.raises(ConfigurationError, match=f"the program is connected to the Ray cluster at {ray_cluster} alre"):
        await executor.open()
    with pytest.raises(ExecutorUnavailableError, match="is closed"):
        await executor.submit(call_of(executor_calls.echo))
    await executor.close()


async def test_no_head(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not start, and the error names the address, at once."""
    servers.require_ray()
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ExecutorUnavailableError, match=f"the Ray cluster at {address} does not answer"):
            async with Kernel(executor=f"ray://{address}"):
                pass


async def test_ray_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'cano-ray\[ray\]'"):
        await RayExecutor().open()


async def test_a_program_without_a_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that imports the main program does not start its kernel again."""
    monkeypatch.setitem(sys.modules, "__mp_main__", sys)
    with pytest.raises(ConfigurationError, match="put the part that starts the kernel behind"):
        await RayExecutor().open()


async def test_the_head_is_killed(ray_cluster: str, tmp_path: Path) -> None:
    """The step fails at once with a clear error, Ray is disconnected, and the stored run is resumed elsewhere."""
    data: dict[str, Any] = {"parent": os.getpid(), "folder": str(tmp_path), "does": "hold"}
    store = f"sqlite:///{tmp_path}/runs.db"
    executor = RayExecutor()
    async with Kernel(store=store, executor={"cpu": executor}, block=["retry"]) as kernel:
        executor._owns = True  # as if it had started the cluster; to start another one takes seconds
        run = asyncio.ensure_future(kernel.run(flow(), data, run_id="r"))
        await appears(tmp_path / "began")
        servers.kill_head()
        with pytest.raises(TaskError) as caught:
            await run
        error = caught.value.__cause__
        assert isinstance(error, ExecutorUnavailableError)
        assert f"the Ray cluster at {ray_cluster} was lost: its head has ended" in str(error)
    assert servers.disconnected() is False  # Ray would end this process after a minute

    (tmp_path / "go").touch()
    async with Kernel(store=store, executor={"cpu": "process://?workers=1"}) as kernel:
        assert (await kernel.resume(flow(), "r")).state is State.DONE
        assert len([entry for entry in await kernel.history("r") if entry.seq]) == 1
