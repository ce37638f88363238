"""Splits: their branches, the strategies that join them, and their outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

from cano.checks import Duration, time_limit, whole, whole_or_none
from cano.data.store import Key, unpack_key
from cano.errors import ConfigurationError, TaskError
from cano.model.task import Task, not_a_task

Branches = Sequence[Task[Any] | Callable[[Any], Any]]


class JoinStrategy(NamedTuple):
    """The condition that joins the branches of a split. It is decided as early as possible.

    Made by `all()`, `any()`, `quorum(n)`, `percentage(p)` and `partial(min)`.
    """

    kind: Literal["all", "any", "quorum", "percentage", "partial"]
    number: float = 0

    @classmethod
    def all(cls) -> JoinStrategy:
        """Require that every branch succeeds. The first failure fails the join; a split without branches joins."""
        return cls("all")

    @classmethod
    def any(cls) -> JoinStrategy:
        """Require that one branch succeeds. The others are then cancelled."""
        return cls("any", 1)

    @classmethod
    def quorum(cls, n: int) -> JoinStrategy:
        """Require that `n` branches succeed. The others are then cancelled."""
        return cls("quorum", whole("quorum", n, 1))

    @classmethod
    def percentage(cls, p: float) -> JoinStrategy:
        """Require that a fraction of the branches, rounded up, succeeds. The others are then cancelled.

        Args:
            p: the fraction, in (0, 1].
        """
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p <= 1:
            raise ConfigurationError(f"percentage(p) takes a fraction in (0, 1], such as 0.5, not {p!r}")
        return cls("percentage", p)

    @classmethod
    def partial(cls, min: int) -> JoinStrategy:
        """Wait until every branch has ended or the timeout is over; require that at least `min` (0 or more) succeed."""
        return cls("partial", whole("partial", min, 0))

    def needed(self, total: int) -> int:
        """Return how many of `total` branches must succeed.

        Raises:
            ConfigurationError: that is more than `total`.
        """
        if self.kind == "all":
            return total
        if self.kind == "percentage":
            # rounded first, since 0.07 * 100 is a little more than 7; at least one, if there are branches
            return max(min(1, total), math.ceil(round(self.number * total, 9)))
        if self.number > total:
            raise ConfigurationError(f"{self} over {total} branch(es) can never be met")
        return int(self.number)

    def __str__(self) -> str:
        return f"{self.kind}({'' if self.kind in ('all', 'any') else f'{self.number:g}'})"


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """The rules by which the branches of a split join. They must not wait for each other: see `register_split`.

    Attributes:
        strategy: the condition that joins them.
        next_state: the next state.
        timeout: seconds, or a timedelta, after which the running branches are cancelled; None for no timeout. The join
            then fails unless its condition is met.
        limit: maximum number of branches at once; None for no limit.
        reducers: functions `(one, other) -> merged` by key, or `Key`s with a reducer. They merge the values that
            several branches put under one key, in the order of the branches. A `Key` that the branches' own code uses
            need not be listed.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    strategy: JoinStrategy
    next_state: Any
    timeout: Duration = None
    limit: int | None = None
    reducers: Mapping[Any, Callable[[Any, Any], Any]] | Iterable[Key[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.strategy, JoinStrategy):
            raise ConfigurationError(
                f"strategy must be a JoinStrategy, such as JoinStrategy.all(), not {self.strategy!r}"
            )
        time_limit("timeout", self.timeout)
        whole_or_none("limit", self.limit, 1)
        object.__setattr__(self, "reducers", _reducers(self.reducers))


class BranchStatus(Enum):
    """The status of a branch of a split."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not started"


class BranchOutcome(NamedTuple):
    """The outcome of one branch.

    Attributes:
        name: its position and its task's name, such as "3:fetch".
        status: ok, failed, cancelled or not started.
        result: the value that it returned, if it is ok; otherwise None.
        error: the exception that it failed with, if it failed; otherwise None.
    """

    name: str
    status: BranchStatus
    result: Any = None
    error: BaseException | None = None


class SplitOutcome(NamedTuple):
    """The outcome of a split, which the task of the next state finds in `current_step().outcome`.

    Attributes:
        branches: the outcome of every branch, in order.
        timed_out: whether the join's timeout was over.
    """

    branches: tuple[BranchOutcome, ...]
    timed_out: bool = False

    @property
    def results(self) -> list[Any]:
        """The values that the ok branches returned, in order."""
        return [branch.result for branch in self.branches if branch.status is BranchStatus.OK]

    @property
    def errors(self) -> list[BaseException]:
        """The exceptions of the failed branches, in order."""
        return [branch.error for branch in self.branches if branch.error is not None]

    def count(self, status: BranchStatus) -> int:
        """Return the number of branches with that status."""
        return sum(branch.status is status for branch in self.branches)

    def packed(self) -> Any:
        """Return the outcome in plain values, for a store. Errors become text."""
        rows = [[b.name, b.status.value, b.result, None if b.error is None else str(b.error)] for b in self.branches]
        return [rows, self.timed_out]

    @classmethod
    def unpacked(cls, packed: Any) -> SplitOutcome:
        """Return the outcome that `packed` was made from."""
        branches = [
            BranchOutcome(name, BranchStatus(status), result, None if error is None else TaskError(error))
            for name, status, result, error in packed[0]
        ]
        return cls(tuple(branches), packed[1])

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(status)} {status.value}" for status in BranchStatus if self.count(status))
        return (counts or "no branches") + (", timed out" if self.timed_out else "")


class SplitTask(Task[Any]):
    """The task of a state whose work concurrent branches do.

    Args:
        branches: the branches; or a function of the store that returns them.
        join: the rules by which they join.
    """

    plugin = "concurrency"

    def __init__(self, branches: Branches | Callable[[Any], Any], join: JoinConfig) -> None:
        super().__init__()
        if not isinstance(join, JoinConfig):
            raise ConfigurationError(f"join must be a JoinConfig, not {join!r}")
        self.join = join
        self.targets = (join.next_state,)  # type: ignore[misc]  # for this task only
        self.make: Callable[[Any], Any] | None = None
        self.branches: tuple[Any, ...] = ()
        if callable(branches) and not isinstance(branches, Task):
            self.make = branches
        else:
            self.branches = check_branches(branches)
            join.strategy.needed(len(self.branches))

    async def run(self, store: Any) -> Any:
        """Refuse the call: the plugin `concurrency` executes splits, inside a run."""
        raise ConfigurationError("a split cannot be called; execute the workflow that it is registered in")

    @property
    def name(self) -> str:
        """The strategy and the number of branches."""
        return f"split {self.join.strategy} of {'branches made at run time' if self.make else len(self.branches)}"


def check_branches(branches: Any) -> tuple[Any, ...]:
    """Return `branches` as a tuple of tasks and functions. Raises ConfigurationError if they are anything else."""
    if isinstance(branches, str | Mapping | Task) or not isinstance(branches, Iterable):
        raise ConfigurationError(
            f"the branches of a split must be a list of tasks, or a function that returns one, not {branches!r}"
        )
    made = tuple(branches)
    for branch in made:
        if isinstance(branch, type) or not (isinstance(branch, Task) or callable(branch)):
            raise not_a_task("a branch must be a task or a function of the store", branch)
    return made


def _reducers(given: Any) -> dict[str, Callable[[Any, Any], Any]]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ConfigurationError(f"reducers must map keys to functions, or list Keys that have one, not {given!r}")
    reducers = {}
    for key in given:
        reducer = given[key] if isinstance(given, Mapping) else getattr(key, "reducer", None)
        if not isinstance(key, str | Key) or not callable(reducer):
            raise ConfigurationError(f"reducers: {key!r} needs a function (one, other) -> merged, not {reducer!r}")
        reducers[unpack_key(key, None)[0]] = reducer
    return reducers
