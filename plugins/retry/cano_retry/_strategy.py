"""`Strategy`: the checks that all strategies share, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from cano.options import Seconds, refuse

from cano_retry._budget import RetryBudget
from cano_retry._check import in_seconds, number
from cano_retry._hint import hint_of
from cano_retry._match import Match, check_match, is_retryable
from cano_retry._value import Value


class Strategy(Value):
    """Base class of strategies: decides whether to retry. A subclass decides the delay.

    Attributes:
        max_retries: the largest number of retries, or None if it is unknown or unlimited.
    """

    default_retry_on: ClassVar[Match | None] = None
    """What counts as `retry_on` if that is None: all errors but `PROGRAMMING_ERRORS`, or those that this names."""

    __slots__ = ("after_hint", "budget", "give_up_on", "max_elapsed", "max_retries", "retry_on")

    max_retries: int | None
    retry_on: Match | None
    give_up_on: Match | None
    max_elapsed: float | None
    after_hint: bool
    budget: RetryBudget | None

    def __init__(
        self,
        max_retries: int | None,
        retry_on: Match | None,
        give_up_on: Match | None,
        max_elapsed: Seconds | None,
        after_hint: bool,
        budget: RetryBudget | None,
    ) -> None:
        check_match("retry_on", retry_on)
        check_match("give_up_on", give_up_on)
        if max_elapsed is not None:
            allowed = "a finite number of seconds above 0, or None for no limit"
            max_elapsed = number("max_elapsed", in_seconds(max_elapsed), allowed, lambda given: given > 0)
        if not isinstance(after_hint, bool):
            refuse("after_hint", after_hint, "True or False")
        if budget is not None and not isinstance(budget, RetryBudget):
            refuse("budget", budget, "a RetryBudget or None")
        self._set_fields(
            max_retries=max_retries,
            retry_on=retry_on,
            give_up_on=give_up_on,
            max_elapsed=max_elapsed,
            after_hint=after_hint,
            budget=budget,
        )

    @property
    def uses_elapsed(self) -> bool:
        """Whether the strategy reads the elapsed time. If not, the kernel need not measure it."""
        return self.max_elapsed is not None

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the number of the failed attempt, from 1.
            error: the exception that the attempt raised.
            elapsed: seconds since the step's first attempt began.
        """
        if self.max_retries is not None and attempt > self.max_retries:
            return None
        if not is_retryable(error, self.retry_on or self.default_retry_on, self.give_up_on):
            return None
        delay = self._next_delay(attempt, error, elapsed, hint_of(error) if self.after_hint else None)
        if delay is None or (self.max_elapsed is not None and elapsed + delay > self.max_elapsed):
            return None
        # checked last, so that a token is taken only for a retry that passes every other check
        if self.budget is not None and not self.budget.take():
            return None
        return delay

    def _next_delay(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        """Return the seconds to wait, or None to give up. `hint` is the error's `retry_after`, or None."""
        raise NotImplementedError

    def _repr_arguments(self) -> Iterator[tuple[str, object]]:
        for name in ("retry_on", "give_up_on", "max_elapsed", "budget"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        if not self.after_hint:
            yield "after_hint", False
