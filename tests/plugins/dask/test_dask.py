"""What is Dask's own: its scheduler, resources and clusters of this machine."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ExecutorUnavailableError,
    Kernel,
    StepTimeoutError,
    TaskConfig,
    TaskError,
    WorkerLostError,
)
from cano.testing import executor_calls
from cano.testing.contract_executor import appears, call_of
from cano_dask import DaskExecutor

from tests.plugins.process.killing import check_that_a_stored_run_survives
from tests.plugins.process.live import check_that_reports_are_live
from tests.plugins.process.programs import State, flow
from tests.servers.dask import DaskCluster


async def test_the_scheduler_is_killed(tmp_path: Path) -> None:
    """The step that it executes fails with a clear error; with another cluster the stored run is resumed."""
    data: dict[str, Any] = {"parent": os.getpid(), "folder": str(tmp_path), "does": "hold"}
    store = f"sqlite:///{tmp_path}/runs.db"
    with DaskCluster(tmp_path) as cluster:
        async with Kernel(store=store, executor={"cpu": DaskExecutor(cluster.address)}, block=["retry"]) as kernel:
            run = asyncio.ensure_future(kernel.run(flow(), data, run_id="r"))
            await appears(tmp_path / "began")
            os.killpg(cluster.scheduler.pid, signal.SIGKILL)
            with pytest.raises(TaskError) as caught:
                await run
            error = caught.value.__cause__
            assert isinstance(error, ExecutorUnavailableError)
            assert f"the Dask scheduler at {cluster.address} was lost" in str(error)
            with pytest.raises(ExecutorUnavailableError):
                await kernel.executors["cpu"].submit(call_of(executor_calls.echo))  # type: ignore[union-attr]

    (tmp_path / "go").touch()
    async with Kernel(store=store, executor={"cpu": "process://?workers=1"}) as kernel:
        assert (await kernel.resume(flow(), "r")).state is State.DONE
        assert len([entry for entry in await kernel.history("r") if entry.seq]) == 1


async def test_a_worker_is_killed_in_mid_step(cluster: DaskCluster, tmp_path: Path) -> None:
    """Another worker executes the step; it is the same attempt, and is committed once."""
    executor = DaskExecutor(cluster.address)
    await check_that_a_stored_run_survives(f"sqlite:///{tmp_path}/runs.db", executor, tmp_path)


async def test_items_and_progress_are_live(cluster: DaskCluster, tmp_path: Path) -> None:
    """What a task flushes, and its progress, is there while the task still executes."""
    await check_that_reports_are_live(DaskExecutor(cluster.address), f"sqlite:///{tmp_path}/runs.db", tmp_path)


async def test_dask_counts_lost_workers(cluster: DaskCluster) -> None:
    """The error counts the workers that Dask itself has tried."""
    executor = DaskExecutor(cluster.address)
    await executor.open()
    with pytest.raises(WorkerLostError, match="the Dask worker tcp://") as caught:
        await executor.submit(call_of(executor_calls.die))
    await executor.close()
    assert caught.value.losses == 1


async def test_a_timeout_abandons_the_call(cluster: DaskCluster, tmp_path: Path) -> None:
    """Dask cannot stop what a worker executes, and the error says so."""
    data: dict[str, Any] = {"parent": os.getpid(), "folder": str(tmp_path), "does": "hold"}
    config = TaskConfig(executor="cpu", timeout=0.5, retry="none")
    async with Kernel(executor={"cpu": DaskExecutor(cluster.address)}) as kernel:
        with pytest.raises(StepTimeoutError) as caught:
            await kernel.run(flow(config=config), data)
        assert caught.value.abandoned is True
        assert "its call cannot be stopped" in str(caught.value)
        (tmp_path / "go").touch()


async def test_resources(cluster: DaskCluster, tmp_path: Path) -> None:
    """A call waits for a worker with its resource: two of them have one GPU each, so a third call waits."""
    config = TaskConfig(executor="cpu", resources={"GPU": 1})
    async with Kernel(executor={"cpu": DaskExecutor(cluster.address)}) as kernel:
        result = await kernel.run(flow(config=config), {"parent": os.getpid(), "does": "finish"})
        assert result.data["told"][0] is True
        none = asyncio.ensure_future(
            kernel.run(flow(config=TaskConfig(executor="cpu", resources={"TPU": 1})), {"parent": 0, "does": "finish"})
        )
        result = await kernel.run(flow(config=config), {"parent": os.getpid(), "does": "finish"})
        assert not none.done()
        none.cancel()
        await asyncio.wait([none])


async def test_another_event_loop(cluster: DaskCluster) -> None:
    """Calls may come from any event loop; Dask's client stays with the one that opened it."""
    executor = DaskExecutor(cluster.address)
    await executor.open()

    def use() -> bytes:
        return bytes(asyncio.run(executor.submit(call_of(executor_calls.echo, b"there"))))

    assert await asyncio.to_thread(use) == b"there"
    await executor.close()


async def test_a_cluster_of_its_own(tmp_path: Path) -> None:
    """`dask://local` starts workers, and ends them with the kernel."""
    async with Kernel(executor={"cpu": "dask://local?workers=1"}) as kernel:
        data = {"parent": os.getpid(), "folder": str(tmp_path), "does": "die twice"}
        result = await kernel.run(flow(), data)
        assert result.data["attempt"] == 1
        assert result.data["told"][0] is True


async def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel does not start, and the error names the address."""
    monkeypatch.setattr("cano_dask.executor.PATIENCE", 0.2)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ExecutorUnavailableError, match=f"the Dask scheduler at tcp://{address} does not answer"):
            async with Kernel(executor=f"dask://{address}"):
                pass
