"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import Capabilities, StoreBackend, hookimpl

from cano_sqlite.url import CAPABILITIES, SCHEME, options_from_url

CANO_API_VERSION = 2


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """Return the capabilities of `sqlite:` stores."""
    return {SCHEME: CAPABILITIES}


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """Return a store for a URL such as `sqlite:///runs.db`, and None for URLs of other schemes."""
    options = options_from_url(url)
    if options is None:
        return None
    from cano_sqlite.backend import SqliteBackend  # late: most programs need none

    return SqliteBackend(**options)
