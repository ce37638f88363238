"""The config of a task: retries, timeouts, and where it is executed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cano.checks import LARGEST, Duration, refuse, text, time_limit, whole

if TYPE_CHECKING:
    from cano.protocols import RetryStrategy


@dataclass(frozen=True, slots=True)
class TaskConfig:
    """The retries and timeouts of a task, and where it is executed.

    Attributes:
        retry: a `RetryStrategy`; or the name of a plugin's strategy ("none", "fixed", "exponential"); or None for no
            retries.
        timeout: seconds, or a timedelta, for one attempt; None for no timeout.
        total_timeout: the same for the whole step, retries and their delays included; None for no timeout. In a store,
            the step begins with the commit before it, and the seconds count also while its process is down.
        on_exhausted: the next state if the step fails after its last attempt, with the error in
            `current_step().error`. None fails the run.
        executor: the name of one of the kernel's executors, which executes the task; of a node its `exec` phase, and of
            a split each branch. None is this process, except for what `Kernel(executor=…)` executes by default.
        resources: what the executor must reserve for the task, by name, such as `{"GPU": 1}`; its own units.
        priority: which tasks the executor begins first, if it has a choice: the larger numbers.

    Raises:
        ConfigurationError: a timeout is not a positive number of seconds, or another value is of the wrong kind.
    """

    retry: RetryStrategy | str | None = None
    timeout: Duration = None
    total_timeout: Duration = None
    on_exhausted: Any = None
    executor: str | None = None
    resources: Mapping[str, float] = field(default_factory=dict, hash=False)
    priority: int = 0

    def __post_init__(self) -> None:
        time_limit("timeout", self.timeout)
        time_limit("total_timeout", self.total_timeout)
        # a class has a delay(), too: `retry=NoRetry` is a mistake for `retry=NoRetry()`
        named = self.retry is None or isinstance(self.retry, str)
        if isinstance(self.retry, type) or not (named or getattr(self.retry, "delay", None) is not None):
            refuse("retry", self.retry, "a strategy with a delay() method, its name, or None")
        if self.executor is not None:
            text("executor", self.executor)
        whole("priority", self.priority, -LARGEST)
        if not isinstance(self.resources, Mapping) or not all(map(_is_resource, self.resources.items())):
            refuse("resources", self.resources, "a mapping from names to positive numbers, such as {'GPU': 1}")
        object.__setattr__(self, "resources", dict(self.resources))

    @classmethod
    def minimal(cls) -> TaskConfig:
        """Return a config with no retries and no timeouts."""
        return cls(retry=None)


def _is_resource(item: tuple[Any, Any]) -> bool:
    name, amount = item
    is_number = isinstance(amount, int | float) and not isinstance(amount, bool)
    return isinstance(name, str) and is_number and 0 < amount < math.inf
