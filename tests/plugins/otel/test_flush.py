"""Flushing when a kernel stops: off the event loop, and within the limit."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from cano import Kernel
from cano_otel.flush import AtExit, Flusher


class Provider:
    """A provider whose flush lasts until it is released.

    Args:
        error: what it raises then.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.flushing, self.release = threading.Event(), threading.Event()
        self.error = error

    def force_flush(self, timeout_millis: int) -> bool:
        self.flushing.set()
        self.release.wait()
        if self.error is not None:
            raise self.error
        return True


def kernel_with(flusher: Flusher) -> Kernel:
    return Kernel(discover=False, plugins=[flusher])


async def test_the_event_loop_goes_on() -> None:
    """Other tasks run while spans are sent; here the flush waits for one of them."""
    provider, at_exit = Provider(), AtExit()

    async def release() -> None:
        await asyncio.to_thread(provider.flushing.wait)
        provider.release.set()

    other = asyncio.create_task(release())
    async with kernel_with(Flusher([provider, None], 60, at_exit)):
        pass

    await other
    assert not at_exit.timed_out


async def test_a_dead_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    """After the limit the kernel closes and logs a warning, and the process does not wait a second time."""
    dead, alive, at_exit = Provider(), Provider(), AtExit()
    alive.release.set()
    with caplog.at_level(logging.WARNING, "cano_otel"):
        async with kernel_with(Flusher([dead, alive], 0.01, at_exit)):
            pass

    assert alive.flushing.wait(60)  # its thread may begin after the limit
    assert at_exit.timed_out
    assert "could not all be sent within 0.01 s" in caplog.text
    dead.release.set()


async def test_a_flush_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The error is logged, and the kernel closes."""
    provider = Provider(ValueError("no"))
    provider.release.set()
    with caplog.at_level(logging.WARNING, "cano_otel"):
        async with kernel_with(Flusher([provider], 60, AtExit())):
            pass

    assert "Provider could not be flushed: no" in caplog.text


@pytest.mark.parametrize(
    ("open_kernels", "timed_out", "expected"), [(1, False, True), (0, False, False), (1, True, False)]
)
def test_at_exit(monkeypatch: pytest.MonkeyPatch, open_kernels: int, timed_out: bool, expected: bool) -> None:
    """A process flushes at exit if a kernel was never closed, unless an earlier flush used up the limit."""
    handlers: list[Any] = []
    monkeypatch.setattr("atexit.register", handlers.append)
    one, two = Provider(), Provider()
    one.release.set()
    two.release.set()

    at_exit = AtExit()
    at_exit.add(one, 60)
    at_exit.add(two, 60)
    at_exit.open_kernels, at_exit.timed_out = open_kernels, timed_out
    (end,) = handlers
    end()

    assert (one.flushing.is_set(), two.flushing.is_set()) == (expected, expected)


async def test_kernels_are_counted() -> None:
    """A kernel counts as open from its start until it is closed."""
    at_exit = AtExit()
    async with kernel_with(Flusher([], 60, at_exit)):
        assert at_exit.open_kernels == 1
    assert (at_exit.open_kernels, at_exit.timed_out) == (0, False)
