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
    """While spans are sent, other tasks run: one of them is what the sending waits for here."""
    provider, at_exit = Provider(), AtExit()

    async def release() -> None:
        await asyncio.to_thread(provider.flushing.wait)
        provider.release.set()

    other = asyncio.create_task(release())
    async with kernel_with(Flusher([provider, None], 60, at_exit)):
        pass

    await other
    assert not at_exit.gave_up


async def test_a_dead_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    """After the limit the kernel stops all the same, says so, and the process will not wait a second time."""
    dead, alive, at_exit = Provider(), Provider(), AtExit()
    alive.release.set()
    with caplog.at_level(logging.WARNING, "cano_otel"):
        async with kernel_with(Flusher([dead, alive], 0.01, at_exit)):
            pass

    assert alive.flushing.is_set()
    assert at_exit.gave_up
    assert "could not all be sent within 0.01 s" in caplog.text
    dead.release.set()


async def test_a_flush_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the kernel stops."""
    provider = Provider(ValueError("no"))
    provider.release.set()
    with caplog.at_level(logging.WARNING, "cano_otel"):
        async with kernel_with(Flusher([provider], 60, AtExit())):
            pass

    assert "Provider could not be flushed: no" in caplog.text


@pytest.mark.parametrize(("unflushed", "gave_up", "expected"), [(1, False, True), (0, False, False), (1, True, False)])
def test_at_exit(monkeypatch: pytest.MonkeyPatch, unflushed: int, gave_up: bool, expected: bool) -> None:
    """A process flushes at its end where a kernel was never closed, unless another has used up the limit already."""
    handlers: list[Any] = []
    monkeypatch.setattr("atexit.register", handlers.append)
    one, two = Provider(), Provider()
    one.release.set()
    two.release.set()

    at_exit = AtExit()
    at_exit.add(one, 60)
    at_exit.add(two, 60)
    at_exit.unflushed, at_exit.gave_up = unflushed, gave_up
    (end,) = handlers
    end()

    assert (one.flushing.is_set(), two.flushing.is_set()) == (expected, expected)


async def test_kernels_are_counted() -> None:
    """From its start until it is closed a kernel has something to be flushed."""
    at_exit = AtExit()
    async with kernel_with(Flusher([], 60, at_exit)):
        assert at_exit.unflushed == 1
    assert (at_exit.unflushed, at_exit.gave_up) == (0, False)
