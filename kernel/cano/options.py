"""Options of URLs, for plugins: read from a URL, and checked like the keyword arguments of the same names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from cano.checks import (
    Seconds,
    Span,
    Text,
    duration,
    file_mode,
    instant,
    one_of,
    positive_seconds,
    refuse,
    seconds,
    similar,
    switch,
    text,
    whole,
)
from cano.errors import ConfigurationError

__all__ = [
    "Options", "Seconds", "Span", "Text", "duration", "file_mode", "instant", "one_of", "optional", "place_name",
    "positive_seconds", "refuse", "seconds", "similar", "switch", "text", "whole",
]  # fmt: skip

Check = Callable[[str, Any], Any]

_PLAIN = set("abcdefghijklmnopqrstuvwxyz0123456789_-")


class Options:
    """The options that a URL may have after its `?`.

        OPTIONS = Options(
            wait=partial(seconds, most=3600), level=partial(one_of, allowed=("full", "normal")), strict=switch
        )
        OPTIONS.read("mystore://host?wait=2.5&strict=1")  # {"wait": 2.5, "strict": True}

    An error names the option, its value and what is allowed. It never contains the URL, which may hold a password.

    Args:
        checks: for each option, a function `(name, value) -> value` that raises ConfigurationError. It gets values
            from a URL as `Text`.
    """

    def __init__(self, **checks: Check) -> None:
        self._checks = checks

    def __iter__(self) -> Iterator[str]:
        return iter(self._checks)

    def read(self, url: str) -> dict[str, Any]:
        """Return the options in `url` by name.

        Raises:
            ConfigurationError: an option is unknown, has a wrong value, or is given twice.
        """
        rest, found = self.split(url)
        if other := rest.partition("?")[2]:
            raise _unless_misread(self.unknown(other.partition("&")[0].partition("=")[0]), url)
        return found

    def split(self, url: str) -> tuple[str, dict[str, Any]]:
        """Return `url` without these options, and the options by name. Other options stay in the URL.

        Raises:
            ConfigurationError: an option has a wrong value, or is given twice.
        """
        from urllib.parse import unquote  # late: importing it takes 3 ms

        address, _, query = url.partition("?")
        found: dict[str, Any] = {}
        others = []
        for part in filter(None, query.split("&")):
            name, _, value = part.partition("=")
            if (name := unquote(name)) not in self._checks:
                others.append(part)
                continue
            try:
                if name in found:
                    raise ConfigurationError(f"the URL has the option {name!r} twice")
                checked = self._checks[name](name, Text(unquote(value)))
            except ConfigurationError as error:
                raise _unless_misread(error, url) from None
            found[name] = str(checked) if isinstance(checked, Text) else checked
        return f"{address}?{'&'.join(others)}" if others else address, found

    def check(self, settings: object) -> None:
        """Check the attributes of `settings` with the names of these options, and set them to what the checks return.

        Raises:
            ConfigurationError: one is wrong.
        """
        for name, check in self._checks.items():
            object.__setattr__(settings, name, check(name, getattr(settings, name)))  # it may be frozen

    def unknown(self, name: str) -> ConfigurationError:
        """Return the error for an option that is not one of these."""
        known = f"known are {', '.join(self)}" if self._checks else "it takes no options"
        return ConfigurationError(f"the URL has the unknown option {name!r}{similar(name, self)}; {known}")


def optional(check: Check) -> Check:
    """Return a check that accepts None, and otherwise calls `check`."""
    return lambda name, value: None if value is None else check(name, value)


def _unless_misread(error: ConfigurationError, url: str) -> ConfigurationError:
    """Return `error`; or, if it may quote a part of a password, an error that quotes nothing."""
    if "@" not in url.partition("?")[2]:
        return error
    # the first ? may be part of a password, which ends at that @
    return ConfigurationError(
        "the URL has a wrong option, or a user or password that is not escaped: in these, write @ as %40, / as %2F, "
        "? as %3F, # as %23; in options, write @ as %40"
    )


def place_name(namespace: str, parent: str = "") -> str:
    """Return a name for the place of a namespace, for stores: at most 41 characters of a-z, 0-9, _, - and ~.

    No two namespaces have the same, also where names differ in more than upper and lower case.

    Args:
        namespace: its name. One of at most 40 characters of a-z, 0-9, _ and - stays as it is.
        parent: the rest of the place, if that is cut; from it, too, a hash is made.
    """
    if not parent and len(namespace) <= 40 and not set(namespace) - _PLAIN:
        return namespace
    from hashlib import sha256

    return "~" + sha256(f"{len(parent)} {parent}{namespace}".encode()).hexdigest()[:40]
