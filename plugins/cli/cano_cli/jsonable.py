"""Conversion of any value to JSON. It never raises: values without a JSON form are approximated."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import decimal
import enum
import json
import math
import os
import uuid
from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 100


def dumps(value: Any, *, indent: int | None = None, ascii: bool = True) -> str:
    """Return `value` as JSON text."""
    return json.dumps(jsonable(value), indent=indent, ensure_ascii=ascii)


def jsonable(value: Any, depth: int = MAX_DEPTH) -> Any:
    """Convert `value` to JSON types.

    Dataclasses become objects, enum members their names, sets lists, times ISO 8601 and bytes base64. Numbers that
    JSON lacks become strings. Any other value becomes its repr. Containers below `depth` levels become "...".
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return _integer(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {_key(key): jsonable(item, depth - 1) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((jsonable(item, depth - 1) for item in value), key=json.dumps)
    if isinstance(value, list | tuple):
        return [jsonable(item, depth - 1) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: jsonable(getattr(value, name, None), depth - 1) for name in names}
    if isinstance(value, bytes | bytearray):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | os.PathLike | datetime.timedelta):
        return str(value)
    return _repr(value)


def _key(key: Any) -> str:
    plain = jsonable(key)
    return plain if isinstance(plain, str) else json.dumps(plain)


def _integer(value: int) -> Any:
    try:
        str(value)
    except ValueError:
        return hex(value)  # Python refuses to convert integers of thousands of digits to decimal
    return int(value)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001  # a user's __repr__ may raise
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
