"""URLs such as `sqlite:///runs.db?synchronous=normal`. No message contains one: it may hold a password by mistake."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from cano import Capabilities, ConfigurationError

SCHEME = "sqlite"
CAPABILITIES = Capabilities(
    notify=True, pages=True, prune=True, audit=True, claims=True, history_pages=True, namespaces=True, appends=True,
    signal_limit=True, filters=True, ready_filters=True, attributes=True, streams=True, transactions=True,
    orders=True, outcomes=True, connections=True, slots=True, queues=True,
)  # fmt: skip
"""The capabilities of the store of such a URL, unless it is strict."""


def options_from_url(url: str) -> dict[str, Any] | None:
    """Return the arguments of `SqliteBackend` that `url` contains, or None if its scheme is not `sqlite`.

    Raises:
        ConfigurationError: the URL names no file, or an option is unknown, wrong or given twice.
    """
    scheme, colon, _ = url.partition(":")
    if not colon or scheme.lower() != SCHEME:
        return None
    from cano_sqlite.settings import OPTIONS  # late: most programs need none

    return {"path": _path(url), **OPTIONS.read(url)}


def _path(url: str) -> str:
    place = url.partition(":")[2].partition("?")[0]
    path = unquote(place.removeprefix("///"))
    if ":memory:" in (path, unquote(place).strip("/")):
        raise ConfigurationError("SQLite's :memory: does not outlive the process; use memory:// instead")
    name = place.lstrip("/")
    if not name or not place.startswith("///"):
        problem = "must have three or four slashes before the path" if name else "names no file"
        file = name if name and "@" not in url else "runs.db"  # an @ may follow a password
        raise ConfigurationError(
            f"the URL {problem}: write sqlite:///{file} for a path from the current folder, "
            f"sqlite:////{file} for an absolute one"
        )
    return path
