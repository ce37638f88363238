"""Dates, times and time zones.

A datetime in a named zone is stored with the zone and its fold, not with an offset. Only names of zones installed on
this machine are accepted, because zoneinfo tries to import a package for any other name.
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import zoneinfo
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cano_msgspec._kind import Kind, Refusal, builtin

_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


def _write_moment(value: Any) -> tuple[Any, ...]:
    zone = value.tzinfo
    if not value.fold and (zone is None or (type(zone) is timezone and _has_default_name(zone))):
        return (value.isoformat(),)
    return value.replace(tzinfo=None).isoformat(), value.fold, zone


def _read_moment(cls: Any, parts: list[Any]) -> Any:
    text, *rest = parts
    moment = cls.fromisoformat(text)
    if rest:
        fold, zone = rest
        if zone is not None and not isinstance(zone, tzinfo):
            raise TypeError("a time zone was expected")
        moment = moment.replace(fold=fold, tzinfo=zone)
    return moment


def _read_datetime(parts: list[Any]) -> Any:
    return _read_moment(datetime, parts)


def _read_time(parts: list[Any]) -> Any:
    return _read_moment(time, parts)


def _write_date(value: date) -> tuple[str]:
    return (value.isoformat(),)


def _read_date(parts: list[Any]) -> date:
    (text,) = parts
    return date.fromisoformat(text)


def _write_timedelta(value: timedelta) -> tuple[int, int, int]:
    return value.days, value.seconds, value.microseconds


def _read_timedelta(parts: list[Any]) -> timedelta:
    days, seconds, microseconds = parts
    return timedelta(days, seconds, microseconds)


def _has_default_name(zone: timezone) -> bool:
    return zone is UTC or zone.tzname(None) == timezone(zone.utcoffset(None)).tzname(None)


def _write_timezone(value: timezone) -> tuple[Any, ...]:
    offset = value.utcoffset(None)
    return (offset,) if _has_default_name(value) else (offset, value.tzname(None))


def _read_timezone(parts: list[Any]) -> timezone:
    return timezone(*parts)


def _write_zone(value: ZoneInfo) -> tuple[str]:
    if value.key is None or not _installed(value.key):
        raise Refusal(f"the time zone {value.key!r} is not installed", ZoneInfo)
    return (value.key,)


def _read_zone(parts: list[Any]) -> ZoneInfo:
    (key,) = parts
    if not _installed(key):
        raise Refusal(f"the time zone {ascii(key)[:80]} is not installed", ZoneInfo)
    return ZoneInfo(key)


_found: set[str] = set()  # so that each zone is looked up on disk only once


def _installed(key: str) -> bool:
    if key in _found:
        return True
    if not _ZONE_NAME.fullmatch(key):
        return False
    if any(os.path.isfile(os.path.join(place, key)) for place in zoneinfo.TZPATH) or key in _packaged():
        _found.add(key)
        return True
    return False


@cache
def _packaged() -> frozenset[str]:
    """Return the zones of the package tzdata, to which zoneinfo falls back, if it is installed."""
    found = find_spec("tzdata")
    if found is None or found.origin is None:
        return frozenset()
    return frozenset(Path(found.origin).with_name("zones").read_text(encoding="utf-8").split())


def _write_pydantic_zone(value: tzinfo) -> tuple[timedelta | None]:
    return (value.utcoffset(None),)


def _read_pydantic_zone(parts: list[Any]) -> Any:
    cls = _pydantic_zone()
    if cls is None:
        raise Refusal("the time zone is one of pydantic's; import pydantic")
    (offset,) = parts
    return cls(offset.total_seconds())


def _pydantic_zone() -> Any:
    return getattr(sys.modules.get("pydantic_core"), "TzInfo", None)


def zone_kind_of(cls: type) -> Kind | None:
    """Return the kind of `cls` if it is the time zone class of pydantic's parsed times, else None."""
    return dataclasses.replace(PYDANTIC_ZONE, cls=cls) if cls is _pydantic_zone() else None


PYDANTIC_ZONE = builtin(
    tzinfo, "zp", _write_pydantic_zone, _read_pydantic_zone
)  # `cls` is replaced by pydantic's class once that is imported

KINDS = (
    builtin(datetime, "dt", _write_moment, _read_datetime),
    builtin(time, "tm", _write_moment, _read_time),
    builtin(date, "da", _write_date, _read_date),
    builtin(timedelta, "td", _write_timedelta, _read_timedelta),
    builtin(timezone, "tz", _write_timezone, _read_timezone),
    builtin(ZoneInfo, "zi", _write_zone, _read_zone),
)
