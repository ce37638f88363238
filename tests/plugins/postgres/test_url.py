"""URLs: their options, and that no password is shown."""

from __future__ import annotations

from typing import Any

import pytest
from cano import ConfigurationError
from cano_postgres import PostgresBackend
from cano_postgres._plugin import cano_open_store, cano_stores
from cano_postgres.settings import OPTIONS
from cano_postgres.url import label, parameters_from_url


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://", {}),
        ("postgres:///runs", {"dbname": "runs"}),
        ("PostgreSQL://ada@db/runs", {"user": "ada", "host": "db", "dbname": "runs"}),
        ("postgresql://ada:p%40ss%2Fw@db:5433/a%20b",
         {"user": "ada", "password": "p@ss/w", "host": "db", "port": "5433", "dbname": "a b"}),
        ("postgresql://[::1]:5433/runs", {"host": "::1", "port": "5433", "dbname": "runs"}),
        ("postgresql://[::1]/runs", {"host": "::1", "dbname": "runs"}),
        ("postgresql://a:1,b:2/runs", {"host": "a,b", "port": "1,2", "dbname": "runs"}),
        ("postgresql://a,b:2/runs", {"host": "a,b", "port": ",2", "dbname": "runs"}),
        ("postgresql://%2Fvar%2Frun/runs", {"host": "/var/run", "dbname": "runs"}),
        ("postgresql:///runs?host=/var/run&user=ada", {"dbname": "runs", "host": "/var/run", "user": "ada"}),
        ("postgresql:///runs?application_name=a+b%26c", {"dbname": "runs", "application_name": "a+b&c"}),
        ("postgresql://a@b@db/runs", {"user": "a@b", "host": "db", "dbname": "runs"}),
    ],
)  # fmt: skip
def test_what_libpq_is_told(url: str, parameters: dict[str, str]) -> None:
    """A URL is read as libpq reads it."""
    assert parameters_from_url(url) == parameters


def test_our_options_are_taken_out() -> None:
    """Cano's options are removed, wherever they are; the rest is unchanged."""
    url = (
        "postgresql://ada@db/runs?schema=a%20b&sslmode=require&pool_size=8&retry_for=2.5&snapshot_every=7&strict=1"
        "&options=-c%20x%3Dy&synchronous_commit=off"
    )

    assert OPTIONS.split(url) == (
        "postgresql://ada@db/runs?sslmode=require&options=-c%20x%3Dy",
        {"schema": "a b", "pool_size": 8, "retry_for": 2.5, "snapshot_every": 7, "strict": True,
         "synchronous_commit": "off"},
    )  # fmt: skip
    assert OPTIONS.split("postgresql:///runs?strict=0") == ("postgresql:///runs", {"strict": False})
    assert OPTIONS.split("postgresql:///runs?") == ("postgresql:///runs", {})


@pytest.mark.parametrize("url", ["sqlite:///runs.db", "memory://", "postgresql", "postgresql:runs", "postgresqlx://a"])
def test_other_urls_are_left_to_others(url: str) -> None:
    """A URL of another scheme is not an error, since another plugin may open it."""
    assert cano_open_store(url) is None


WRONG = [
    ("postgresql://ada:secret@db/runs?strict=yes", "strict must be 0 or 1, not 'yes'"),
    ("postgresql://ada:secret@db/runs?pool_size=0", "pool_size must be a whole number from 1 to 1000"),
    ("postgresql://ada:secret@db/runs?pool_size=many", "pool_size must be a whole number"),
    ("postgresql://ada:secret@db/runs?retry_for=-1", "retry_for must be a number of seconds"),
    ("postgresql://ada:secret@db/runs?retry_for=99999999", "retry_for must be a number of seconds from 0 to 86400"),
    ("postgresql://ada:secret@db/runs?schema=", "schema must be a name"),
    ("postgresql://ada:secret@db/runs?schema=pg_temp", "schema must be a name that PostgreSQL does not reserve"),
    ("postgresql://ada:secret@db/runs?schema=" + "x" * 64, "schema must be a name of 1 to 63 bytes"),
    (
        "postgresql://ada:secret@db/runs?synchronous_commit=maybe",
        "synchronous_commit must be on, off, local",
    ),
    ("postgresql://ada:secret@db/runs?snapshot_every=0", "snapshot_every must be a whole number"),
    ("postgresql://ada:secret@db/runs?strict=1&strict=1", "the option 'strict' twice"),
    ("postgresql://ada:secret@db/runs?user=bob", "'user' twice"),
    ("postgresql://ada:secret@db/runs?sslmode", "'sslmode' without a value"),
    ("postgresql://ada:secret@db:port/runs", "a port that is not a number"),
    ("postgresql://ada:secret@db:70000/runs", "a port that is not a number"),
    ("postgresql://ada:sec/ret@db/runs", "write special characters of user and password as %40"),
    ("postgresql://ada:123/secret@db/runs", "write special characters of user and password as %40"),
    ("postgresql://ada:123?secret@db/runs", "write special characters of user and password as %40"),
    ("postgresql://ada:secret@[::1/runs", "not an IPv6 address"),
    ("postgresql://ada:secret%00@db/runs", "contains NUL"),
]


@pytest.mark.parametrize(("url", "said"), WRONG)
def test_what_is_wrong(url: str, said: str) -> None:
    """A wrong URL is an error that says what is wrong, and does not contain the password."""
    with pytest.raises(ConfigurationError) as caught:
        cano_open_store(url)
    assert said in str(caught.value)
    assert not any(part in str(caught.value) for part in ("secret", "sec/", "ret@"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("pool_size", True), ("pool_size", 1.5), ("retry_for", float("nan")), ("retry_for", "3"), ("strict", 1),
     ("schema", None), ("schema", "a\0"), ("snapshot_every", 10**6), ("synchronous_commit", True)],
)  # fmt: skip
def test_wrong_arguments(name: str, value: Any) -> None:
    """Wrong arguments of `PostgresBackend` are errors too."""
    with pytest.raises(ConfigurationError, match=f"{name} must be"):
        PostgresBackend("postgresql:///runs", **{name: value})
    with pytest.raises(ConfigurationError, match="must be a URL"):
        PostgresBackend("host=db user=ada")


def test_the_password_is_not_shown() -> None:
    """Neither the backend nor its settings show the password."""
    store = PostgresBackend("postgresql://ada:secret@db:5433/runs?sslpassword=secret&passfile=/secret")

    assert repr(store) == "<PostgresBackend postgresql://ada@db:5433/runs, not open>"
    assert "secret" not in repr(store._settings)
    assert label({}) == "postgresql:///"
    assert label({"user": "ada", "host": "a,b", "port": "1,2"}) == "postgresql://ada@a,b/ada"


def test_what_a_store_promises() -> None:
    """The plugin names its schemes with their capabilities."""
    stores = cano_stores()

    assert sorted(stores) == ["postgres", "postgresql"]
    for scheme, promised in stores.items():
        assert PostgresBackend(f"{scheme}:///runs").capabilities == promised
    assert promised.durable
    assert promised.notify
    assert PostgresBackend("postgres:///runs", strict=True).capabilities == promised._replace(strict=True)
