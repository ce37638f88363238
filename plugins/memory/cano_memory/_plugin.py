"""The plugin: its entry point leads here."""

from __future__ import annotations

from functools import partial

from cano import Capabilities, ConfigurationError, hookimpl
from cano.options import Options, switch, whole

from cano_memory.backend import CAPABILITIES, MemoryBackend

CANO_API_VERSION = 2

OPTIONS = Options(strict=switch, keep=partial(whole, most=999_999_999))


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """Return the capabilities of `memory://`."""
    return {"memory": CAPABILITIES}


@hookimpl
def cano_open_store(url: str) -> MemoryBackend | None:
    """Return a new, empty store for a URL such as `memory://?strict=1` or `memory://?keep=50`."""
    scheme, colon, rest = url.partition(":")
    if scheme.lower() != "memory" or not colon:
        return None
    if rest.partition("?")[0] != "//":
        raise ConfigurationError("a memory URL has no host or path: write memory://")
    options = OPTIONS.read(url)
    if options.get("strict") and "keep" in options:
        raise ConfigurationError("a strict store keeps every run: give strict=1 or keep=N, not both")
    return MemoryBackend(**options)
