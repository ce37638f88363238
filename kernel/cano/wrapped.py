"""A lifecycle hook that somebody has wrapped: what one implementation raises still silences none of the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from typing import Any

import pluggy

Listener = Callable[[Any], Any]
Failed = Callable[[Listener, Exception], None]


class Wrapped:
    """Calls wrappers around the other implementations, in pluggy's order, and each of them by itself.

    A wrapper gets what pluggy would give it where nothing was raised and nothing was answered.

    Args:
        wrappers: generator functions with one `yield`, the outermost first, and whether each is of pluggy's old kind.
        listeners: what is called within them.
        failed: told what one of them raised.
    """

    def __init__(
        self, wrappers: Iterable[tuple[Listener, bool]], listeners: Iterable[Listener], failed: Failed
    ) -> None:
        self._wrappers = tuple(wrappers)
        self._listeners = tuple(listeners)
        self._failed = failed

    def __call__(self, subject: Any) -> None:
        """Tell all of them."""
        begun: list[tuple[Listener, bool, Generator[None, Any, Any]]] = []
        for wrapper, old in self._wrappers:
            try:
                generator = wrapper(subject)
                for _ in generator:
                    begun.append((wrapper, old, generator))
                    break
                else:
                    raise RuntimeError("a wrapper must yield once, and this one did not")
            except Exception as error:  # noqa: BLE001  # an observer cannot break a run, nor the others
                self._failed(wrapper, error)
        for listener in self._listeners:
            try:
                listener(subject)
            except Exception as error:  # noqa: BLE001
                self._failed(listener, error)
        for wrapper, old, generator in reversed(begun):
            try:
                generator.send(pluggy.Result([], None) if old else [])
            except StopIteration:
                pass
            except Exception as error:  # noqa: BLE001
                self._failed(wrapper, error)
            else:
                generator.close()
                self._failed(wrapper, RuntimeError("a wrapper must yield once, and this one did again"))
