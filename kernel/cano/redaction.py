"""Redaction: data and texts without their secrets, for logs and screens."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any

__all__ = ["REDACTED", "redacted"]

REDACTED = "[redacted]"

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
_SECRET = re.compile(
    r"\b(?:\w*password|passwd|passphrase|pwd|secret|credential|authorization|cookie|bearer|jwt|signature|sig|apikey"
    r"|(?:api|access|private|secret|signing|encryption|master|session) key)s?\b"
)
_TOKEN = re.compile(r"\b(?:access|auth|refresh)?tokens?\b")
# only at the start of a word: tried at each of its characters, it would take the square of the text's length
_ADDRESS = re.compile(r"(?<![^\s\"'<>@])[^\s\"'<>@]*@[^\s\"'<>]*")
_PARAMETER = re.compile(r"""(?<![\w.%-])([\w.%-]{1,100})(\s*=\s*)('[^']*'|"[^"]*"|[^&;\s"'<>#]*)""")
_ENTRY = re.compile(r"""(?<=["'])([\w.%-]{1,100})(["']\s*:\s*)("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')""", re.DOTALL)
_HEADER = re.compile(r"\b(Bearer|Basic)( +)[\w.~+/=-]{8,}", re.IGNORECASE)


def redacted(value: Any, also: Collection[str] = ()) -> Any:
    """Return a copy of `value` in which "[redacted]" stands for the values of secret names, at any depth.

    A name is secret by its words, which begin at capital letters and after `_`, `-` and the like: `access_token` and
    `dbPassword` are, `tokenize` is not. A number called token is a count, and stays. In strings, user and password of
    URLs are replaced, and the values of secret parameters and headers. An object with a secret field becomes a mapping.

    Args:
        value: a value of any kind.
        also: further secret names; "pin" covers `card_pin`, too.
    """
    return _redacted(value, tuple(f" {_joined(name)} " for name in also), ())


def _redacted(value: Any, also: tuple[str, ...], path: tuple[int, ...]) -> Any:
    if isinstance(value, str):
        return _text(value, also)
    if len(path) > 100 or id(value) in path:
        return REDACTED
    path = (*path, id(value))
    if isinstance(value, Mapping):
        return {
            key: REDACTED if _is_secret(key, item, also) else _redacted(item, also, path) for key, item in value.items()
        }
    if fields := _fields(value):
        cleaned = _redacted(fields, also, path)
        return value if cleaned == fields else cleaned
    if isinstance(value, list | tuple | set | frozenset):
        return [_redacted(item, also, path) for item in value]
    return value


def _is_secret(name: object, value: object, also: tuple[str, ...]) -> bool:
    words = _joined(str(name))
    return (
        _SECRET.search(words) is not None
        or (_TOKEN.search(words) is not None and not isinstance(value, int | float))
        or any(each in f" {words} " for each in also)
    )


def _joined(name: str) -> str:
    return " ".join(_WORDS.findall(name)).lower()


def _fields(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass, named tuple, msgspec Struct or pydantic model; of others, none."""
    names: Any = getattr(type(value), "_fields" if isinstance(value, tuple) else "__struct_fields__", ())
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif hasattr(type(value), "model_fields"):
        names = type(value).model_fields
    return {} if isinstance(value, type) else {name: getattr(value, name, None) for name in names}


def _text(text: str, also: tuple[str, ...]) -> str:
    def hide(found: re.Match[str]) -> str:
        name, sign, value = found.groups()
        quote = value[:1] if value[:1] in ("'", '"') else ""
        return f"{name}{sign}{quote}{REDACTED}{quote}" if _is_secret(name, value, also) else found[0]

    if "@" in text:
        text = _ADDRESS.sub(lambda found: _address(found[0]), text)
    if "=" in text:
        text = _PARAMETER.sub(hide, text)
    if ":" in text:
        text = _ENTRY.sub(hide, text)
    return _HEADER.sub(rf"\1\2{REDACTED}", text)


def _address(text: str) -> str:
    """Return a URL without user and password, also if these contain signs that should be escaped; else `text`."""
    scheme, sign, rest = text.partition("://" if "://" in text else ":")
    user, at, place = rest.rpartition("@")
    if at and (":" in user or (sign == "://" and not {*user} & {*"/?#"})):
        return f"{scheme}{sign}{REDACTED}@{place}"
    return text
