"""What the kernel finds through the entry point."""

from __future__ import annotations

from cano import Capabilities, StoreBackend, hookimpl

from cano_postgres.backend import PostgresBackend
from cano_postgres.settings import OPTIONS
from cano_postgres.url import SCHEMES, is_ours

CANO_API_VERSION = 2


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """What a store in a PostgreSQL database promises."""
    return dict.fromkeys(SCHEMES, Capabilities(notify=True))


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """The runs in the PostgreSQL database that a URL such as `postgresql://user@host/database` names."""
    if not is_ours(url):
        return None
    address, options = OPTIONS.split(url)
    return PostgresBackend(address, **options)
