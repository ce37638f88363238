"""The options of a store, and their checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import Any
from urllib.parse import quote

from cano.options import Options, one_of, optional, refuse, seconds, switch, text, whole


class Durability(Enum):
    """When a Redis server writes a commit to disk, according to its configuration.

    ALWAYS: before it acknowledges the commit. EVERYSEC: within about a second. NO: when the operating system does.
    NONE: the server has no append-only file, so a crash loses everything since its last snapshot. UNKNOWN: the server
    has an append-only file, but does not report its appendfsync.
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
"""The durabilities that each value of `require` accepts."""


def key_prefix(name: str, value: Any) -> str:
    """Return `value` if it can be the prefix of keys."""
    if not isinstance(value, str) or not value.isprintable() or not value or set("{}") & set(value):
        refuse(name, value, "printable text without braces")
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
    """The options of a store; `RedisBackend` describes them and has their defaults.

    Raises:
        ConfigurationError: an option is wrong.
    """

    host: str
    port: int
    path: str | None
    db: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool
    ssl_ca_certs: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None
    prefix: str
    require: str
    retry_for: float
    timeout: float
    strict: bool
    namespaces: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        OPTIONS.check(self)
        text("host", self.host)
        whole("port", self.port, 1, 65_535)
        optional(text)("path", self.path)
        optional(text)("username", self.username)
        if self.password is not None and (not isinstance(self.password, str) or "\0" in self.password):
            refuse("password", "***", "a string without NUL")

    @property
    def place(self) -> str:
        """The store's URL for messages, without the password."""
        return self._url + "".join(f" (namespace {name!r})" for name in self.namespaces)

    @property
    def _url(self) -> str:
        who = "" if self.username is None else f"{self.username}@"
        if self.path is not None:
            return f"unix://{who}{self.path}?db={self.db}&prefix={quote(self.prefix)}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"redis{'s' * self.tls}://{who}{host}:{self.port}/{self.db}?prefix={quote(self.prefix)}"

    @property
    def keys(self) -> bytes:
        """The prefix of all keys of the store, or of a part of it. The braces keep them in one slot of a cluster.

        A namespace follows the braces with its length, so that no other prefix and namespace have the same keys.
        """
        parts = "".join(f"{len(name)}:{name}" for name in self.namespaces)
        return f"{{{self.prefix}}}{parts}:".encode()

    @property
    def channel(self) -> bytes:
        """The channel for the store's notifications. It has the database's number, since databases share channels."""
        return b"%snews:%d" % (self.keys, self.db)

    @property
    def stream_channel(self) -> bytes:
        """The channel for the notifications of chunks, which only readers of streams subscribe to."""
        return b"%sstream-news:%d" % (self.keys, self.db)
