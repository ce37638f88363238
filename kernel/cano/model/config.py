"""The config of a task: retries and timeouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cano.checks import Duration, time_limit
from cano.errors import ConfigurationError
from cano.protocols import RetryStrategy


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """The retries and timeouts of a task.

    Attributes:
        retry: a `RetryStrategy`; or the name of a plugin's strategy ("none", "fixed", "exponential"); or None for no
            retries.
        timeout: seconds, or a timedelta, for one attempt; None for no timeout.
        total_timeout: the same for the whole step, retries and their delays included; None for no timeout. In a store,
            the step begins with the commit before it, and the seconds count also while its process is down.
        on_exhausted: the next state if the step fails after its last attempt, with the error in
            `current_step().error`. None fails the run.

    Raises:
        ConfigurationError: a timeout is not a positive number of seconds, or `retry` is of the wrong kind.
    """

    retry: RetryStrategy | str | None = None
    timeout: Duration = None
    total_timeout: Duration = None
    on_exhausted: Any = None

    def __post_init__(self) -> None:
        time_limit("timeout", self.timeout)
        time_limit("total_timeout", self.total_timeout)
        # a class has a delay(), too: `retry=NoRetry` is a mistake for `retry=NoRetry()`
        if isinstance(self.retry, type) or not isinstance(self.retry, str | RetryStrategy | None):
            raise ConfigurationError(
                f"retry must be a strategy with a delay() method, its name, or None, not {self.retry!r}"
            )

    @classmethod
    def minimal(cls) -> TaskConfig:
        """Return a config with no retries and no timeouts."""
        return cls(retry=None)
