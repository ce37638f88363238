"""`DaskExecutor`: executes calls on a Dask cluster."""

from __future__ import annotations

import asyncio
import concurrent.futures
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import dask
from cano import Call, ExecutorUnavailableError, WorkerLostError
from cano.options import whole
from cano_remote.channel import Channel
from distributed import Client, KilledWorker, LocalCluster
from distributed.comm.core import CommClosedError

from cano_dask import worker

PATIENCE = 10.0
"""Seconds that connecting to a scheduler may take."""


class DaskExecutor:
    """Executes calls on a Dask cluster.

    A call that was cancelled before it began does not begin. One that has begun cannot be stopped.

    Args:
        address: the scheduler's address, such as `tcp://host:8786`; None starts workers on this machine.
        workers: how many; None for one per CPU. Only without an address.
        **options: more options of `distributed.Client`, such as `security`.

    Raises:
        ConfigurationError: `workers` is not a whole number above 0.
    """

    remote = True
    abandons = True
    reports = True

    def __init__(self, address: str | None, workers: int | None = None, **options: Any) -> None:
        self._address = address
        self._workers = None if workers is None else whole("workers", workers, 1)
        self._options = options
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock
        self._scheduler: str | None = None
        self._topic = ""
        self._channel = Channel()
        self._stack = AsyncExitStack()

    async def open(self) -> None:
        """Connect to the scheduler, or start workers.

        Raises:
            ExecutorUnavailableError: the scheduler does not answer.
        """
        self._loop, self._lock, self._scheduler = asyncio.get_running_loop(), asyncio.Lock(), self._address
        try:
            if self._address is None:
                # a lost worker is an error at once, since Cano counts them
                self._stack.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": 0}))
                make: Any = LocalCluster
                cluster = make(
                    n_workers=self._workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", asynchronous=True,
                )  # fmt: skip
                self._scheduler = (await self._stack.enter_async_context(cluster)).scheduler_address
            await self._connected()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Disconnect from the scheduler, or end the workers."""
        self._loop, client, self._client = None, self._client, None
        if client is not None:
            await client.close()
        await self._stack.aclose()

    async def _connected(self) -> Any:
        """Return the client, connected. Dask's own reconnects for a while, and is closed if that fails.

        Raises:
            ExecutorUnavailableError: the scheduler does not answer.
        """
        async with self._lock:
            if self._client is None or self._client.status == "closed":
                make: Any = Client
                client = make(
                    self._scheduler, asynchronous=True, timeout=PATIENCE, set_as_default=False, **self._options
                )
                try:
                    self._client = await client
                except (OSError, TimeoutError) as error:
                    await client.close()
                    raise self._unavailable("does not answer", error) from error
                self._topic = f"cano-{self._client.id}"
                self._client.subscribe_topic(self._topic, self._reported)
            if self._client.status != "running":
                raise self._unavailable("does not answer", self._client.status)
            return self._client

    def _unavailable(self, how: str, why: object) -> ExecutorUnavailableError:
        return ExecutorUnavailableError(f"the Dask scheduler at {self._scheduler} {how}: {why}")

    async def submit(self, call: Call) -> Any:
        """See `Executor.submit`."""
        if self._loop is None:
            raise ExecutorUnavailableError("the executor dask:// is closed")
        if self._loop is not asyncio.get_running_loop():  # the client belongs to one event loop
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.submit(call), self._loop))
        client = await self._connected()
        key = f"cano-{call.idempotency_key}-{call.attempt}-{uuid.uuid4().hex}"
        function: Callable[..., Any] = call.function
        args = call.args
        if call.report is not None:
            function, args = worker.execute, (call.function, call.args, self._topic, key)
            self._channel.open(key, call.report)
        future = client.submit(
            function, *args, key=key, pure=False, resources=dict(call.resources) or None, priority=call.priority
        )
        try:
            answer = await future
            if call.report is not None:
                answer, count = answer
                await self._channel.received(key, count)
            return answer
        except asyncio.CancelledError:
            await asyncio.shield(future.cancel(force=True))
            raise
        except KilledWorker as error:
            where = getattr(error.last_worker, "address", error.last_worker)
            raise WorkerLostError(f"the Dask worker {where} ended", losses=error.allowed_failures + 1) from error
        except (concurrent.futures.CancelledError, CommClosedError, OSError) as error:
            raise self._unavailable("was lost", error) from error
        finally:
            self._channel.close(key)

    def _reported(self, event: tuple[float, tuple[str, bytes]]) -> None:
        self._channel.take(*event[1])
