"""A lifecycle hook that somebody has wrapped: what one implementation raises still silences none of the others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

import pluggy

Listener = Callable[[Any], Any]


class Wrapped:
    """Calls wrappers around the other implementations, in pluggy's order, and each of them by itself.

    A wrapper gets what pluggy would give it where nothing was raised and nothing was answered.

    Args:
        wrappers: generator functions with one `yield`, the outermost first, and whether each is of pluggy's old kind.
        listeners: what is called within them.
        failed: told what one of them raised.
    """

    def __init__(
        self,
        wrappers: Sequence[tuple[Listener, bool]],
        listeners: Sequence[Listener],
        failed: Callable[[Listener, Exception], None],
    ) -> None:
        self._wrappers = wrappers
        self._listeners = listeners
        self._failed = failed

    def __call__(self, subject: Any) -> None:
        """Tell all of them."""
        begun = [(wrapper, old, self._try(wrapper, _begin, wrapper, subject)) for wrapper, old in self._wrappers]
        for listener in self._listeners:
            self._try(listener, listener, subject)
        for wrapper, old, generator in reversed(begun):
            if generator is not None:
                self._try(wrapper, _end, generator, pluggy.Result([], None) if old else [])

    def _try(self, listener: Listener, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except Exception as error:  # noqa: BLE001  # an observer cannot break a run, nor the other observers
            self._failed(listener, error)


def _begin(wrapper: Listener, subject: Any) -> Generator[None, Any, Any]:
    generator: Generator[None, Any, Any] = wrapper(subject)
    for _ in generator:
        return generator
    raise RuntimeError("a wrapper must yield once, and this one did not")


def _end(generator: Generator[None, Any, Any], answer: Any) -> None:
    try:
        generator.send(answer)
    except StopIteration:
        return
    generator.close()
    raise RuntimeError("a wrapper must yield once, and this one did so again")
