"""What the kernel finds through the entry point."""

from __future__ import annotations

from cano import Capabilities, StoreBackend, hookimpl

from cano_sqlite.backend import SqliteBackend
from cano_sqlite.url import SCHEME, options_from_url

CANO_API_VERSION = 2


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """What a store in an SQLite file promises."""
    return {SCHEME: Capabilities()}


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """The runs in the SQLite file that a URL such as `sqlite:///runs.db` names."""
    options = options_from_url(url)
    return None if options is None else SqliteBackend(**options)
