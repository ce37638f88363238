"""Parsing values in arguments: `--data key=value`, `--data @file.json` and the payload of a signal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from cano_cli.errors import CliError
from cano_cli.hints import word


class _NotJsonError(ValueError):
    """A constant that Python's parser accepts but JSON does not have, such as NaN."""


def read_data(given: Iterable[str], option: str = "--data") -> dict[str, Any]:
    """Parse the values of `--data`, or of another option like it.

    Args:
        given: each `key=value`, where the value is JSON or a text, or `@file` with a JSON object.
        option: the option.

    Raises:
        CliError: a value has another form, a file cannot be read, or a key is given twice.
    """
    data: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in given:
        if item.startswith("@"):
            found = _read_file(item[1:], option)
        else:
            key, equals, text = item.partition("=")
            if not equals or not key:
                raise CliError(f"{option} {item}: expected key=value, or @file.json for a file with a JSON object")
            found = {key: json_or_text(text, f"{option} {item}", "the value")}
        for key, value in found.items():
            if key in data:
                both = f"by {option} {origins[key]} and by {option} {item}"
                raise CliError(f"the data key {key!r} is given twice: {both}; remove one")
            data[key], origins[key] = value, item
    return data


def json_or_text(text: str, place: str, name: str) -> Any:
    """Return the value of `text` as JSON, or the text itself, which needs no quotes in a shell.

    Args:
        text: the argument, or a part of it.
        place: where it is.
        name: what it is, such as "the payload".

    Raises:
        CliError: the text is not JSON, but begins like an object, a list or a string.
    """
    try:
        return _parse(text, place)
    except ValueError as error:
        if not text.lstrip().startswith(("{", "[", '"')):
            return text
        problem = f"{error.msg} at character {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
        shown = text if len(text) <= 60 else text[:60] + "…"
        quoted = word(json.dumps(shown, ensure_ascii=False))
        raise CliError(
            f"{name} {shown} is not JSON ({problem}); a text that begins like JSON needs quotes: {quoted}"
        ) from error
    except RecursionError:
        raise CliError(f"{place[:60]}...: the JSON value is nested too deeply") from None


def parse_value(text: str, where: str) -> Any:
    """Parse JSON.

    Raises:
        CliError: `text` is not JSON; the message begins with `where`.
    """
    try:
        return _parse(text, where)
    except json.JSONDecodeError as error:
        raise CliError(f"{where}:{error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise CliError(f"{where}: not JSON: {error}") from error
    except RecursionError:
        raise CliError(f"{where}: the JSON is nested too deeply") from None


def parse_line(text: str, where: str) -> dict[str, Any]:
    """Parse a line that is a JSON object.

    Args:
        text: the line.
        where: the file name and the line number.

    Raises:
        CliError: the line is not a JSON object.
    """
    data = parse_value(text, where)
    if not isinstance(data, dict):
        raise CliError(f'{where}: expected a JSON object such as {{"key": 1}}, but the line contains {_kind(data)}')
    return data


def _read_file(name: str, option: str) -> dict[str, Any]:
    if not name:
        raise CliError(f"{option} @: the file name is missing after the @")
    try:
        text = Path(name).read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise CliError(f"{option} @{name}: cannot read the file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{option} @{name}: the file is not UTF-8 text (byte {error.start})") from error
    except ValueError as error:
        raise CliError(f"{option} @{name}: cannot read the file: {error}") from error
    try:
        data = _parse(text, f"{option} @{name}")
    except json.JSONDecodeError as error:
        raise CliError(f"{name}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except ValueError as error:
        raise CliError(f"{name}: not JSON: {error}") from error
    except RecursionError:
        raise CliError(f"{name}: the JSON is nested too deeply") from None
    if not isinstance(data, dict):
        expected = 'expected a JSON object such as {"key": 1}'
        raise CliError(f"{option} @{name}: {expected}, but the file contains {_kind(data)}")
    return data


def _parse(text: str, place: str) -> Any:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise CliError(f"{place}: the key {twice!r} occurs twice in one JSON object; remove one")
        return found

    return json.loads(text, object_pairs_hook=once, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise _NotJsonError(f"{constant} is not a JSON value")


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "a list"
    return "a string" if isinstance(value, str) else json.dumps(value)
