"""The questions that every strategy asks before it grants a retry, in one place and one order."""

from __future__ import annotations

from collections.abc import Iterator

from cano_retry._budget import RetryBudget
from cano_retry._check import number, refuse
from cano_retry._hint import hint_of
from cano_retry._match import Match, check_match, worth_retrying
from cano_retry._value import Value


class Strategy(Value):
    """A retry strategy; a subclass says how long to wait.

    Attributes:
        max_retries: how many retries it grants at most, or None where that is not known or not limited.
    """

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
        max_elapsed: float | None,
        after_hint: bool,
        budget: RetryBudget | None,
    ) -> None:
        check_match("retry_on", retry_on)
        check_match("give_up_on", give_up_on)
        if max_elapsed is not None:
            allowed = "a finite number of seconds above 0, or None for no limit"
            max_elapsed = number("max_elapsed", max_elapsed, allowed, lambda given: given > 0)
        if not isinstance(after_hint, bool):
            refuse("after_hint", after_hint, "True or False")
        if budget is not None and not isinstance(budget, RetryBudget):
            refuse("budget", budget, "a RetryBudget or None")
        self._fill(
            max_retries=max_retries,
            retry_on=retry_on,
            give_up_on=give_up_on,
            max_elapsed=max_elapsed,
            after_hint=after_hint,
            budget=budget,
        )

    @property
    def uses_elapsed(self) -> bool:
        """Whether the elapsed time matters: where it does not, the kernel need not take it."""
        return self.max_elapsed is not None

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the attempt that has just failed, counted from 1.
            error: what it raised.
            elapsed: seconds since the step's first attempt began.
        """
        if self.max_retries is not None and attempt > self.max_retries:
            return None
        if not worth_retrying(error, self.retry_on, self.give_up_on):
            return None
        pause = self._pause(attempt, error, elapsed, hint_of(error) if self.after_hint else None)
        if pause is None or (self.max_elapsed is not None and elapsed + pause > self.max_elapsed):
            return None
        # last, so that a token is taken only for a retry that nothing else forbids
        if self.budget is not None and not self.budget.take():
            return None
        return pause

    def _pause(self, attempt: int, error: Exception, elapsed: float, hint: float | None) -> float | None:
        """Seconds to wait, or None to give up; `hint` is what the error asks for, if it may be obeyed."""
        raise NotImplementedError

    def _shown(self) -> Iterator[tuple[str, object]]:
        for name in ("retry_on", "give_up_on", "max_elapsed", "budget"):
            if getattr(self, name) is not None:
                yield name, getattr(self, name)
        if not self.after_hint:
            yield "after_hint", False
