"""URLs such as `sqlite:///runs.db?synchronous=normal`. No message repeats one: it may hold a password by mistake."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from cano import ConfigurationError

from cano_sqlite.settings import OPTIONS

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
    return {"path": _path(rest.partition("?")[0]), **OPTIONS.read(url)}


def _path(place: str) -> str:
    path = unquote(place.removeprefix("///"))
    if ":memory:" in (path, unquote(place).strip("/")):
        raise ConfigurationError("a store in memory would not outlive the process; use memory:// for that")
    if place in ("", "//", "///"):
        raise ConfigurationError(f"the URL names no file: {EXAMPLES}")
    if not place.startswith("///"):
        raise ConfigurationError(f"the URL names a host, which SQLite has not: {EXAMPLES}")
    return path
