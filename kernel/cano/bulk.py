"""Actions on many runs: how they are done, and what they report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypedDict


class BulkReport(NamedTuple):
    """The outcome of an action on many runs.

    Attributes:
        matched: number of runs that matched the filter when it was read.
        done: number of them that it was applied to. In a dry run, that it would be applied to, by their records.
        refused: why it was not applied to the others, by run id. They are unchanged.
        failed: the errors of resumed runs that have failed again, by run id. These runs count as done.
        outcomes: numbers of resumed runs by the status with which this process stopped executing them, such as
            "succeeded" or "parked".
    """

    matched: int = 0
    done: int = 0
    refused: Mapping[str, str] = {}
    failed: Mapping[str, str] = {}
    outcomes: Mapping[str, int] = {}


class Pace(TypedDict, total=False):
    """The pace of an action on many runs: the keyword arguments of `Kernel.resume_many` and its like.

    rate: maximum number of runs per second; None for no limit.
    dry_run: whether to change nothing, and only report what would be done.
    progress: called with the report after each run.
    """

    rate: float | None
    dry_run: bool
    progress: Callable[[BulkReport], object] | None
