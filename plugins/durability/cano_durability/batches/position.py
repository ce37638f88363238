"""The position of a batch, as its run's record keeps it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cano import ConcurrentWorkflowStatus

from cano_durability.batches.digests import Digests

MANY = 1000
"""Inputs whose runs are begun before the position is stored again, at most."""


class Position:
    """The position of a batch. Its size grows with the runs at once, not with the inputs, but for 8 bytes per 500.

    Attributes:
        high: the number of inputs whose runs were begun. The runs of all but the unfinished ones are counted.
        begun: the greatest number of inputs whose runs an earlier process may have begun.
        unfinished: the places of those that are not counted, and that this process has not begun again.
        succeeded, failed, cancelled: how many runs ended that way.
        began: when the batch began, in wall-clock seconds.
        ended_by: the condition that ended it, or None.
        total: the number of inputs, if it is known.
        digests: of the inputs.
    """

    def __init__(self, stored: Any, now: float, total: int | None) -> None:
        first: Any = [0, 0, [], 0, 0, 0, now, None, b"", None]
        high, begun, unfinished, succeeded, failed, cancelled, began, ended_by, known, before = stored or first
        self.high: int = high
        self.begun: int = begun
        self.unfinished = set[int](unfinished)
        self.succeeded: int = succeeded
        self.failed: int = failed
        self.cancelled: int = cancelled
        self.began: float = began
        self.ended_by: str | None = ended_by
        self.total: int | None = before if total is None else total
        self.digests = Digests(known, self.high)

    def packed(self, running: Iterable[int]) -> list[Any]:
        """Return what to store, while these runs are executed."""
        begun = max(self.begun, self.high + (MANY if self.ended_by is None else 0))
        return [
            self.high, begun, sorted({*self.unfinished, *running}), self.succeeded, self.failed, self.cancelled,
            self.began, self.ended_by, self.digests.packed(), self.total,
        ]  # fmt: skip

    @property
    def ended(self) -> int:
        """The number of runs that are counted."""
        return self.succeeded + self.failed + self.cancelled

    def status(self, now: float) -> ConcurrentWorkflowStatus:
        """Return the status."""
        total = self.high if self.total is None else max(self.total, self.high)
        counts = self.succeeded, self.failed, self.cancelled
        return ConcurrentWorkflowStatus(total, *counts, now - self.began, self.ended_by)
