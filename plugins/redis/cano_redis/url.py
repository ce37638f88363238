"""URLs such as `redis://user:password@host:6379/0?prefix=cano`. No error shows one: it may have a password in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from cano import ConfigurationError

from cano_redis.settings import wrong

SCHEMES = ("redis", "rediss", "unix")
EXAMPLES = "write redis://host:6379/0, rediss://… for TLS, or unix:///path/to/redis.sock?db=0"


def options_from_url(url: str) -> dict[str, Any] | None:
    """The arguments of `RedisBackend` that `url` stands for; None where its scheme is another.

    Raises:
        ConfigurationError: it is no such URL, or has an option that is unknown, wrong, or given twice.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in SCHEMES:
        return None
    if not rest.startswith("//"):
        raise ConfigurationError(f"a URL of the scheme {scheme} has two slashes after the colon: {EXAMPLES}")
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        place = _socket(parts) if scheme == "unix" else _server(parts)
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"the URL of a Redis server has no host and port that make sense: {EXAMPLES}"
        ) from None
    if parts.fragment:
        raise ConfigurationError("a Redis URL has no fragment: write %23 for the # in it")
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            place[name] = unquote(value)
    for name, value in _options(parts.query).items():
        if name in place:
            raise ConfigurationError(f"the Redis URL has the option {name!r} twice")
        place[name] = value
    return place


def _server(parts: SplitResult) -> dict[str, Any]:
    place: dict[str, Any] = {"tls": parts.scheme == "rediss"}
    if parts.hostname:
        place["host"] = unquote(parts.hostname)
    if parts.port is not None:
        place["port"] = parts.port
    number = parts.path.strip("/")
    if "@" in number:
        raise ValueError  # it is the rest of a password with a slash in it
    if number:
        place["db"] = _number("db", number)
    return place


def _socket(parts: SplitResult) -> dict[str, Any]:
    if parts.hostname or len(parts.path) < 2:
        raise ConfigurationError(f"a URL of the scheme unix names a socket by its absolute path: {EXAMPLES}")
    return {"path": unquote(parts.path)}


def _options(query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _READ:
            what = "***" if "@" in query else repr(name)  # the rest of a password with a question mark in it
            raise ConfigurationError(f"the Redis URL has the unknown option {what}; known are {', '.join(_READ)}")
        if name in options:
            raise ConfigurationError(f"the Redis URL has the option {name!r} twice")
        options[name] = _READ[name](name, value)
    return options


def _text(name: str, value: str) -> str:
    return value


def _seconds(name: str, value: str) -> float:
    if not value.replace(".", "", 1).isdecimal() or not value.isascii():
        raise wrong(name, value, "seconds, such as 30 or 0.5")
    return float(value)


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or not value.isascii() or len(value) > 9:
        raise wrong(name, value, "a number, such as 0")
    return int(value)


def _switch(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise wrong(name, value, "0 or 1")
    return value == "1"


_READ: dict[str, Callable[[str, str], Any]] = {
    "db": _number,
    "prefix": _text,
    "require": _text,
    "retry_for": _seconds,
    "timeout": _seconds,
    "strict": _switch,
    "ssl_ca_certs": _text,
    "ssl_certfile": _text,
    "ssl_keyfile": _text,
}
