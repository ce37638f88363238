"""Texts of objects that users made, for messages and records. Making one never fails, and any store can keep it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["LONGEST", "error_text", "escaped", "safe_repr", "safe_str"]

LONGEST = 10_000
"""Characters of a text; the rest is cut."""
_SPACES = "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"


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


def escaped(text: str) -> str:
    """Return `text` as one line that a terminal shows as it is.

    Line breaks, control characters, escape sequences, marks of text direction, invisible characters and lone surrogates
    become escapes such as `\\n`, `\\x1b` and `\\u202e`. Letters and spaces of all languages stay.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in _SPACES else sign.encode("unicode_escape").decode() for sign in text
    )


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
