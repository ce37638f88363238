"""How a task is attempted: retries and time limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cano.checks import time_limit
from cano.errors import ConfigurationError
from cano.protocols import RetryStrategy


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """Retries and time limits of a task.

    Attributes:
        retry: a `RetryStrategy`, the name of one that a plugin answers ("none", "fixed", "exponential"), or
            None: no retries.
        timeout: seconds for one attempt; None is no limit.
        total_timeout: seconds for the whole step, retries and waits included; None is no limit.
        on_exhausted: the state to go to, with the error in `current_step().error`, when the step has failed
            for good. None fails the run.

    Raises:
        ConfigurationError: a limit is not a positive number of seconds, or `retry` is nothing of the above.
    """

    retry: RetryStrategy | str | None = None
    timeout: float | None = None
    total_timeout: float | None = None
    on_exhausted: Any = None

    def __post_init__(self) -> None:
        time_limit("timeout", self.timeout)
        time_limit("total_timeout", self.total_timeout)
        # a class has a delay() too: NoRetry where NoRetry() was meant
        if isinstance(self.retry, type) or not isinstance(self.retry, str | RetryStrategy | None):
            raise ConfigurationError(
                f"retry must be a strategy with a delay() method, its name, or None, not {self.retry!r}"
            )

    @classmethod
    def minimal(cls) -> TaskConfig:
        """No retries and no limits."""
        return cls(retry=None)
