"""The plugin: its entry point leads here."""

from __future__ import annotations

from urllib.parse import parse_qsl

from cano import Capabilities, ConfigurationError, hookimpl

from cano_memory.backend import MemoryBackend

CANO_API_VERSION = 2

_OPTIONS = "memory:// takes the options strict=0 or 1 and, without strict, keep=N finished runs"


@hookimpl
def cano_stores() -> dict[str, Capabilities]:
    """Return the capabilities of `memory://`."""
    return {"memory": Capabilities(durable=False, encoded=False)}


@hookimpl
def cano_open_store(url: str) -> MemoryBackend | None:
    """Return a new, empty store for a URL such as `memory://?strict=1` or `memory://?keep=50`."""
    scheme, colon, rest = url.partition(":")
    if scheme.lower() != "memory" or not colon:
        return None
    place, _, query = rest.partition("?")
    if place != "//":
        raise ConfigurationError(f"{url!r} names a place, {place!r}, but a store in memory has none; write memory://")
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in options:
            raise ConfigurationError(f"{url!r} has the option {name!r} twice")
        options[name] = value
    strict = options.pop("strict", "0")
    if strict not in ("0", "1"):
        raise ConfigurationError(f"{url!r} has strict={strict!r}; {_OPTIONS}")
    keep = options.pop("keep", None)
    if options:
        raise ConfigurationError(f"{url!r} has the unknown option {next(iter(options))!r}; {_OPTIONS}")
    if keep is None:
        return MemoryBackend(strict=strict == "1")
    if strict == "1" or not (keep.isascii() and keep.isdecimal() and len(keep) < 10):
        raise ConfigurationError(f"{url!r} has keep={keep!r}; {_OPTIONS}")
    return MemoryBackend(keep=int(keep))
