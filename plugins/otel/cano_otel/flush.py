"""Sending what is still to be sent, within a limit."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from cano import Kernel, hookimpl

_log = logging.getLogger("cano_otel")


class Flusher:
    """Flushes providers when a kernel stops, in threads that nobody waits for longer than the limit.

    Args:
        providers: the providers; those without `force_flush` have nothing to be flushed.
        limit: seconds to wait.
        at_exit: what else waits for them, when the process ends.
    """

    def __init__(self, providers: Iterable[Any], limit: float, at_exit: AtExit) -> None:
        self._providers = [provider for provider in providers if hasattr(provider, "force_flush")]
        self._limit = limit
        self._at_exit = at_exit

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> None:
        """Should it never be closed, the process flushes at its end."""
        self._at_exit.unflushed += 1

    @hookimpl(trylast=True)
    async def cano_kernel_stopping(self, kernel: Kernel) -> None:
        """Send what the kernel's runs have left, while the event loop goes on."""
        self._at_exit.unflushed -= 1
        sent = await asyncio.gather(*(_flushed(provider, self._limit) for provider in self._providers))
        self._at_exit.gave_up = not all(sent)
        if not all(sent):
            _log.warning("traces or metrics could not all be sent within %g s; the rest is left behind", self._limit)


async def _flushed(provider: Any, limit: float) -> bool:
    """Whether everything was sent within the limit."""
    loop = asyncio.get_running_loop()
    sent: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        flush(provider, limit)
        with suppress(RuntimeError):  # it took so long that the loop is closed
            loop.call_soon_threadsafe(lambda: None if sent.done() else sent.set_result(None))

    _in_thread(work)
    try:
        async with asyncio.timeout(limit):
            await sent
    except TimeoutError:
        return False
    return True


def flush(provider: Any, limit: float) -> None:
    """Send what `provider` holds. A failure is logged."""
    try:
        provider.force_flush(int(limit * 1000))
    except Exception as error:  # noqa: BLE001  # an exporter's failure is nobody's at this point
        _log.warning("%s could not be flushed: %s", type(provider).__name__, error)


class AtExit:
    """Flushes when the process ends, once for all providers that were added, where a kernel was never closed.

    The threads that do it are there from the beginning: a process that ends cannot start any.

    Attributes:
        unflushed: how many kernels have been started that have not been closed.
        gave_up: whether the last attempt has used up the limit already.
    """

    def __init__(self) -> None:
        self.unflushed = 0
        self.gave_up = False
        self._ending = threading.Event()
        self._waiting: list[tuple[threading.Thread, threading.Event]] = []
        self._limit = 0.0

    def add(self, provider: Any, limit: float) -> None:
        """Flush `provider`, too."""
        if not self._waiting:
            atexit.register(self._end)
        sent = threading.Event()

        def work() -> None:
            self._ending.wait()
            flush(provider, limit)
            sent.set()

        self._limit = limit
        self._waiting.append((_in_thread(work), sent))

    def _end(self) -> None:
        if self.gave_up or not self.unflushed:
            return
        self._ending.set()
        for thread, sent in self._waiting:
            if thread.is_alive():  # it is not in a forked process
                sent.wait(self._limit)


def _in_thread(work: Callable[[], object]) -> threading.Thread:
    # no name that begins with "cano_": those are the threads of tasks, for which the command waits
    thread = threading.Thread(target=work, name="otel flush", daemon=True)
    thread.start()
    return thread
