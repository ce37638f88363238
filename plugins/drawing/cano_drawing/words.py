"""Texts in a picture: how wide they are, how they are cut, and how they are written in XML."""

from __future__ import annotations

import unicodedata
from xml.sax.saxutils import quoteattr

from cano.safe_text import escaped

LONGEST = 32
"""Columns of a text; a longer one is cut, and whole in the box's title."""


def columns(text: str) -> int:
    """Return how many columns a text has in a font whose letters are equally wide."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def cut(text: str, most: int = LONGEST) -> str:
    """Return a text as one line of at most `most` columns."""
    text = escaped(text)
    if columns(text) <= most:
        return text
    kept, wide = [], 0
    for sign in text:
        wide += columns(sign)
        if wide >= most:
            break
        kept.append(sign)
    return "".join(kept) + "…"


def xml(text: str) -> str:
    """Return a text for the content of an element."""
    return escaped(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def attribute(text: str) -> str:
    """Return a text as the value of an attribute, with its quotes."""
    return quoteattr(escaped(text))


def seconds(amount: float) -> str:
    """Return a duration in at most six columns or so."""
    if amount < 1:
        return f"{amount * 1000:.0f} ms"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if amount >= 2 * size:
            return f"{amount / size:.0f} {unit}"
    return f"{amount:.1f} s"


def count(number: int, what: str) -> str:
    """Return a number with a noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"
