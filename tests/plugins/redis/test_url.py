"""URLs and arguments: their meaning, what is refused, and that no password is shown."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from cano import ConfigurationError
from cano_redis import RedisBackend
from cano_redis._plugin import cano_open_store
from cano_redis.url import options_from_url


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://", {"tls": False}),
        ("redis://host", {"tls": False, "host": "host"}),
        ("REDIS://host:7000/3", {"tls": False, "host": "host", "port": 7000, "db": 3}),
        ("redis://[::1]:7000", {"tls": False, "host": "::1", "port": 7000}),
        ("rediss://host?ssl_ca_certs=/a%20b.pem", {"tls": True, "host": "host", "ssl_ca_certs": "/a b.pem"}),
        ("redis://ada:p%40ss%2Fw@host", {"tls": False, "host": "host", "username": "ada", "password": "p@ss/w"}),
        ("redis://:secret@host", {"tls": False, "host": "host", "password": "secret"}),
        ("unix:///run/redis.sock?db=2", {"path": "/run/redis.sock", "db": 2}),
        ("unix://ada:secret@/run/a%3Fb", {"path": "/run/a?b", "username": "ada", "password": "secret"}),
        (
            "redis://h?prefix=a%20b&require=always&retry_for=0.5&timeout=3&strict=1",
            {"tls": False, "host": "h", "prefix": "a b", "require": "always", "retry_for": 0.5, "timeout": 3.0,
             "strict": True},
        ),
        ("sqlite:///runs.db", None),
        ("redis", None),
        ("redis+x://h", None),
    ],
)  # fmt: skip
def test_urls(url: str, options: dict[str, Any] | None) -> None:
    """Each URL stands for these arguments; other schemes are other plugins'."""
    assert options_from_url(url) == options
    assert (cano_open_store(url) is None) == (options is None)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis:host", "two slashes"),
        ("redis://host:port", "no valid host and port"),
        ("redis://host:99999", "no valid host and port"),
        ("redis://host:0", "port must be"),
        ("redis://[::1", "no valid host and port"),
        ("redis://host/x", "db must be a whole number"),
        ("redis://host/1?db=2", "'db' twice"),
        ("redis://host?db=1&db=1", "'db' twice"),
        ("redis://host?tls=1", "unknown option 'tls'; known are db, prefix"),
        ("redis://host#a", "fragment"),
        ("redis://host?prefix=", "prefix must be printable text"),
        ("redis://host?prefix=a{b}", "prefix must be printable text without braces"),
        ("redis://host?require=no", "require must be any, everysec or always"),
        ("redis://host?retry_for=-1", "retry_for must be a number of seconds"),
        ("redis://host?timeout=0", "timeout must be a number of seconds"),
        ("redis://host?timeout=nan", "timeout must be a number of seconds"),
        ("redis://host?strict=yes", "strict must be 0 or 1"),
        ("unix://host/path", "absolute path"),
        ("unix://", "absolute path"),
        ("unix:///", "absolute path"),
    ],
)
def test_wrong_urls(url: str, problem: str) -> None:
    """The error says what is wrong with the URL."""
    with pytest.raises(ConfigurationError, match=problem):
        cano_open_store(url)


@pytest.mark.parametrize(
    "arguments",
    [{"host": ""}, {"port": "6379"}, {"port": True}, {"db": -1}, {"prefix": 5}, {"prefix": "\n"}, {"require": "often"},
     {"retry_for": "30"}, {"timeout": float("inf")}, {"strict": 1}, {"path": ""}, {"path": "a\0b"}, {"username": 5}],
)  # fmt: skip
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    """The error names the wrong argument."""
    with pytest.raises(ConfigurationError, match=f"^{next(iter(arguments))} must be"):
        RedisBackend(**arguments)


@pytest.mark.parametrize(
    "url",
    ["redis://ada:hunter2@host:1", "unix://ada:hunter2@/nowhere/s", "redis://ada:hunter2@host:port",
     "redis://ada:hunter2@[::1", "redis:ada:hunter2@host", "redis://ada:hunter2@host?x=1", "redis://:hunter2@h\u2100",
     "rediss://ada:hunter2@host#x", "redis://hunter2:hunter2@host?require=x",
     "redis://ada:12/hunter2@host", "redis://ada:12?hunter2@host", "redis://ada:12?hunter2=x@host"],
)  # fmt: skip
def test_passwords_are_never_shown(url: str) -> None:
    """Neither an error nor a repr contains the password."""
    shown = ""
    try:
        store = cano_open_store(url)
        shown = f"{store!r} {vars(store)!r}"
    except ConfigurationError as error:
        shown = "".join(traceback.format_exception_only(error))
    assert "hunter2" not in shown
    with pytest.raises(ConfigurationError) as caught:
        RedisBackend(password=b"hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)
