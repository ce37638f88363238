"""`FromTenacity`: tenacity's `retry`, `wait` and `stop` objects as a strategy for Cano.

Needs tenacity: `pip install 'cano-retry[tenacity]'`. No other module of this package imports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

from cano.options import Seconds

from cano_retry import _check
from cano_retry._budget import RetryBudget
from cano_retry._match import Match
from cano_retry._strategy import Strategy

try:
    from tenacity import RetryCallState, TryAgain, retry_if_exception_type, wait_none
except ModuleNotFoundError as error:
    if error.name != "tenacity":
        raise
    raise ModuleNotFoundError(
        "cano_retry.tenacity needs tenacity: pip install 'cano-retry[tenacity]'", name="tenacity"
    ) from error

if TYPE_CHECKING:
    from tenacity import BaseRetrying

__all__ = ["FromTenacity"]


class FromTenacity(Strategy):
    """A strategy that calls tenacity's `retry`, `wait` and `stop`, in this order, as tenacity's own loop does.

    Cano keeps its own retry loop, so delays follow the kernel's clock and can be cancelled. The three objects see the
    attempt's number, its error, the seconds since the step's first attempt, and the next delay. They do not see the
    function, its arguments or the `Retrying` object (`None`, `()` and `{}`). `raise TryAgain` is retried even if
    `retry` refuses. In a `Chain` this strategy must come last, since its number of retries is unknown.

    Args:
        stop: when to give up, such as `stop_after_attempt(5) | stop_after_delay(60)`. There is no default, because
            tenacity's default never stops.
        wait: the delay, such as `wait_exponential() + wait_random(0, 1)`. None: no delay.
        retry: the errors to retry, such as `retry_if_exception_type(OSError)`. None: all errors. Objects that look at
            results, such as `retry_if_result`, retry nothing.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool.
        give_up_on: never retry these errors; takes precedence over `retry_on` and `retry`.
        max_elapsed: give up if the next attempt would begin more than this many seconds after the first one began.
        after_hint: whether to wait as long as the error's `retry_after` (seconds, int or float), if it has one,
            instead of calling `wait`.
        budget: a shared `RetryBudget`. Each retry takes one token; without a token the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of range or of a wrong type. `delay` raises it if `wait` returns
            anything but seconds.
    """

    default_retry_on = Exception  # tenacity's objects decide

    __slots__ = ("retry", "stop", "wait")

    stop: Callable[[RetryCallState], bool]
    wait: Callable[[RetryCallState], float]
    retry: Callable[[RetryCallState], bool]

    def __init__(
        self,
        *,
        stop: Callable[[RetryCallState], bool],
        wait: Callable[[RetryCallState], float] | None = None,
        retry: Callable[[RetryCallState], bool] | None = None,
        retry_on: Match | None = None,
        give_up_on: Match | None = None,
        max_elapsed: Seconds | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        super().__init__(None, retry_on, give_up_on, max_elapsed, after_hint, budget)
        wait = _NO_WAIT if wait is None else wait
        retry = _ANY_EXCEPTION if retry is None else retry
        for name, value in {"stop": stop, "wait": wait, "retry": retry}.items():
            _check.function(name, value, f"a {name} object of tenacity's, or a plain function of its state")
        self._set_fields(stop=stop, wait=wait, retry=retry)

    def _next_delay(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        state = _State(attempt, error, elapsed)
        if not (isinstance(error, TryAgain) or self.retry(state)):
            return None
        if hint is None:
            hint = _check.seconds(f"the return value of {self.wait!r}", self.wait(state))
        state.upcoming_sleep = hint
        return None if self.stop(state) else state.upcoming_sleep

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        yield "stop", self.stop
        if self.wait is not _NO_WAIT:
            yield "wait", self.wait
        if self.retry is not _ANY_EXCEPTION:
            yield "retry", self.retry
        yield from super()._repr_arguments()


_NO_WAIT = wait_none()
_ANY_EXCEPTION = retry_if_exception_type()


class _State(RetryCallState):
    """The state of one failed attempt, in the form that tenacity's objects expect."""

    def __init__(self, attempt: int, error: Exception, elapsed: float) -> None:
        super().__init__(cast("BaseRetrying", None), None, (), {})
        self._elapsed = elapsed
        self.attempt_number = attempt
        self.set_exception((type(error), error, error.__traceback__))
        self.start_time = time.monotonic() - elapsed

    @property
    def seconds_since_start(self) -> float:
        # exact, unlike the difference of two timestamps
        return self._elapsed
