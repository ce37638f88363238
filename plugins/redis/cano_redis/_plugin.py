"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import Capabilities, StoreBackend, hookimpl

from cano_redis.url import CAPABILITIES, SCHEMES, options_from_url

CANO_API_VERSION = 2


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """Return the capabilities of Redis stores, by URL scheme."""
    return dict.fromkeys(SCHEMES, CAPABILITIES)


@hookimpl
def cano_open_store(url: str) -> StoreBackend | None:
    """Return a store for a URL such as `redis://localhost:6379/0`, and None for URLs of other schemes."""
    options = options_from_url(url)
    if options is None:
        return None
    from cano_redis.backend import RedisBackend  # late: most programs need none

    return RedisBackend(**options)
