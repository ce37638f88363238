"""What a store can be told, and what is allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cano import ConfigurationError

SYNCHRONOUS = ("full", "normal")
LONGEST_TIMEOUT = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a store.

    Attributes:
        path: the file.
        synchronous: "full": what was committed survives a power failure; "normal": it survives the process.
        busy_timeout: seconds to wait for other processes that write to the file.
        snapshot_every: after how many commits of a run its journal is folded into its snapshot.
        strict: whether values are checked already when a task puts or gets them.

    Raises:
        ConfigurationError: one of them is wrong.
    """

    path: Path
    synchronous: str = "full"
    busy_timeout: float = 30.0
    snapshot_every: int = 100
    strict: bool = False

    def __post_init__(self) -> None:
        if self.synchronous not in SYNCHRONOUS:
            raise wrong("synchronous", self.synchronous, "'full' or 'normal'")
        timeout = self.busy_timeout
        if not _is_number(timeout) or not math.isfinite(timeout) or not 0 <= timeout <= LONGEST_TIMEOUT:
            raise wrong("busy_timeout", timeout, f"seconds, from 0 to {LONGEST_TIMEOUT:.0f}")
        every = self.snapshot_every
        if not isinstance(every, int) or isinstance(every, bool) or not 1 <= every < 1_000_000:
            raise wrong("snapshot_every", every, "a number of commits, from 1 to 999999")
        if not isinstance(self.strict, bool):
            raise wrong("strict", self.strict, "True or False")


def wrong(name: str, value: object, allowed: str) -> ConfigurationError:
    """The error for an option with a value that it cannot have."""
    return ConfigurationError(f"{name} must be {allowed}, not {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
