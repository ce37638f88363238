"""Calling the scheduler's hooks in other plugins."""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable
from typing import Any

from cano import Kernel

from cano_scheduler.tick import Tick


class Observers:
    """The implementations of the scheduler's hooks in one kernel; none if the kernel does not load this plugin.

    Args:
        kernel: a kernel that has loaded its plugins.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._listeners: dict[str, tuple[Callable[[Any], None], ...]] = {
            outcome: kernel.listeners(hook) if _is_known(kernel, hook) else ()
            for outcome in ("fired", "late", "skipped")
            if (hook := f"cano_schedule_{outcome}")
        }
        self._any = any(self._listeners.values())

    def call_hooks(self, ticks: Iterable[Tick]) -> None:
        """Call the hook of each tick. The kernel counts exceptions of observers and logs the first."""
        for tick in ticks if self._any else ():
            for listener in self._listeners[tick.outcome]:
                try:
                    listener(tick)
                except (Exception, CancelledError) as error:  # noqa: BLE001  # an observer cannot fail a schedule
                    self._kernel.observer_failed(listener, error)


def _is_known(kernel: Kernel, hook: str) -> bool:
    caller = getattr(kernel.hook, hook, None)
    return caller is not None and caller.has_spec()
