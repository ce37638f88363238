"""A lifecycle hook with wrappers: an exception in one implementation does not keep the others from being called."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

Listener = Callable[[Any], Any]


class Wrapped:
    """Calls wrappers around the other implementations, in pluggy's order, each isolated from the others' exceptions.

    The `yield` of a wrapper returns an empty list, as with pluggy if no implementation returns anything.

    Args:
        wrappers: generator functions with one `yield`, the outermost first.
        listeners: the implementations that are called inside them.
        failed: called with an implementation and the exception that it raised.
    """

    def __init__(
        self,
        wrappers: Sequence[Listener],
        listeners: Sequence[Listener],
        failed: Callable[[Listener, BaseException], None],
    ) -> None:
        self._wrappers = wrappers
        self._listeners = listeners
        self._failed = failed

    def __call__(self, subject: Any) -> None:
        """Call all implementations with `subject`."""
        begun = [(wrapper, self._try(wrapper, _begin, wrapper, subject)) for wrapper in self._wrappers]
        for listener in self._listeners:
            self._try(listener, listener, subject)
        for wrapper, generator in reversed(begun):
            if generator is not None:
                self._try(wrapper, _end, generator)

    def _try(self, listener: Listener, act: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return act(*arguments)
        except BaseException as error:  # an observer cannot fail a run
            from asyncio import CancelledError  # late: to load plugins needs no asyncio

            if not isinstance(error, Exception | CancelledError):
                raise
            self._failed(listener, error)


def _begin(wrapper: Listener, subject: Any) -> Generator[None, Any, Any]:
    generator: Generator[None, Any, Any] = wrapper(subject)
    for _ in generator:
        return generator
    raise RuntimeError("a wrapper must yield once; this one did not yield")


def _end(generator: Generator[None, Any, Any]) -> None:
    try:
        generator.send([])
    except StopIteration:
        return
    generator.close()
    raise RuntimeError("a wrapper must yield once; this one yielded twice")
