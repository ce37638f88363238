"""Reads filters of runs that are written as text: `workflow = 'trip' and status = failed and updated > 2h ago`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cano import FilterError, RunStatus
from cano.options import similar

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign>[=<>!]+)|(?P<word>[^\s'"=<>!]+)|(?P<open>['"])"""
)
_AGO = re.compile(r"((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+)ago")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_LONG = {"week": "w", "day": "d", "hour": "h", "minute": "m", "min": "m", "second": "s", "sec": "s"}
_STATUSES = {status.value: status for status in RunStatus}
_TEXTS = "workflow", "status", "state", "error", "parent"
_TIMES = "created", "updated"
_SIDES = {"<": "before", ">": "after"}


class _Token(NamedTuple):
    """A part of the text: a word, a quoted text or an operator, and its place."""

    kind: str
    text: str
    position: int

    @property
    def value(self) -> str:
        """The text without its quotes."""
        mark = self.text[0]
        return self.text[1:-1].replace(mark * 2, mark) if self.kind == "quoted" else self.text

    @property
    def is_and(self) -> bool:
        """Whether it joins two conditions."""
        return self.kind == "word" and self.text.lower() == "and"


def parsed(text: str, now: float) -> dict[str, Any]:
    """Return the fields of `RunFilter` that a text describes, by name.

    A condition is a field, an operator and a value; `and` joins them. `workflow`, `status`, `state`, `error` and
    `parent` are compared by `=`; `created` and `updated` by `<` and `>`, with a time such as `2h ago`, `1d12h ago` or
    `2026-11-30T09:00`, which is local without an offset. A value with spaces or signs is quoted.

    Args:
        text: the text.
        now: wall-clock seconds, from which `ago` counts.

    Raises:
        FilterError: it is not such a text.
    """

    def wrong(token: _Token | None, problem: str) -> FilterError:
        place, at = (len(text), "its end") if token is None else (token.position, repr(token.text))
        message = f"the filter {text!r} is wrong at column {place + 1}, {at}: {problem}"
        return FilterError(message, text=text, position=place)

    found: dict[str, Any] = {}
    rest = [_Token(str(match.lastgroup), match.group(), match.start()) for match in _TOKEN.finditer(text)]
    while True:
        size = next((place for place, token in enumerate(rest) if token.is_and), len(rest))
        name, value = _condition(rest[:size], rest[size] if size < len(rest) else None, now, wrong)
        if name in found:
            raise wrong(rest[0], f"a filter has one condition of this kind; {name} is given twice")
        found[name] = value
        if size == len(rest):
            return found
        rest = rest[size + 1 :]


def _condition(
    tokens: Sequence[_Token], end: _Token | None, now: float, wrong: Callable[[_Token | None, str], FilterError]
) -> tuple[str, Any]:
    """Return the name of a field of `RunFilter` and the value that a condition gives it."""
    given: Iterator[_Token] = iter(tokens)
    field = next(given, end)
    if field is None or field is end:
        raise wrong(field, f"a condition is missing, such as status = failed; {_known()}")
    if (name := field.text.lower()) not in (*_TEXTS, *_TIMES):
        raise wrong(field, f"there is no such field{similar(name, (*_TEXTS, *_TIMES))}; {_known()}")
    signs, example = ("<>", "updated > 2h ago") if name in _TIMES else ("=", "status = failed")
    sign = next(given, end)
    if sign is None or sign.text not in signs or sign is end:
        problem = f"{name} is compared by {' or '.join(signs)}, as in {example}"
        raise wrong(sign, problem + ("; only `=` is known" if sign and sign.text == "!=" and signs == "=" else ""))
    values = list(given)
    if not values:
        raise wrong(end, f"a value is missing, as in {example}")
    if unread := next((token for token in values if token.kind == "open"), None):
        raise wrong(unread, "the quote has no end")
    if name in _TIMES:
        when = _time(" ".join(token.value for token in values), now)
        if when is None:
            raise wrong(values[0], "write a time as 2h ago, 1d12h ago, or 2026-11-30T09:00")
        return f"{name}_{_SIDES[sign.text]}", when
    value, *others = values
    if others or value.kind == "sign":
        first = others[0] if others else value
        what = "signs" if first.kind == "sign" else "spaces"
        raise wrong(first, f"join conditions with `and`; quote a value that has {what}")
    if name != "status":
        return name, value.value
    if value.value.lower() not in _STATUSES:
        known = f"known are {', '.join(_STATUSES)}"
        raise wrong(value, f"there is no such status{similar(value.value.lower(), _STATUSES)}; {known}")
    return name, _STATUSES[value.value.lower()]


def _known() -> str:
    return f"known are {', '.join((*_TEXTS, *_TIMES))}"


def _time(text: str, now: float) -> float | None:
    """Return a time in wall-clock seconds, or None if the text is not one."""
    lower = text.strip().lower()
    if (ago := _AGO.fullmatch(lower)) is not None:
        parts = [(float(count), _unit(unit)) for count, unit in _PART.findall(ago[1])]
        if all(unit in _UNITS for _, unit in parts):
            return now - sum(count * _UNITS[unit] for count, unit in parts)
        return None
    try:
        return datetime.fromisoformat(text.strip().upper()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _unit(name: str) -> str:
    """Return the short name of a unit: `h` for `hours`."""
    return _LONG.get(name.removesuffix("s"), name) if len(name) > 1 else name
