"""Durable waits: a task returns `wait_for(…)` or `sleep_until(…)` to park its run in the store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from cano.checks import Duration, instant, switch, text, time_limit
from cano.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

S = TypeVar("S")


class Pause:
    """The value that `wait_for` and `sleep_until` return in place of a state."""

    __slots__ = ("fresh", "on_timeout", "signal", "then", "timeout", "until")

    def __init__(
        self, signal: str | None, then: Any, timeout: float | None, until: float | None, on_timeout: Any, fresh: bool
    ) -> None:
        self.signal = signal
        self.then = then
        self.timeout = timeout
        self.until = until
        self.on_timeout = on_timeout
        self.fresh = fresh

    def __repr__(self) -> str:
        what = f"wait_for({self.signal!r})" if self.signal is not None else "sleep_until(…)"
        return f"<{what}, then {self.then}>"


@overload
def wait_for(signal: str, *, then: S, timeout: None = None, on_timeout: None = None, fresh: bool = False) -> S: ...
@overload
def wait_for(signal: str, *, then: S, timeout: float | timedelta, on_timeout: S, fresh: bool = False) -> S: ...
def wait_for(
    signal: str,
    *,
    then: S,
    timeout: Duration = None,
    on_timeout: S | None = None,
    fresh: bool = False,
) -> S:
    """Park the run until `kernel.signal(run_id, signal, payload)`. Return the result from a task in place of a state.

    A signal that was sent before the wait ends it at once, unless it was sent to another wait; see `current_wait`. One
    that was sent to this wait comes first. In the next state, `current_step().payload` is its payload.

    Args:
        signal: the signal's name.
        then: the next state.
        timeout: seconds, or a timedelta, after which the wait ends without a signal; None for no timeout.
        on_timeout: the next state after the timeout; required with `timeout`, so that silence is never an answer.
        fresh: whether the wait discards the signals of that name that were sent before it, other than to this wait.

    Raises:
        ConfigurationError: an argument is of the wrong kind, or only one of `timeout` and `on_timeout` is given.
    """
    text("the name of a signal", signal)
    seconds = time_limit("timeout", timeout)
    if (on_timeout is None) is not (seconds is None):
        raise ConfigurationError("timeout= needs on_timeout=, the next state without a signal in time, and vice versa")
    pause: Any = Pause(signal, then, seconds, None, on_timeout, switch("fresh", fresh))
    return pause  # type: ignore[no-any-return]  # for type checkers it is the next state


def sleep_until(when: datetime | float, *, then: S) -> S:
    """Park the run until `when`. Return the result from a task in place of a state.

    A time in the past does not delay the run.

    Args:
        when: an aware datetime, or seconds since the Unix epoch.
        then: the next state.

    Raises:
        ConfigurationError: `when` is a naive datetime, not a time, or not in the years 1 to 9999.
    """
    pause: Any = Pause(None, then, None, instant("when", when), None, False)
    return pause  # type: ignore[no-any-return]  # for type checkers it is the next state
