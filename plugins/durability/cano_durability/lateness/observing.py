"""The observer of the runs of a workflow that has an `Expect`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cano.engine.ports import Host

from cano_durability.keeper import Keeper


class LatenessObserver:
    """Passes what happens to a workflow's runs to the kernel's `LateRuns`, which has these methods once it is open."""

    def __init__(self, kernel: Host) -> None:
        self._kernel = kernel

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        def listener(subject: Any) -> None:
            if isinstance(keeper := self._kernel.keeper, Keeper):
                getattr(keeper.late, name)(subject)

        return listener
