"""The options of a store, and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from cano.options import Options, one_of, optional, refuse, seconds, switch, whole

LONGEST_NAME = 63
"""The most bytes of a name in PostgreSQL."""


def schema_name(name: str, value: Any) -> str:
    """Return `value` if it can name a schema that is not PostgreSQL's own."""
    if not isinstance(value, str) or not 0 < len(value.encode(errors="replace")) <= LONGEST_NAME or "\0" in value:
        refuse(name, value, "a name of 1 to 63 bytes")
    if value.startswith("pg_") or value == "information_schema":
        refuse(name, value, "a name that PostgreSQL does not reserve")
    return value


OPTIONS = Options(
    schema=schema_name,
    pool_size=partial(whole, least=1, most=1000),
    retry_for=partial(seconds, most=86_400),
    synchronous_commit=optional(partial(one_of, allowed=("on", "off", "local", "remote_write", "remote_apply"))),
    snapshot_every=partial(whole, least=1, most=999_999),
    strict=switch,
)
"""Cano's own options. Others in a URL are libpq's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a store; `PostgresBackend` describes them and has their defaults.

    Attributes:
        parameters: libpq's connection parameters, with the password. They are not shown.
        label: the database's name in messages, without the password.

    Raises:
        ConfigurationError: an option is wrong.
    """

    parameters: Mapping[str, str] = field(repr=False)
    label: str
    schema: str
    pool_size: int
    retry_for: float
    synchronous_commit: str | None
    snapshot_every: int
    strict: bool

    def __post_init__(self) -> None:
        OPTIONS.check(self)
