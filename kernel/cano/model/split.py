"""Split and join: what the branches of a state are, and when they are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

from cano.checks import time_limit, whole, whole_or_none
from cano.data.store import Key
from cano.errors import ConfigurationError, TaskError
from cano.model.task import Task

Branches = Sequence[Task[Any] | Callable[[Any], Any]]


class JoinStrategy(NamedTuple):
    """When a split is done. Every strategy decides as soon as it can.

    Made by `all()`, `any()`, `quorum(n)`, `percentage(p)` and `partial(min)`.
    """

    kind: Literal["all", "any", "quorum", "percentage", "partial"]
    number: float = 0

    @classmethod
    def all(cls) -> JoinStrategy:
        """Every branch succeeds; the first failure ends it. No branches at all join at once."""
        return cls("all")

    @classmethod
    def any(cls) -> JoinStrategy:
        """One branch succeeds; the others are then cancelled."""
        return cls("any", 1)

    @classmethod
    def quorum(cls, n: int) -> JoinStrategy:
        """`n` branches succeed; the others are then cancelled."""
        return cls("quorum", whole("quorum", n, 1))

    @classmethod
    def percentage(cls, p: float) -> JoinStrategy:
        """A fraction of the branches, rounded up, succeeds; the others are then cancelled.

        Args:
            p: the fraction, in (0, 1].
        """
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p <= 1:
            raise ConfigurationError(f"percentage(p) takes a fraction in (0, 1], such as 0.5, not {p!r}")
        return cls("percentage", p)

    @classmethod
    def partial(cls, min: int) -> JoinStrategy:
        """Every branch ends, or the time is over, and at least `min` have succeeded; `min` may be 0."""
        return cls("partial", whole("partial", min, 0))

    def needed(self, total: int) -> int:
        """How many of `total` branches must succeed.

        Raises:
            ConfigurationError: more than there are, or `any` over none.
        """
        if self.kind == "all":
            return total
        if self.kind == "percentage":
            # rounded first, since 0.07 * 100 is a little more than 7; at least one, where there are any
            return max(min(1, total), math.ceil(round(self.number * total, 9)))
        if self.number > total:
            raise ConfigurationError(f"{self} over {total} branch(es) can never be met")
        return int(self.number)

    def __str__(self) -> str:
        return f"{self.kind}({'' if self.kind in ('all', 'any') else f'{self.number:g}'})"


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """How the branches of a split join.

    Attributes:
        strategy: when they are done.
        next_state: the state that follows.
        timeout: seconds after which the branches still running are cancelled; None is no limit. That is a
            failure unless the strategy's condition is met by then.
        limit: how many branches run at a time; None is no limit.
        reducers: how values that several branches put under one key are merged: key to `(one, other) -> merged`,
            applied in the order of the branches; or `Key`s that have a reducer. A `Key` with a reducer that the
            branches' own code names need not be listed.
    """

    strategy: JoinStrategy
    next_state: Any
    timeout: float | None = None
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
    """How a branch of a split ended."""

    OK = "ok"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not started"


class BranchOutcome(NamedTuple):
    """How one branch ended.

    Attributes:
        name: its position and its task's name, such as "3:fetch".
        status: ok, failed, cancelled or not started.
        result: what it returned, where it is ok.
        error: what it failed with, where it has.
    """

    name: str
    status: BranchStatus
    result: Any = None
    error: BaseException | None = None


class SplitOutcome(NamedTuple):
    """How a split ended; the task of the next state finds it in `current_step().outcome`.

    Attributes:
        branches: every branch, in order.
        timed_out: whether the join's time was over.
    """

    branches: tuple[BranchOutcome, ...]
    timed_out: bool = False

    @property
    def results(self) -> list[Any]:
        """What the branches that are ok returned, in order."""
        return [branch.result for branch in self.branches if branch.status is BranchStatus.OK]

    @property
    def errors(self) -> list[BaseException]:
        """What the failed branches failed with, in order."""
        return [branch.error for branch in self.branches if branch.error is not None]

    def count(self, status: BranchStatus) -> int:
        """How many branches ended like that."""
        return sum(branch.status is status for branch in self.branches)

    def packed(self) -> Any:
        """The outcome in plain values, for a store. Errors become text."""
        rows = [[b.name, b.status.value, b.result, None if b.error is None else str(b.error)] for b in self.branches]
        return [rows, self.timed_out]

    @classmethod
    def unpacked(cls, packed: Any) -> SplitOutcome:
        """The outcome that `packed` was made of."""
        branches = [
            BranchOutcome(name, BranchStatus(status), result, None if error is None else TaskError(error))
            for name, status, result, error in packed[0]
        ]
        return cls(tuple(branches), packed[1])

    def __str__(self) -> str:
        counts = ", ".join(f"{self.count(status)} {status.value}" for status in BranchStatus if self.count(status))
        return (counts or "no branches") + (", timed out" if self.timed_out else "")


class SplitTask(Task[Any]):
    """The task of a state whose work is done by branches, side by side."""

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
        """Not to be called: branches need a workflow's run around them."""
        raise ConfigurationError("a split runs inside a workflow only")

    @property
    def name(self) -> str:
        """Strategy and number of branches."""
        width = "made at run time" if self.make is not None else str(len(self.branches))
        return f"split {self.join.strategy} of {width}"


def check_branches(branches: Any) -> tuple[Any, ...]:
    """`branches` as a tuple of tasks and functions, or ConfigurationError."""
    if isinstance(branches, str | Mapping | Task) or not isinstance(branches, Iterable):
        raise ConfigurationError(
            f"the branches of a split must be a list of tasks, or a function that returns one, not {branches!r}"
        )
    made = tuple(branches)
    for branch in made:
        if isinstance(branch, type) or not (isinstance(branch, Task) or callable(branch)):
            raise ConfigurationError(f"a branch must be a task or a function of the store, not {branch!r}")
    return made


def _reducers(given: Any) -> dict[str, Callable[[Any, Any], Any]]:
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ConfigurationError(f"reducers must map keys to functions, or list Keys that have one, not {given!r}")
    reducers = {}
    for key in given:
        reducer = given[key] if isinstance(given, Mapping) else getattr(key, "reducer", None)
        if not isinstance(key, str | Key) or not callable(reducer):
            raise ConfigurationError(f"reducers: {key!r} needs a function (one, other) -> merged, not {reducer!r}")
        reducers[str(key)] = reducer
    return reducers
