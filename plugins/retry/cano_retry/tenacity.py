"""Strategies written for tenacity, asked by Cano's own loop.

Needs tenacity: `pip install 'cano-retry[tenacity]'`. Nothing else of this package imports it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

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
    """Asks tenacity's `retry`, `wait` and `stop`, in this order, as tenacity's own loop would.

    The loop stays Cano's, so that pauses follow its clock and end with its cancellation. The three see the
    attempt's number, its error, the seconds since the step's first attempt, and the pause that would come
    next; the function, its arguments and the `Retrying` object are not there (`None`, `()` and `{}`).
    `raise TryAgain` is retried whatever `retry` says. In a `Chain` it has to come last, since how many
    retries it grants is not known.

    Args:
        stop: when to give up, such as `stop_after_attempt(5) | stop_after_delay(60)`. There is no default:
            tenacity's own would never stop.
        wait: how long to pause, such as `wait_exponential() + wait_random(0, 1)`. None: no pause.
        retry: which errors to retry, such as `retry_if_exception_type(OSError)`. None: all of them. What
            asks for results (`retry_if_result`) has none to look at, and says no.
        retry_on: retry only these errors: an exception type, a tuple of types, or a function error -> bool.
        give_up_on: never retry these errors, whatever `retry_on` and `retry` say.
        max_elapsed: seconds since the first attempt began; a retry that would begin later is not made.
        after_hint: wait as long as the error's `retry_after` says (seconds, int or float), where it has one,
            instead of asking `wait`.
        budget: a `RetryBudget` that each retry takes a token from; with none left the strategy gives up.

    Raises:
        ConfigurationError: an argument is out of its range or of a wrong type; or, from `delay`, `wait`
            returned something that is no number of seconds.
    """

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
        max_elapsed: float | None = None,
        after_hint: bool = True,
        budget: RetryBudget | None = None,
    ) -> None:
        super().__init__(None, retry_on, give_up_on, max_elapsed, after_hint, budget)
        wait = _EVERY_TIME_AT_ONCE if wait is None else wait
        retry = _EVERY_EXCEPTION if retry is None else retry
        for name, asked in {"stop": stop, "wait": wait, "retry": retry}.items():
            _check.function(name, asked, f"a {name} object of tenacity's, or a plain function of its state")
        self._fill(stop=stop, wait=wait, retry=retry)

    def _pause(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        state = _State(attempt, error, elapsed)
        if not (isinstance(error, TryAgain) or self.retry(state)):
            return None
        if hint is None:
            hint = _check.seconds(f"what {self.wait!r} returns", self.wait(state))
        state.upcoming_sleep = hint
        return None if self.stop(state) else state.upcoming_sleep

    def _shown(self) -> Iterator[tuple[str, object]]:
        yield "stop", self.stop
        if self.wait is not _EVERY_TIME_AT_ONCE:
            yield "wait", self.wait
        if self.retry is not _EVERY_EXCEPTION:
            yield "retry", self.retry
        yield from super()._shown()


_EVERY_TIME_AT_ONCE = wait_none()
_EVERY_EXCEPTION = retry_if_exception_type()


class _State(RetryCallState):
    """What tenacity's objects look at: one failed attempt of a call that Cano makes."""

    def __init__(self, attempt: int, error: Exception, elapsed: float) -> None:
        super().__init__(cast("BaseRetrying", None), None, (), {})
        self._elapsed = elapsed
        self.attempt_number = attempt
        self.set_exception((type(error), error, error.__traceback__))
        self.start_time = time.monotonic() - elapsed

    @property
    def seconds_since_start(self) -> float:
        # exact, where the difference of two timestamps is rounded
        return self._elapsed
