"""What a store can be told, and what is allowed."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import quote

from cano import Capabilities
from cano.options import Options, one_of, optional, refuse, seconds, switch, text, whole


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


def key_prefix(name: str, value: Any) -> str:
    """Return `value` if keys may begin with it."""
    if not isinstance(value, str) or not value.isprintable() or not value or set("{}") & set(value):
        refuse(name, value, "a text, without braces")
    return value


OPTIONS = Options(
    db=partial(whole, most=999_999),
    prefix=key_prefix,
    require=partial(one_of, allowed=REQUIRE),
    retry_for=partial(seconds, most=86_400),
    timeout=partial(seconds, least=0.001, most=86_400),
    strict=switch,
    ssl_ca_certs=optional(text),
    ssl_certfile=optional(text),
    ssl_keyfile=optional(text),
)


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
        OPTIONS.check(self)
        text("host", self.host)
        whole("port", self.port, 1, 65_535)
        optional(text)("path", self.path)
        optional(text)("username", self.username)
        if self.password is not None and (not isinstance(self.password, str) or "\0" in self.password):
            refuse("password", "***", "a string without NUL")

    @property
    def capabilities(self) -> Capabilities:
        """What the store promises."""
        return Capabilities(strict=self.strict, notify=True)

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
