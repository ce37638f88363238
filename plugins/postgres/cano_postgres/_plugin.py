"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import Capabilities, StoreBackend, hookimpl

from cano_postgres.url import CAPABILITIES, SCHEMES, is_ours

CANO_API_VERSION = 2


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """Return the capabilities of PostgreSQL stores, by URL scheme."""
    return dict.fromkeys(SCHEMES, CAPABILITIES)


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """Return a store for a URL such as `postgresql://user@host/database`, and None for URLs of other schemes."""
    if not is_ours(url):
        return None
    from cano_postgres.backend import PostgresBackend  # late: most programs need none
    from cano_postgres.settings import OPTIONS

    address, options = OPTIONS.split(url)
    return PostgresBackend(address, **options)
