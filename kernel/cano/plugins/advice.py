"""Says what to do about a URL or a name that no plugin answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from cano.errors import ConfigurationError
from cano.plugins.codec_layers import shown

PLUGINS = {
    "store": {
        "memory": "memory", "sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres", "redis": "redis",
        "rediss": "redis", "unix": "redis",
    },
    "executor": {"process": "process", "dask": "dask", "ray": "ray"},
    "codec layer": {"zstd": "zstd", "encrypt": "encryption", "limit": "offload", "offload": "offload"},
    "retry strategy": {"fixed": "retry", "exponential": "retry"},
}  # fmt: skip
"""The plugins of this project that answer for a URL scheme or a name, by kind."""


def unanswered(
    kind: str, given: str, schemes: Iterable[str], others: Iterable[str], inactive: Callable[[str], str | None]
) -> ConfigurationError:
    """Return the error for the URL or name of a `kind`, such as "store", that no plugin answers.

    Args:
        schemes: the URL schemes of the stores that active plugins open.
        others: the plugins that are not active.
        inactive: returns why a plugin is not active, or None.
    """
    name, known, what = given.partition(":")[0].lower(), PLUGINS.get(kind, {}), f"the {kind} {shown(given)!r}"
    if name in known and (problem := inactive(known[name])) is not None:
        return ConfigurationError(f"the plugin {known[name]!r}, which provides {what}, is {problem}")
    there = sorted(schemes if kind == "store" else {*known, *(["none"] if kind == "retry strategy" else [])})
    close = nearest(kind, given, {*there, *known})
    broken = ", ".join(f"{name} ({inactive(name)})" for name in others)
    return ConfigurationError(
        f"no active plugin provides {what}"
        + (f" (did you mean {close!r}?)" if close else "")
        + (f"; there are: {', '.join(there)}" if there else "")
        + (f"; not active: {broken}" if broken else "")
    )


def nearest(kind: str, given: str, known: Iterable[str]) -> str | None:
    """Return the URL or name of a `kind` that was probably meant, without secrets; None if nothing is similar."""
    from difflib import get_close_matches  # late: rarely needed

    name, colon, rest = shown(given).partition(":")
    path = rest.removeprefix("//") if name == "file" else name + colon + rest
    if kind == "store" and (name == "file" or len(name) < 2 or (not colon and set("./\\") & set(name))):
        return "sqlite:///" + (path or "runs.db")
    close = "".join(get_close_matches(name.strip().lower(), sorted(known), 1))
    if close == "sqlite" and not rest.startswith("///"):
        absolute = rest.startswith("/") and not rest.startswith("//")
        rest = "///" + "/" * absolute + (rest.lstrip("/") or "runs.db")
    elif kind == "store" and not rest.startswith("//"):
        rest = "//" + rest.lstrip("/")
    found = close + (":" if kind == "store" else colon) + rest
    return found if close and found != given else None
