"""The options of a store, and their checks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cano.options import Options, file_mode, one_of, seconds, switch, whole

OPTIONS = Options(
    synchronous=partial(one_of, allowed=("full", "normal")),
    busy_timeout=partial(seconds, most=86_400),
    snapshot_every=partial(whole, least=1, most=999_999),
    strict=switch,
    file_mode=file_mode,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a store; `SqliteBackend` describes them and has their defaults.

    Raises:
        ConfigurationError: an option is wrong.
    """

    path: Path
    synchronous: str
    busy_timeout: float
    snapshot_every: int
    strict: bool
    file_mode: int

    def __post_init__(self) -> None:
        OPTIONS.check(self)
