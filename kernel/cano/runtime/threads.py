"""Worker threads, which execute plain functions with a copy of the context."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
import weakref
from collections.abc import Callable, Coroutine
from contextlib import nullcontext, suppress
from queue import Empty, SimpleQueue
from typing import Any

from cano.protocols import Clock

MAX_WORKERS = 64
"""The most threads that one event loop's thread uses at once."""

Job = Callable[[], None]
_log = logging.getLogger("cano")


class Threads:
    """The worker threads of one kernel. The first one starts with the first plain function.

    Each thread that runs an event loop has a pool of its own. So a plain function that runs an event loop itself, with
    `orchestrate_sync`, does not wait for a thread that its callers occupy. The threads are daemons: one that hangs does
    not keep the process from exiting.
    """

    def __init__(self, clock: Clock) -> None:
        # virtual time must not pass while a thread works
        self._hold = getattr(clock, "hold", nullcontext)
        self._own = threading.local()
        self._pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._lock = threading.Lock()  # guards the set
        self._busy: dict[object, str] = {}

    def wrap(
        self,
        function: Callable[[Any], Any],
        prepare: Callable[[contextvars.Context], None],
        where: Callable[[], str],
    ) -> Callable[[Any], Coroutine[Any, Any, Any]]:
        """Return an async function that calls `function` in a thread. Cancelling it does not stop the thread.

        If the function returns an awaitable, as the wrapper of an async function does, it is awaited in the event loop.

        Args:
            prepare: called with the thread's context before the thread starts.
            where: returns what is executing, for messages; called in the event loop.
        """

        async def call(store: Any) -> Any:
            context = contextvars.copy_context()
            prepare(context)
            loop = asyncio.get_running_loop()
            # the result is a pair, since a future cannot raise StopIteration
            future: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
            name = where()

            def deliver(result: Any, error: BaseException | None) -> None:
                if not future.done():
                    future.set_result((result, error))

            def job() -> None:
                if future.cancelled():
                    return
                key, result, error = object(), None, None
                self._busy[key] = name
                try:
                    result = context.run(function, store)
                except BaseException as caught:  # noqa: BLE001  # raised again in the event loop
                    error = caught
                del self._busy[key]
                with suppress(RuntimeError):  # the event loop was closed meanwhile
                    loop.call_soon_threadsafe(deliver, result, error)
                error = None  # its traceback holds this frame

            with self._hold():
                while not self._pool().submit(job):
                    self.abandon()  # another thread closed the pool
                result, error = await future
            if error is None:
                return await result if inspect.isawaitable(result) else result
            try:
                if isinstance(error, StopIteration):
                    raise RuntimeError("the task raised StopIteration") from error
                raise error
            finally:
                del error  # its traceback holds this frame

        return call

    def _pool(self) -> Pool:
        """Return the pool of the calling thread."""
        pool: Pool | None = getattr(self._own, "pool", None)
        if pool is None:
            pool = self._own.pool = Pool()
            with self._lock:
                self._pools.add(pool)
        return pool

    def abandon(self) -> None:
        """Drop the pool of a thread that is no longer awaited, so that it takes no worker from other calls."""
        if (pool := getattr(self._own, "pool", None)) is not None:
            pool.close()
            self._own.pool = None

    def close(self) -> None:
        """Close the pools without waiting for their threads. Log which states still execute in them."""
        with self._lock:
            for pool in self._pools:
                pool.close()
        for name in list(self._busy.values()):
            _log.warning(
                "a thread still executes %s; it cannot be stopped, and ends with the process at the latest", name
            )


class Pool:
    """Daemon threads that do jobs. They end when the pool is closed, or no longer used."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._threads = 0
        self._lock = threading.Lock()
        self._end = weakref.finalize(self, self._jobs.put, None)
        self._end.atexit = False

    def submit(self, job: Job) -> bool:
        """Let a thread do the job. Return False if the pool is closed."""
        with self._lock:
            if not self._end.alive:
                return False
            self._jobs.put(job)
            if not self._idle.acquire(blocking=False) and self._threads < MAX_WORKERS:
                self._threads += 1
                name = f"cano-{self._threads}"
                threading.Thread(target=_work, args=(self._jobs, self._idle), name=name, daemon=True).start()
            return True

    def close(self) -> None:
        """Let the threads end after the jobs that they have."""
        with self._lock:
            self._end()


def _work(jobs: SimpleQueue[Job | None], idle: threading.Semaphore) -> None:
    """Do jobs until the None that ends all threads of the pool."""
    while True:
        try:
            job = jobs.get_nowait()
        except Empty:
            idle.release()
            job = jobs.get()
        if job is None:
            jobs.put(None)
            return
        job()
        del job  # it holds the store
