"""Clocks for tests."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from cano.testing import VirtualClock


class Passing(VirtualClock):
    """Virtual time that neither threads nor other processes hold up, moved by the test alone."""

    def __init__(self) -> None:
        super().__init__(auto=False)

    def hold(self) -> AbstractContextManager[None]:  # type: ignore[override]  # it holds nothing
        """Let time pass."""
        return nullcontext()
