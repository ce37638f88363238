"""URLs of executors with workers: on this machine, `scheme://local?workers=N`, or in a cluster, `scheme://host:port`."""

from __future__ import annotations

from functools import partial
from typing import Any

from cano import ConfigurationError
from cano.options import Options, whole

MOST = 1024
"""Workers that a URL may ask for: more is likely a mistake."""
WORKERS = Options(workers=partial(whole, least=1, most=MOST))


def cluster_of(url: str, what: str, port: int) -> tuple[str | None, dict[str, Any]]:
    """Return the address that a URL names, `host:port`, or None for this machine; and the options.

    Args:
        url: the URL.
        what: the part of a cluster that it should name, for messages.
        port: the usual port, for messages.

    Raises:
        ConfigurationError: the URL names nothing, or has a wrong option.
    """
    scheme, _, rest = url.partition("://")
    address = rest.partition("?")[0].strip("/")
    if not address:
        local = f"{scheme}://local"
        raise ConfigurationError(f"the URL names no {what}; write {scheme}://host:{port}, or {local}?workers=N")
    options = WORKERS.read(url)
    if address == "local":
        return None, options
    if options:
        raise ConfigurationError(f"the URL has the option 'workers', which only {scheme}://local has, not {address}")
    return address, options
