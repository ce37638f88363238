"""What a store can be told, and what is allowed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import quote

from cano import ConfigurationError

LONGEST = 86_400.0


class Durability(Enum):
    """What a Redis server does with a commit before it acknowledges it, as it was found to be set up.

    ALWAYS: it is on disk. EVERYSEC: it will be within about a second. NO: it will be when the operating system likes.
    NONE: the server keeps no append-only file: what it held when it ended is lost, or is as old as its last snapshot.
    UNKNOWN: the server does not tell; it has an append-only file.
    """

    ALWAYS = "always"
    EVERYSEC = "everysec"
    NO = "no"
    NONE = "none"
    UNKNOWN = "unknown"


REQUIRE: dict[str, tuple[Durability, ...]] = {
    "any": tuple(Durability),
    "everysec": (Durability.ALWAYS, Durability.EVERYSEC),
    "always": (Durability.ALWAYS,),
}
"""What each value of `require` accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a store.

    Attributes:
        host, port: where the server listens; unused where there is a `path`.
        path: its Unix socket.
        db: number of the database.
        username, password: who this is.
        tls: whether the connection is encrypted.
        ssl_ca_certs, ssl_certfile, ssl_keyfile: files for that; None is the system's authorities, and no certificate.
        prefix: what all keys begin with, in braces.
        require: "any", "everysec" or "always": the least durability that the server must have.
        retry_for: seconds for which a server that is away is waited for.
        timeout: seconds without an answer after which a connection is given up.
        strict: whether values are checked already when a task puts or gets them.

    Raises:
        ConfigurationError: one of them is wrong.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    prefix: str = "cano"
    require: str = "any"
    retry_for: float = 30.0
    timeout: float = 15.0
    strict: bool = False

    def __post_init__(self) -> None:
        for name in ("host", "path", "username", "password", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"):
            value = getattr(self, name)
            if not ((isinstance(value, str) and value and "\0" not in value) or (value is None and name != "host")):
                raise wrong(name, "***" if name == "password" else value, "a text")
        if not _is_number(self.port, int) or not 0 < self.port < 65536:
            raise wrong("port", self.port, "a number from 1 to 65535")
        if not _is_number(self.db, int) or not 0 <= self.db < 1_000_000:
            raise wrong("db", self.db, "the number of a database, such as 0")
        prefix = self.prefix
        if not isinstance(prefix, str) or not prefix.isprintable() or not prefix or set("{}") & set(prefix):
            raise wrong("prefix", prefix, "a text, without braces")
        if self.require not in REQUIRE:
            raise wrong("require", self.require, "'any', 'everysec' or 'always'")
        for name, least in (("retry_for", 0.0), ("timeout", 0.001)):
            value = getattr(self, name)
            if not _is_number(value, int | float) or not math.isfinite(value) or not least <= value <= LONGEST:
                raise wrong(name, value, f"seconds, from {least:g} to {LONGEST:.0f}")
        if not isinstance(self.strict, bool):
            raise wrong("strict", self.strict, "True or False")

    @property
    def place(self) -> str:
        """Where the store is, to show: without the password."""
        who = "" if self.username is None else f"{self.username}@"
        if self.path is not None:
            return f"unix://{who}{self.path}?db={self.db}&prefix={quote(self.prefix)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' * self.tls}://{who}{host}:{self.port}/{self.db}?prefix={quote(self.prefix)}"

    @property
    def keys(self) -> bytes:
        """What all keys of the store begin with. The braces keep them together in one slot of a cluster."""
        return b"{%s}:" % self.prefix.encode()

    @property
    def channel(self) -> bytes:
        """Where news of the store is published. Channels are the same in all databases of a server."""
        return b"%snews:%d" % (self.keys, self.db)


def wrong(name: str, value: object, allowed: str) -> ConfigurationError:
    """The error for an option with a value that it cannot have."""
    return ConfigurationError(f"{name} must be {allowed}, not {value!r}")


def _is_number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
