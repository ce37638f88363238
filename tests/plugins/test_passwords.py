"""URLs of every store that an installed plugin opens: none of their errors shows the password."""

from __future__ import annotations

import itertools
import traceback

import pytest
from cano import ConfigurationError, Kernel
from cano.testing.contract_base import declared_stores

SCHEMES = sorted(declared_stores())
SECRET = "hunter2"
PLACES = [
    "ada:{}@host", "ada:{}@host:port", ":{}@[::1", "ada:{}@/run/socket", "{}@host#x", "ada:1#{}@host", "ada:1/{}@host",
    "ada:1?{}@host", "ada:1?{}=1@host", "ada:1?strict=1&strict={}@host", "ada:1/{}?x@host",
]  # fmt: skip
NAMES = [
    "strict", "keep", "synchronous", "busy_timeout", "snapshot_every", "schema", "pool_size", "retry_for", "db",
    "synchronous_commit", "prefix", "require", "timeout", "ssl_ca_certs", "nonsense", "", "codec",
]  # fmt: skip
QUERIES = [f"{name}={value}" for name, value in itertools.product(NAMES, ["", "-1", "nan", "%00", "a@b"])]


def what_it_says(kernel: Kernel, url: str) -> str:
    """All that is shown where the URL is wrong, or of the store that it stands for."""
    try:
        store, _ = kernel.store_at(url)
    except ConfigurationError as error:
        return "".join(traceback.format_exception_only(error))
    return f"{store!r} {getattr(store, '_settings', None)!r}"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_password_is_shown(scheme: str) -> None:
    """Whatever is wrong with a URL, and wherever its password stands, no error, repr or kernel shows the password."""
    kernel = Kernel()
    wrong = 0
    for place, query in itertools.product(PLACES, QUERIES):
        url = f"{scheme}://{place.format(SECRET)}?{query}&{query}"
        said = what_it_says(kernel, url)
        wrong += "ConfigurationError" in said
        assert SECRET not in said + repr(Kernel(store=url)), url

    assert wrong


def test_every_first_party_store_is_here() -> None:
    """A new scheme is tested as soon as its plugin declares it."""
    assert {"memory", "postgres", "postgresql", "redis", "rediss", "sqlite", "unix"} <= set(SCHEMES)
