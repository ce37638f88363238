"""URLs such as `sqlite:///runs.db?synchronous=normal`. No message contains one: it may hold a password by mistake."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from cano import ConfigurationError

from cano_sqlite.settings import OPTIONS

SCHEME = "sqlite"
EXAMPLES = "write sqlite:///runs.db for a file in the current folder, sqlite:////var/lib/runs.db for an absolute path"


def options_from_url(url: str) -> dict[str, Any] | None:
    """Return the arguments of `SqliteBackend` that `url` contains, or None if its scheme is not `sqlite`.

    Raises:
        ConfigurationError: the URL names no file, or an option is unknown, wrong or given twice.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or scheme.lower() != SCHEME:
        return None
    return {"path": _path(rest.partition("?")[0]), **OPTIONS.read(url)}


def _path(place: str) -> str:
    path = unquote(place.removeprefix("///"))
    if ":memory:" in (path, unquote(place).strip("/")):
        raise ConfigurationError("SQLite's :memory: does not outlive the process; use memory:// instead")
    if place in ("", "//", "///"):
        raise ConfigurationError(f"the URL names no file: {EXAMPLES}")
    if not place.startswith("///"):
        raise ConfigurationError(f"the URL names a host, but SQLite uses a local file: {EXAMPLES}")
    return path
