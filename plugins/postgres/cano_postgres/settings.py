"""What a store can be told, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cano import Capabilities
from cano.options import Options, one_of, optional, refuse, seconds, switch, whole


def schema_name(name: str, value: Any) -> str:
    """Return `value` if it can be the name of a schema of ours."""
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) < 64 or "\0" in value:
        refuse(name, value, "a name of 1 to 63 bytes")
    if value.startswith("pg_") or value == "information_schema":
        refuse(name, value, "a name that is not PostgreSQL's own")
    return value


OPTIONS = Options(
    schema=schema_name,
    pool_size=partial(whole, least=1, most=1000),
    retry_for=partial(seconds, most=86_400),
    synchronous_commit=optional(partial(one_of, allowed=("on", "off", "local", "remote_write", "remote_apply"))),
    snapshot_every=partial(whole, least=1, most=999_999),
    strict=switch,
)
"""The options that are Cano's own. Any other in a URL is libpq's."""


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
        OPTIONS.check(self)

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises."""
        return Capabilities(strict=self.strict, notify=True)
