"""`RayExecutor`: executes calls on a Ray cluster."""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cano import Call, ConfigurationError, ExecutorUnavailableError, RemoteError, WorkerLostError
from cano.options import whole
from cano_remote.channel import Channel

from cano_ray import worker
from cano_ray.listener import Listener

PATIENCE = 10.0
"""Seconds that the head may take to accept a connection."""
STORE_BYTES = 200_000_000
"""Memory for the values of a cluster of this machine. Ray's default is a third of all."""
TOKENS = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
"""Variables that say how Ray's processes prove who they are."""


class RayExecutor:
    """Executes calls on a Ray cluster.

    A call that was cancelled before it began does not begin. Ray ends the process that executes one that has begun, and
    does not say when. Ray has no priorities. A process can be connected to one cluster: if the program already is, the
    executor uses that connection, and leaves it open.

    Args:
        address: that of the head, such as `host:6379`, seen from a node of its cluster; None starts a cluster on this
            machine, unless the program is connected to one.
        workers: calls to execute at once; None for one per CPU. Only without an address.
        **options: more options of `ray.init`.

    Raises:
        ConfigurationError: `workers` is not a whole number above 0.
    """

    remote = True
    abandons = True
    reports = True

    def __init__(self, address: str | None = None, workers: int | None = None, **options: Any) -> None:
        self._address = address
        self._workers = None if workers is None else whole("workers", workers, 1)
        self._options = options
        self._ray: Any = None
        self._owns = False
        self._head = ""
        self._function: Any = None
        self._main: Mapping[str, str] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock: asyncio.Lock
        self._lost: asyncio.Future[None] | None = None
        """Done when the head is gone. None without a connection."""
        self._watcher: asyncio.Task[None] | None = None
        self._channel = Channel()
        self._listener: Listener | None = None

    async def open(self) -> None:
        """Connect to the cluster, or start one.

        Raises:
            ConfigurationError: Ray is not installed, or the program is connected to another cluster.
            ExecutorUnavailableError: the head does not answer.
        """
        if sys.modules["__main__"] is not sys.modules.get("__mp_main__", sys.modules["__main__"]):
            raise ConfigurationError(
                "the program starts a kernel while a worker imports it: put the part that starts the kernel behind "
                "`if __name__ == '__main__':`"
            )
        try:
            import ray
        except ImportError as error:
            raise ConfigurationError(f"{error}: pip install 'cano-ray[ray]'") from error
        self._ray, self._main = ray, worker.main_program()
        self._loop, self._lock = asyncio.get_running_loop(), asyncio.Lock()
        try:
            await self._connect()
        except BaseException:
            self._loop = None
            raise

    async def close(self) -> None:
        """Disconnect from the cluster, or end it if it was started here."""
        if self._loop is not None:
            self._loop = None
            await self._disconnect()

    async def _connect(self) -> None:
        """Connect, if it is not connected.

        Raises:
            ConfigurationError: the program is connected to another cluster.
            ExecutorUnavailableError: the head does not answer.
        """
        async with self._lock:
            if self._lost is not None and not self._lost.done():
                return
            await self._disconnect()
            ray = self._ray
            self._owns = not ray.is_initialized()
            if self._owns:
                await self._start()
            self._head = str(ray.get_runtime_context().gcs_address)
            if not self._owns:
                if self._workers is not None or self._address not in (None, self._head):
                    raise ConfigurationError(f"the program is connected to the Ray cluster at {self._head} already")
                await self._check()
            self._function = ray.remote(worker.execute)
            self._listener = Listener(self._channel)
            await self._listener.open(ray.util.get_node_ip_address())
            self._lost = asyncio.get_running_loop().create_future()
            self._watcher = asyncio.create_task(self._watch(self._lost))

    async def _start(self) -> None:
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error", **self._options}
        if self._address is None:
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            _provide_token()
            options = {
                "address": "local", "num_cpus": self._workers, "include_dashboard": False,
                "object_store_memory": STORE_BYTES, **options,
            }  # fmt: skip
        else:
            options["address"] = self._head = self._address
            await self._check()
        try:
            # in a thread, since it takes seconds; there it leaves the program's signals alone, too
            await asyncio.to_thread(self._ray.init, **options)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            raise self._unavailable("cannot be used", error) from error

    async def _check(self) -> None:
        """Raise ExecutorUnavailableError if nothing listens at the head. Ray itself would try for minutes."""
        try:
            async with asyncio.timeout(PATIENCE):
                _, writer = await _reach(self._head)
            writer.close()
        except (OSError, TimeoutError) as error:
            raise self._unavailable("does not answer", error) from error

    async def _disconnect(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            if self._lost is not None and not self._lost.done():
                watcher.cancel()
            await asyncio.wait([watcher])
            if self._owns and self._ray.is_initialized():  # the watcher had not begun
                await asyncio.to_thread(self._ray.shutdown)
        self._lost = None

    async def _watch(self, lost: asyncio.Future[None]) -> None:
        """Wait until the head is gone: its connections end with it. Disconnect then, or when this is cancelled.

        Without a head Ray would keep new calls waiting, and end the program after a minute.
        """
        try:
            with suppress(OSError):
                while True:
                    reader, writer = await _reach(self._head)
                    try:
                        while await reader.read(1024):
                            continue
                    finally:
                        writer.close()
        finally:
            lost.set_result(None)
            if self._owns:
                await asyncio.to_thread(self._ray.shutdown)

    def _unavailable(self, how: str, why: object) -> ExecutorUnavailableError:
        return ExecutorUnavailableError(f"the Ray cluster at {self._head or 'this machine'} {how}: {why}")

    async def submit(self, call: Call) -> Any:
        """See `Executor.submit`."""
        if self._loop is None:
            raise ExecutorUnavailableError("the executor ray:// is closed")
        if self._loop is not asyncio.get_running_loop():  # the connection is watched in one event loop
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.submit(call), self._loop))
        await self._connect()
        lost = self._lost
        assert lost is not None
        kinds = dict(call.resources)
        cpus, gpus = kinds.pop("CPU", 1), kinds.pop("GPU", None)
        function = self._function.options(
            num_cpus=cpus, num_gpus=gpus, resources=kinds or None, max_retries=0, name=call.function.__qualname__
        )
        channel, listener = None, self._listener
        if call.report is not None and listener is not None:
            key = uuid.uuid4().hex
            channel = worker.Channel(listener.address, listener.token, key)
            self._channel.open(key, call.report)
        try:
            answer = await self._answer(function.remote(call.function, call.args, self._main, channel), lost)
            if channel is None:
                return answer
            answer, sent, kept = answer
            await self._channel.received(channel.key, sent)
            for report in kept:
                self._channel.take(channel.key, report)
            return answer
        except TimeoutError as error:
            raise self._unavailable("lost reports of a call", error) from error
        finally:
            if channel is not None:
                self._channel.close(channel.key)

    async def _answer(self, reference: Any, lost: asyncio.Future[None]) -> Any:
        """Return the result of a Ray task. Cancelling this cancels the task."""
        ray = self._ray
        answer = asyncio.wrap_future(reference.future())
        try:
            await asyncio.wait([answer, lost], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not lost.done():  # without a connection Ray would make one
                ray.cancel(reference, force=True)
                await asyncio.shield(asyncio.wait([answer, lost], return_when=asyncio.FIRST_COMPLETED))
            answer.cancel()
            raise
        if not answer.done():
            answer.cancel()
            raise self._unavailable("was lost", "its head has ended" if self._loop else "the executor was closed")
        try:
            return answer.result()
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Exception):
                raise error.cause from None
            raise RemoteError(str(error)) from error
        except (
            ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError, ray.exceptions.OutOfMemoryError,
        ) as error:  # fmt: skip
            raise WorkerLostError(f"the Ray worker ended: {error}") from error
        except ray.exceptions.RayError as error:
            raise self._unavailable("did not execute a call", error) from error


def _provide_token() -> None:
    """Provide the token by which Ray's processes prove who they are. Otherwise Ray makes one, and writes that file."""
    if not any(map(os.environ.get, TOKENS)) and not os.path.exists(os.path.expanduser("~/.ray/auth_token")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


async def _reach(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host.strip("[]"), int(port))
