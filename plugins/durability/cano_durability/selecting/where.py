"""Reads filters of runs that are written as text: `workflow = 'trip' and status = failed and updated > 2h ago`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, time, timedelta
from functools import partial
from typing import Any, NamedTuple

from cano import Condition, FilterError, RunStatus
from cano.options import similar

from cano_durability.searching.conditions import SIGNS, Literal

_TOKEN = re.compile(
    r"""(?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")|(?P<sign>[=<>!]+)|(?P<mark>[(),])|(?P<word>[^\s'"=<>!(),]+)"""
    r"""|(?P<open>['"])"""
)
_AGO = re.compile(r"((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+)ago")
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)")
_UNITS = {"w": 604_800.0, "d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0}
_LONG = {"week": "w", "day": "d", "hour": "h", "minute": "m", "min": "m", "second": "s", "sec": "s"}
_DAYS = {"today": 0, "yesterday": 1}
_STATUSES = {status.value: status for status in RunStatus}
_TEXTS = "workflow", "status", "state", "error", "parent"
_TIMES = "created", "updated"
_SIDES = {"<": "before", "<=": "before", ">": "after", ">=": "after"}
_EXAMPLES = {
    "status": "status = failed, or status in (failed, cancelled)", "created": "created > 2h ago",
    "updated": "updated > 2h ago",
}  # fmt: skip


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
    """Return the fields of `RunFilter` that a text describes, by name. Of attributes, the values are `Literal`s.

    A condition is a field, an operator and a value; `and` joins them. `workflow`, `status`, `state`, `error`, `parent`
    and search attributes are compared by `=`, `!=` and `in (…, …)`, attributes also by `<`, `<=`, `>` and `>=`;
    `created` and `updated` by these four, with a time such as `2h ago`, `1d12h ago` or `2026-11-30T09:00`, which is
    local without an offset; `today` and `yesterday` are the local midnights at which these days begin. A value with
    spaces or signs is quoted.

    Args:
        text: the text.
        now: wall-clock seconds, from which `ago` counts.

    Raises:
        FilterError: it is not such a text.
    """
    found: dict[str, Any] = {}
    attributes: dict[str, list[Condition]] = {}
    wrong = partial(_wrong, text)
    rest = [_Token(str(match.lastgroup), match.group(), match.start()) for match in _TOKEN.finditer(text)]
    while True:
        size = next((place for place, token in enumerate(rest) if token.is_and), len(rest))
        name, condition = _condition(rest[:size], rest[size] if size < len(rest) else None, now, wrong)
        if name not in (*_TEXTS, *_TIMES):
            attributes.setdefault(name, []).append(condition)
        elif condition.sign in ("!=", "in"):
            found["others"] = (*found.get("others", ()), (name, condition))
        else:
            field = f"{name}_{_SIDES[condition.sign]}" if name in _TIMES else name
            if field in found:
                raise wrong(rest[0], f"a filter has one condition of this kind; {field} is given twice")
            found[field] = condition.value
        if size == len(rest):
            return {**found, "attributes": attributes} if attributes else found
        rest = rest[size + 1 :]


def _wrong(text: str, token: _Token | None, problem: str) -> FilterError:
    """Return the error for a problem at a token, or at the end of the text."""
    place, at = (len(text), "its end") if token is None else (token.position, repr(token.text))
    message = f"the filter {text!r} is wrong at column {place + 1}, {at}: {problem}"
    return FilterError(message, text=text, position=place)


def _condition(
    tokens: Sequence[_Token], end: _Token | None, now: float, wrong: Callable[[_Token | None, str], FilterError]
) -> tuple[str, Condition]:
    """Return the name of a field or a search attribute, and the condition that it must meet."""
    given: Iterator[_Token] = iter(tokens)
    field = next(given, end)
    if field is None or field is end:
        raise wrong(field, f"a condition is missing, such as status = failed; {_known()}")
    if field.kind != "word":
        raise wrong(field, f"a condition begins with a field or a search attribute; {_known()}")
    name = field.text.lower() if field.text.lower() in (*_TEXTS, *_TIMES) else field.text
    signs = SIGNS[2:6] if name in _TIMES else ("=", "!=", "in") if name in _TEXTS else SIGNS
    example = _EXAMPLES.get(name, f"{name} = value")
    sign = next(given, end)
    if sign is None or sign is end or sign.text.lower() not in signs:
        close = "" if name in (*_TEXTS, *_TIMES) else similar(name, (*_TEXTS, *_TIMES))
        raise wrong(sign, f"{name}{close} is compared by {' or '.join(signs)}, as in {example}")
    values = list(given)
    if not values:
        raise wrong(end, f"a value is missing, as in {example}")
    if unread := next((token for token in values if token.kind == "open"), None):
        raise wrong(unread, "the quote has no end")
    if name in _TIMES:
        when = _time(" ".join(token.value for token in values), now)
        if when is None:
            raise wrong(values[0], "write a time as 2h ago, 1d12h ago, yesterday, 2026-11-30, or 2026-11-30T09:00")
        least = {"<=": math.inf, ">=": -math.inf}.get(sign.text)  # the bounds are not included
        return name, Condition(sign.text, when if least is None else math.nextafter(when, least))
    if sign.text.lower() == "in":
        several = tuple(_value(name, field, each, wrong) for each in _items(values, end, wrong))
        return name, Condition("in", several)
    value, *others = values
    if others or value.kind in ("sign", "mark"):
        first = value if value.kind != "word" and value.kind != "quoted" else others[0]
        what = "spaces" if first.kind in ("word", "quoted") else "signs"
        raise wrong(first, f"join conditions with `and`; quote a value that has {what}")
    return name, Condition(sign.text, _value(name, field, value, wrong))


def _items(
    tokens: Sequence[_Token], end: _Token | None, wrong: Callable[[_Token | None, str], FilterError]
) -> Sequence[_Token]:
    """Return the values in a list in parentheses."""
    closed = len(tokens) % 2 == 1 and tokens[-1].text == ")"
    for place, token in enumerate(tokens[:-1] if closed else tokens):
        right = token.kind in ("word", "quoted") if place % 2 else token.text == (",("[not place])
        if not right:
            raise wrong(token, "write a list in parentheses: in (one, two)")
    if not closed:
        raise wrong(end, "write a list in parentheses: in (one, two)")
    return tokens[1::2]


def _value(name: str, field: _Token, token: _Token, wrong: Callable[[_Token | None, str], FilterError]) -> Any:
    """Return the value of a field; of a search attribute, a `Literal`."""
    if name not in _TEXTS:
        return Literal(token.value, token.kind == "quoted", partial(wrong, token), partial(wrong, field))
    if name != "status":
        return token.value
    if token.value.lower() not in _STATUSES:
        known = f"known are {', '.join(_STATUSES)}"
        raise wrong(token, f"there is no such status{similar(token.value.lower(), _STATUSES)}; {known}")
    return _STATUSES[token.value.lower()]


def _known() -> str:
    return f"known are {', '.join((*_TEXTS, *_TIMES))}, and search attributes"


def _time(text: str, now: float) -> float | None:
    """Return a time in wall-clock seconds, or None if the text is not one."""
    lower = text.strip().lower()
    if (ago := _AGO.fullmatch(lower)) is not None:
        parts = [(float(count), _unit(unit)) for count, unit in _PART.findall(ago[1])]
        if all(unit in _UNITS for _, unit in parts):
            return now - sum(count * _UNITS[unit] for count, unit in parts)
        return None
    if lower in _DAYS:
        return (datetime.combine(datetime.fromtimestamp(now), time()) - timedelta(_DAYS[lower])).timestamp()
    try:
        return datetime.fromisoformat(text.strip().upper()).astimezone().timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _unit(name: str) -> str:
    """Return the short name of a unit: `h` for `hours`."""
    return _LONG.get(name.removesuffix("s"), name) if len(name) > 1 else name
