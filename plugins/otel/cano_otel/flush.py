"""Flushes unsent telemetry, with a timeout, when a kernel closes or the process exits."""

from __future__ import annotations

import atexit
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano import hookimpl
from cano.safe_text import escaped, safe_str

if TYPE_CHECKING:
    import asyncio

    from cano import Kernel

_log = logging.getLogger("cano_otel")


class Flusher:
    """A plugin that flushes providers in threads when a kernel closes.

    Args:
        providers: the providers. Those without `force_flush` are ignored.
        limit: seconds to wait for all of them.
        at_exit: flushes at process exit, unless every kernel was closed or the limit was used up.
    """

    def __init__(self, providers: Iterable[Any], limit: float, at_exit: AtExit) -> None:
        self._providers = [provider for provider in providers if hasattr(provider, "force_flush")]
        self._limit = limit
        self._at_exit = at_exit

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> None:
        """Count the kernel as open. If it is never closed, the process flushes when it exits."""
        self._at_exit.open_kernels += 1

    @hookimpl(trylast=True)
    async def cano_kernel_stopping(self, kernel: Kernel) -> None:
        """Flush the telemetry of the kernel's runs without blocking the event loop."""
        import asyncio  # late: every kernel and command imports this module

        self._at_exit.open_kernels -= 1
        sent = await asyncio.gather(*(_flush_in_thread(provider, self._limit) for provider in self._providers))
        self._at_exit.timed_out = not all(sent)
        if not all(sent):
            _log.warning(
                "traces or metrics could not all be sent within %g s, and the rest may be lost; "
                "to wait longer, raise CANO_OTEL_FLUSH_TIMEOUT",
                self._limit,
            )


async def _flush_in_thread(provider: Any, limit: float) -> bool:
    """Flush `provider` in a thread. Return whether that was done within the limit."""
    import asyncio

    loop = asyncio.get_running_loop()
    sent: asyncio.Future[None] = loop.create_future()

    def work() -> None:
        flush(provider, limit)
        with suppress(RuntimeError):  # the flush outlasted the event loop
            loop.call_soon_threadsafe(lambda: None if sent.done() else sent.set_result(None))

    _start_thread(work)
    try:
        async with asyncio.timeout(limit):
            await sent
    except TimeoutError:
        return False
    return True


def flush(provider: Any, limit: float) -> None:
    """Flush `provider`. A failure is logged, not raised."""
    try:
        provider.force_flush(int(limit * 1000))
    except Exception as error:  # noqa: BLE001  # no caller could handle an exporter's failure
        _log.warning("%s could not be flushed: %s", type(provider).__name__, escaped(safe_str(error)))


class AtExit:
    """Flushes providers once, when the process exits, if a kernel was never closed.

    It starts the threads in advance, because an exiting process cannot start any.

    Attributes:
        open_kernels: number of kernels that were started and not closed.
        timed_out: whether the last flush already used up the limit.
    """

    def __init__(self) -> None:
        self.open_kernels = 0
        self.timed_out = False
        self._exiting = threading.Event()
        self._threads: list[tuple[threading.Thread, threading.Event]] = []
        self._limit = 0.0

    def add(self, provider: Any, limit: float) -> None:
        """Flush `provider` at exit and wait for it up to `limit` seconds."""
        if not self._threads:
            atexit.register(self._flush_all)
        sent = threading.Event()

        def work() -> None:
            self._exiting.wait()
            flush(provider, limit)
            sent.set()

        self._limit = limit
        self._threads.append((_start_thread(work), sent))

    def _flush_all(self) -> None:
        if self.timed_out or not self.open_kernels:
            return
        self._exiting.set()
        for thread, sent in self._threads:
            if thread.is_alive():  # False in a forked process, which has no copy of the thread
                sent.wait(self._limit)


def _start_thread(work: Callable[[], object]) -> threading.Thread:
    # no "cano_" prefix: the `cano` command waits for threads with such names, which execute tasks
    thread = threading.Thread(target=work, name="otel flush", daemon=True)
    thread.start()
    return thread
