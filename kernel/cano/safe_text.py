"""Texts of objects that users made, for messages and records. Making one never fails, and any store can keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LONGEST = 10_000
"""Characters of a text; the rest is cut."""


def safe_str(value: Any) -> str:
    """Return `str(value)`; if that raises, a text that says so."""
    return _made(str, value)


def safe_repr(value: Any) -> str:
    """Return `repr(value)`; if that raises, a text that says so."""
    return _made(repr, value)


def error_text(error: BaseException) -> str:
    """Return the class and the message of `error`."""
    text = safe_str(error)
    name = safe_str(type(error).__name__)
    return f"{name}: {text}" if text else name


def _made(make: Callable[[Any], str], value: Any) -> str:
    try:
        text = make(value)
        # stores keep no lone surrogates, and some no NUL; `str.` because it may be an instance of a subclass
        text = str.encode(text[: LONGEST + 1], "utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # noqa: BLE001  # the object's own code may raise anything
        return f"<{type(value).__name__}, whose {make.__name__}() raised {type(problem).__name__}>"
    return text if len(text) <= LONGEST else text[:LONGEST] + " …"
