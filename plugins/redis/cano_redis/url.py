"""URLs such as `redis://user:password@host:6379/0?prefix=cano`. No message contains one: it may hold a password."""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from cano import Capabilities, ConfigurationError
from cano.options import Text, whole

SCHEMES = ("redis", "rediss", "unix")
CAPABILITIES = Capabilities(
    notify=True, pages=True, prune=True, audit=True, claims=True, history_pages=True, namespaces=True, appends=True,
    signal_limit=True, ready_filters=True, attributes=True, streams=True, orders=True,
    outcomes=True, slots=True,
)  # fmt: skip
"""The capabilities of the store of such a URL, unless it is strict."""
EXAMPLES = "write redis://host:6379/0, rediss://… for TLS, or unix:///path/to/redis.sock?db=0"


def options_from_url(url: str) -> dict[str, Any] | None:
    """Return the arguments of `RedisBackend` that `url` contains, or None if its scheme is not Redis's.

    Raises:
        ConfigurationError: the URL is wrong, or an option is unknown, wrong or given twice.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    if not colon or scheme not in SCHEMES:
        return None
    from cano_redis.settings import OPTIONS  # late: most programs need none

    if not rest.startswith("//"):
        raise ConfigurationError(f"a URL of the scheme {scheme} has two slashes after the colon: {EXAMPLES}")
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        place = _socket(parts) if scheme == "unix" else _server(parts)
    except ValueError as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"the URL of a Redis server has no valid host and port: {EXAMPLES}") from None
    if parts.fragment:
        raise ConfigurationError("a Redis URL has no fragment: write %23 for the # in it")
    for name, value in (("username", parts.username), ("password", parts.password)):
        if value:
            place[name] = unquote(value)
    for name, value in OPTIONS.read(url).items():
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
    if number:
        if not number.isdecimal() and "@" in number + parts.query:
            raise ValueError  # it may be the rest of a password with a slash
        place["db"] = whole("db", Text(number))
    return place


def _socket(parts: SplitResult) -> dict[str, Any]:
    if parts.hostname or len(parts.path) < 2:
        raise ConfigurationError(f"a URL of the scheme unix names a socket by its absolute path: {EXAMPLES}")
    return {"path": unquote(parts.path)}
