"""Copies of golden data for tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from cano import Kernel

from tests.acceptance.golden.expected import Stored
from tests.acceptance.golden.kernels import kernel_at

HERE = Path(__file__).parent
SERIES = sorted(folder.name for folder in HERE.glob("[0-9]*-*"))
"""The folders of golden data, the oldest first."""


class Golden(NamedTuple):
    """A copy of the golden data of one store, for one test.

    Attributes:
        url: URL of the store.
        runs: the runs that it contains.
        number: the number of its folder; the greatest number stands for what the present program writes.
    """

    url: str
    runs: dict[str, Stored]
    number: int

    def of(self, run_ids: Iterable[str]) -> list[str]:
        """Return those of `run_ids` that it contains."""
        return [run_id for run_id in run_ids if run_id in self.runs]

    def at(self, now: float, *observers: Any) -> Kernel:
        """Return a kernel on it, whose clock shows `now`."""
        return kernel_at(self.url, now, *observers)
