"""Waiting, durably: what a task returns to let its run be parked in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from cano.checks import time_limit
from cano.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

S = TypeVar("S")


class Pause:
    """What `wait_for` and `sleep_until` hand to the engine in place of a state."""

    __slots__ = ("on_timeout", "signal", "then", "timeout", "until")

    def __init__(
        self, signal: str | None, then: Any, timeout: float | None, until: float | None, on_timeout: Any
    ) -> None:
        self.signal = signal
        self.then = then
        self.timeout = timeout
        self.until = until
        self.on_timeout = on_timeout

    def __repr__(self) -> str:
        what = f"wait_for({self.signal!r})" if self.signal is not None else "sleep_until(…)"
        return f"<{what}, then {self.then}>"


def wait_for(signal: str, *, then: S, timeout: float | timedelta | None = None, on_timeout: S | None = None) -> S:
    """Return this from a task to park the run until `kernel.signal(run_id, signal, payload)`.

    A signal that came before the wait counts. Its payload is `current_step().payload` in the state that follows.

    Args:
        signal: the signal's name.
        then: the state that follows.
        timeout: seconds (or a timedelta) after which the wait ends without a signal; None is never.
        on_timeout: the state that follows then; by default `then`, with a payload of None.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """
    if not isinstance(signal, str) or not signal:
        raise ConfigurationError(f"wait_for takes a signal's name, not {signal!r}")
    from datetime import timedelta

    seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
    time_limit("timeout", seconds)
    if on_timeout is not None and seconds is None:
        raise ConfigurationError("on_timeout= without timeout= can never be reached")
    pause: Any = Pause(signal, then, seconds, None, on_timeout)
    return pause  # type: ignore[no-any-return]  # to a type checker it is the state that follows


def sleep_until(when: datetime | float, *, then: S) -> S:
    """Return this from a task to park the run until a time.

    Args:
        when: an aware datetime, or seconds since the Unix epoch. A time in the past is over at once.
        then: the state that follows.

    Raises:
        ConfigurationError: `when` has no time zone, or is no time.
    """
    from datetime import datetime

    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ConfigurationError(f"sleep_until takes a datetime with a time zone, not {when!r}")
        when = when.timestamp()
    if isinstance(when, bool) or not isinstance(when, int | float):
        raise ConfigurationError(f"sleep_until takes a datetime or seconds since the epoch, not {when!r}")
    pause: Any = Pause(None, then, None, float(when), None)
    return pause  # type: ignore[no-any-return]  # to a type checker it is the state that follows
