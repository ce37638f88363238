"""What a store can be told, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cano import ConfigurationError

SYNCHRONOUS_COMMIT = ("on", "off", "local", "remote_write", "remote_apply")
LONGEST = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a store.

    Attributes:
        parameters: libpq's connection parameters. The password is among them: never shown.
        label: the database as messages name it, without the password.
        schema: the schema that the tables are in.
        pool_size: how many connections may read at once.
        retry_for: seconds for which calls wait for a server that cannot be reached.
        synchronous_commit: the server's setting of this name; None takes it from the server, unless that says "off".
        snapshot_every: after how many commits of a run its journal is folded into its snapshot.
        strict: whether values are checked already when a task puts or gets them.

    Raises:
        ConfigurationError: one of them is wrong.
    """

    parameters: Mapping[str, str] = field(repr=False)
    label: str
    schema: str = "cano"
    pool_size: int = 4
    retry_for: float = 30.0
    synchronous_commit: str | None = None
    snapshot_every: int = 100
    strict: bool = False

    def __post_init__(self) -> None:
        schema: Any = self.schema
        if not isinstance(schema, str) or not 0 < len(schema.encode(errors="replace")) < 64 or "\0" in schema:
            raise wrong("schema", schema, "a name of 1 to 63 bytes")
        if schema.startswith("pg_") or schema == "information_schema":
            raise wrong("schema", schema, "a name that is not PostgreSQL's own")
        if not _is_whole(self.pool_size) or not 1 <= self.pool_size <= 1000:
            raise wrong("pool_size", self.pool_size, "a number of connections, from 1 to 1000")
        if not _is_number(self.retry_for) or not math.isfinite(self.retry_for) or not 0 <= self.retry_for <= LONGEST:
            raise wrong("retry_for", self.retry_for, f"seconds, from 0 to {LONGEST:.0f}")
        if self.synchronous_commit is not None and self.synchronous_commit not in SYNCHRONOUS_COMMIT:
            raise wrong("synchronous_commit", self.synchronous_commit, "one of " + ", ".join(SYNCHRONOUS_COMMIT))
        if not _is_whole(self.snapshot_every) or not 1 <= self.snapshot_every < 1_000_000:
            raise wrong("snapshot_every", self.snapshot_every, "a number of commits, from 1 to 999999")
        if not isinstance(self.strict, bool):
            raise wrong("strict", self.strict, "True or False")


def wrong(name: str, value: object, allowed: str) -> ConfigurationError:
    """The error for an option with a value that it cannot have."""
    return ConfigurationError(f"{name} must be {allowed}, not {value!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
