"""Redaction: which names are secret, and what of a URL or an error is shown."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import dataclass
from typing import Any
from unittest.mock import MagicMock

import msgspec
import pytest
from cano.redaction import REDACTED, redacted

SECRET = "hunter2"


@pytest.mark.parametrize(
    "name",
    [
        "password", "Password", "PGPASSWORD", "db_password", "passwords", "userPassword", "passwd", "MYSQL_PWD",
        "token", "tokens", "access_token", "accessToken", "X-Auth-Token", "accesstoken", "refresh token", "csrf.token",
        "secret", "client_secret", "clientSecret", "SECRET_KEY", "secrets", "api_key", "apiKey", "APIKey", "x-api-key",
        "apikey", "privateKey", "aws_secret_access_key", "credentials", "Authorization", "Set-Cookie", "session_key",
        "oauth2Token", "X-Amz-Signature",
    ],
)  # fmt: skip
def test_secret_names(name: str) -> None:
    """A name is secret by one of its words, in every spelling; so also as a parameter in a text."""
    assert redacted({name: SECRET}) == {name: REDACTED}
    assert SECRET not in redacted(f"https://host/path?a=1&{name.split()[-1]}={SECRET}&b=2")


@pytest.mark.parametrize(
    "name",
    ["tokenize", "tokenizer", "secretary", "secretion", "passwordless", "keys", "key", "monkey_key", "author",
     "authorized", "assignature", "designature", "passage", "", "пароль"],
)  # fmt: skip
def test_other_names(name: str) -> None:
    """A word that only contains a secret one is none."""
    assert redacted({name: SECRET}) == {name: SECRET}


def test_further_names() -> None:
    """Names of the user's are words, too, in any spelling."""
    data = {"PIN": 1, "card_pin": 2, "cardPin": 3, "pins": 4, "spin": 5, "homeAddress": 6, "home_address": 7}

    assert redacted(data, also=["pin", "home-address"]) == {
        "PIN": REDACTED, "card_pin": REDACTED, "cardPin": REDACTED, "pins": 4, "spin": 5, "homeAddress": REDACTED,
        "home_address": REDACTED,
    }  # fmt: skip


def test_counts_of_tokens_are_shown() -> None:
    """A number called token is a count, as language models have them; a password may be a number."""
    assert redacted({"max_tokens": 4096, "token": 1.5, "password": 1234}) == {
        "max_tokens": 4096, "token": 1.5, "password": REDACTED,
    }  # fmt: skip


@dataclass
class Login:
    """A class with a secret field."""

    user: str
    password: str


class Account(msgspec.Struct):
    """A struct with a secret field in a field."""

    login: Login


Pair = namedtuple("Pair", "api_key other")  # the plain one is what is tested


def test_secrets_at_any_depth() -> None:
    """Mappings, lists and objects are searched, and the original is left alone."""
    login = Login("ada", SECRET)
    data = {"all": [{"of": (Account(login), Pair(SECRET, 1), {1: login})}], "plain": Login}

    shown = redacted(data)

    assert SECRET not in repr(shown)
    assert shown["all"][0]["of"][0] == {"login": {"user": "ada", "password": REDACTED}}
    assert shown["plain"] is Login
    assert login.password == SECRET


def test_objects_without_secrets_stay_as_they_are() -> None:
    """A log shows them as before."""

    @dataclass
    class Point:
        x: int

    data = {"point": Point(1), "none": None, "bytes": b"x", "mock": MagicMock(), "type": Point}
    assert redacted(data) == data


def test_data_that_contains_itself() -> None:
    """Data without an end is cut."""
    data: list[Any] = [1]
    data += [data, data]

    assert redacted(data) == [1, REDACTED, REDACTED]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ada:hunter2@db/runs", "postgresql://[redacted]@db/runs"),
        ("postgresql://ada:hunter2@db1:5432,db2:5432/runs", "postgresql://[redacted]@db1:5432,db2:5432/runs"),
        ("mongodb://a:hunter2@db1,b:hunter2@db2/x", "mongodb://[redacted]@db2/x"),
        ("https://hunter2@github.com/x.git", "https://[redacted]@github.com/x.git"),
        ("redis://:hunter2@host/0", "redis://[redacted]@host/0"),
        ("redis://ada:p/w?x#hunter2@host/0", "redis://[redacted]@host/0"),
        ("redis:ada:hunter2@host", "redis:[redacted]@host"),
        ("https://host/?q=1&access_token=hunter2#top", "https://host/?q=1&access_token=[redacted]#top"),
        ("https://host/;password=hunter2", "https://host/;password=[redacted]"),
        ("https://host/#access_token=hunter2&x=1", "https://host/#access_token=[redacted]&x=1"),
        ("host=db password='hunter2 and more' user=ada", "host=db password='[redacted]' user=ada"),
        ("host=db password = hunter2 user=ada", "host=db password = [redacted] user=ada"),
        ("https://host:8080/path?q=a", "https://host:8080/path?q=a"),
        ("https://host/path?mail=ada@host.org", "https://host/path?mail=ada@host.org"),
        ("write to ada@host.org", "write to ada@host.org"),
        ("git@github.com:ada/runs", "git@github.com:ada/runs"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    """No user, password or secret parameter of a URL is shown, wherever it is in a text; the rest is."""
    assert redacted(url) == shown
    assert redacted([f"GET <{url}> failed"]) == [f"GET <{shown}> failed"]


@pytest.mark.parametrize(
    "text",
    [json.dumps({"a": 1, "password": 'hunter2 "quoted" hunter2'}), repr({"api_key": "hunter2"}),
     "Authorization: Bearer hunter2hunter2", "curl -H 'Authorization: Basic aHVudGVyMg=='",
     "{'Set-Cookie': 'id=hunter2; Path=/'}"],
)  # fmt: skip
def test_texts(text: str) -> None:
    """Secrets in JSON, in a dict's repr and in headers are not shown."""
    shown = redacted(text)

    assert REDACTED in shown
    assert "hunter2" not in shown
    assert "aHVudGVyMg" not in shown


@pytest.mark.parametrize("part", ["a", "a:", "a@", "a=", "a='", '"a":"', "://", " ", "\\", "a:b@", "bearer "])
def test_long_texts_take_no_longer(part: str) -> None:
    """A text that is made to be slow is redacted in one pass: this would take hours otherwise."""
    assert redacted(part * 300_000 + " a://b@c d=e 'f': 'g'").endswith(f" a://{REDACTED}@c d=e 'f': 'g'")
