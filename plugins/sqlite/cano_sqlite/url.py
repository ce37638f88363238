"""URLs such as `sqlite:///runs.db?synchronous=normal`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, unquote

from cano import ConfigurationError

from cano_sqlite.settings import wrong

SCHEME = "sqlite"
EXAMPLES = "write sqlite:///runs.db for a file in the current folder, sqlite:////var/lib/runs.db for an absolute path"


def options_from_url(url: str) -> dict[str, Any] | None:
    """The arguments of `SqliteBackend` that `url` stands for; None where its scheme is another.

    Raises:
        ConfigurationError: it names no file, or an option that is unknown, wrong, or given twice.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() != SCHEME:
        return None
    place, _, query = rest.partition("?")
    return {"path": _path(url, place), **_options(url, query)}


def _path(url: str, place: str) -> str:
    path = unquote(place.removeprefix("///"))
    if ":memory:" in (path, unquote(place).strip("/")):
        raise ConfigurationError(f"{url!r}: a store in memory would not outlive the process; use memory:// for that")
    if place in ("", "//", "///"):
        raise ConfigurationError(f"{url!r} names no file: {EXAMPLES}")
    if not place.startswith("///"):
        raise ConfigurationError(f"the URL names a host, which SQLite has not: {EXAMPLES}")
    return path


def _options(url: str, query: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _READ:
            raise ConfigurationError(f"{url!r} has the unknown option {name!r}; known are {', '.join(_READ)}")
        if name in options:
            raise ConfigurationError(f"{url!r} has the option {name!r} twice")
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
        raise wrong(name, value, "a number, such as 100")
    return int(value)


def _switch(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise wrong(name, value, "0 or 1")
    return value == "1"


_READ: dict[str, Callable[[str, str], Any]] = {
    "synchronous": _text,
    "busy_timeout": _seconds,
    "snapshot_every": _number,
    "strict": _switch,
}
