"""URLs such as `postgresql://user@host/database?pool_size=8`. No message contains one: it may hold a password."""

from __future__ import annotations

from urllib.parse import unquote

from cano import Capabilities, ConfigurationError

SCHEMES = ("postgresql", "postgres")
CAPABILITIES = Capabilities(
    notify=True, pages=True, prune=True, audit=True, claims=True, history_pages=True, namespaces=True, appends=True,
    signal_limit=True, filters=True, ready_filters=True, attributes=True, streams=True, transactions=True,
    orders=True, outcomes=True, connections=True, slots=True, queues=True,
)  # fmt: skip
"""The capabilities of the store of such a URL, unless it is strict."""
_ENCODE = "write special characters of user and password as %40 and the like"


def parameters_from_url(url: str) -> dict[str, str]:
    """Return libpq's connection parameters in a URL.

    Raises:
        ConfigurationError: the URL is wrong.
    """
    if not isinstance(url, str) or not is_ours(url):
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
    if "/" in database or "@" in database or (hosts and not at and "@" in query):  # perhaps in a password
        raise ConfigurationError(f"the store's URL names no database, or has an @ among its options; {_ENCODE}")
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
            what = "***" if "@" in query else repr(name)  # it may be the rest of a password with a question mark
            raise ConfigurationError(f"the store's URL has {what} {'twice' if equals else 'without a value'}")
        found[name] = unquote(value)
    if any("\0" in value for value in found.values()):
        raise ConfigurationError("the store's URL contains NUL")
    return found


def label(parameters: dict[str, str]) -> str:
    """Return the name of the database for messages, without password and other secrets."""
    user, host = parameters.get("user"), parameters.get("host", parameters.get("hostaddr", ""))
    port = parameters.get("port")
    place = (f"{user}@" if user else "") + host + (f":{port}" if port and "," not in port else "")
    return f"postgresql://{place}/{parameters.get('dbname', user or '')}"


def is_ours(url: str) -> bool:
    """Return whether the scheme of `url` is PostgreSQL's."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme.lower() in SCHEMES


def _host_and_port(text: str) -> tuple[str, str]:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
        if not bracket or (rest and not rest.startswith(":")):
            raise ConfigurationError("the store's URL has a host in brackets that is not an IPv6 address")
    else:
        host, _, port = text.partition(":")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise ConfigurationError(f"the store's URL has a port that is not a number from 1 to 65535; {_ENCODE}")
    return unquote(host), port
