"""URLs such as `postgresql://user@host/database?pool_size=8`. No message repeats one: it may hold a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from cano import ConfigurationError

from cano_postgres.settings import wrong

SCHEMES = ("postgresql", "postgres")
_ENCODE = "write special characters of user and password as %40 and the like"


def split_options(url: str) -> tuple[str, dict[str, Any]] | None:
    """`url` without the options of `PostgresBackend`, and those; None where its scheme is another.

    Raises:
        ConfigurationError: an option is wrong, or given twice.
    """
    if not _is_ours(url):
        return None
    place, mark, query = url.partition("?")
    options: dict[str, Any] = {}
    others: list[str] = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        name, value = unquote(name), unquote(value)
        if name not in OPTIONS:
            others.append(part)
            continue
        if name in options:
            raise ConfigurationError(f"the store's URL has the option {name!r} twice")
        options[name] = OPTIONS[name](name, value)
    return place + (mark and "?" + "&".join(others) if others else ""), options


def parameters_from_url(url: str) -> dict[str, str]:
    """libpq's connection parameters that a URL stands for.

    Raises:
        ConfigurationError: it is none of PostgreSQL's.
    """
    if not isinstance(url, str) or not _is_ours(url):
        raise ConfigurationError("a store's address must be a URL such as postgresql://user@host/database")
    place, _, query = url.partition(":")[2].removeprefix("//").partition("?")
    authority, _, database = place.partition("/")
    user_part, at, hosts = authority.rpartition("@")
    found: dict[str, str] = {}
    if at:
        user, colon, password = user_part.partition(":")
        if user:
            found["user"] = unquote(user)
        if colon:
            found["password"] = unquote(password)
    if "/" in database or "@" in database:
        raise ConfigurationError(f"the store's URL names no database: {_ENCODE}")
    if database:
        found["dbname"] = unquote(database)
    if hosts:
        places = [_host_and_port(each) for each in hosts.split(",")]
        found["host"] = ",".join(host for host, _ in places)
        if any(port for _, port in places):
            found["port"] = ",".join(port for _, port in places)
    for part in filter(None, query.split("&")):
        name, equals, value = part.partition("=")
        name = unquote(name)
        if not equals or name in found:
            what = "***" if "@" in query else repr(name)  # the rest of a password with a question mark in it
            raise ConfigurationError(f"the store's URL has {what} {'twice' if equals else 'without a value'}")
        found[name] = unquote(value)
    if any("\0" in value for value in found.values()):
        raise ConfigurationError("the store's URL contains NUL")
    return found


def label(parameters: dict[str, str]) -> str:
    """What messages call the database that these parameters lead to: neither password nor other secrets are in it."""
    user, host = parameters.get("user"), parameters.get("host", parameters.get("hostaddr", ""))
    port = parameters.get("port")
    place = (f"{user}@" if user else "") + host + (f":{port}" if port and "," not in port else "")
    return f"postgresql://{place}/{parameters.get('dbname', user or '')}"


def _is_ours(url: str) -> bool:
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError("the store's URL has a host in brackets that is no IPv6 address")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigurationError(f"the store's URL has a port that is no number from 1 to 65535; {_ENCODE}")
    return unquote(host), port


def _text(name: str, value: str) -> str:
    return value


def _seconds(name: str, value: str) -> float:
    if not value.replace(".", "", 1).isdecimal() or not value.isascii():
        raise wrong(name, value, "seconds, such as 30 or 0.5")
    return float(value)


def _number(name: str, value: str) -> int:
    if not value.isdecimal() or not value.isascii() or len(value) > 9:
        raise wrong(name, value, "a number, such as 100")
    return int(value)


def _switch(name: str, value: str) -> bool:
    if value not in ("0", "1"):
        raise wrong(name, value, "0 or 1")
    return value == "1"


OPTIONS: dict[str, Callable[[str, str], Any]] = {
    "schema": _text,
    "pool_size": _number,
    "retry_for": _seconds,
    "synchronous_commit": _text,
    "snapshot_every": _number,
    "strict": _switch,
}
"""The options that are Cano's own; all others are libpq's."""
