"""URLs and arguments: their meaning, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from cano import ConfigurationError
from cano_sqlite import SqliteBackend
from cano_sqlite._plugin import cano_open_store
from cano_sqlite.url import options_from_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:///runs.db", "runs.db"),
        ("SQLITE:///runs.db", "runs.db"),
        ("sqlite:///data/runs.db", "data/runs.db"),
        ("sqlite:////var/lib/runs.db", "/var/lib/runs.db"),
        ("sqlite:///../runs.db", "../runs.db"),
        ("sqlite:///a%20b%3F%2523.db", "a b?%23.db"),
        ("sqlite:///a b#c&d;e.db", "a b#c&d;e.db"),
        ("sqlite:///ключ.db", "ключ.db"),
        ("sqlite:///memory", "memory"),
    ],
)
def test_paths(url: str, expected: str) -> None:
    """Three slashes begin a relative path, four an absolute one; percent signs are decoded, nothing else is special."""
    assert options_from_url(url) == {"path": expected}


def test_options() -> None:
    """Every option has its value, of the right type."""
    url = "sqlite:///runs.db?synchronous=normal&busy_timeout=2.5&snapshot_every=7&strict=1&file_mode=640"

    assert options_from_url(url) == {
        "path": "runs.db", "synchronous": "normal", "busy_timeout": 2.5, "snapshot_every": 7, "strict": True,
        "file_mode": 0o640,
    }  # fmt: skip


@pytest.mark.parametrize("url", ["", "sqlite", "sqlite3:///x", "memory://", "postgresql:///sqlite:///x", "runs.db"])
def test_other_schemes(url: str) -> None:
    """URLs of other schemes are left to other plugins."""
    assert cano_open_store(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:", "names no file"),
        ("sqlite:///?synchronous=full", "names no file"),
        (
            "sqlite://data/runs.db",
            "slashes before the path: write sqlite:///data/runs.db for",
        ),
        ("sqlite:runs.db", "slashes before the path: write sqlite:///runs.db for"),
        ("sqlite:/runs.db", "the current folder, sqlite:////runs.db for an absolute one"),
        ("sqlite://ada:hunter2@host/db", "write sqlite:///runs.db for a path"),
        ("sqlite://:memory:", "use memory://"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite:///%3Amemory%3A", "use memory://"),
        ("sqlite:///nul%00.db", "path must name a file"),
        (
            "sqlite:///runs.db?sync=full",
            "unknown option 'sync'; known are synchronous, busy_timeout, snapshot_every, strict, file_mode",
        ),
        ("sqlite:///runs.db?Synchronous=full", "unknown option 'Synchronous'"),
        ("sqlite:///runs.db?strict=1&strict=1", "option 'strict' twice"),
        ("sqlite:///runs.db?synchronous=off", "synchronous must be full or normal, not 'off'"),
        ("sqlite:///runs.db?synchronous=", "synchronous must be"),
        ("sqlite:///runs.db?busy_timeout=soon", "busy_timeout must be a number of seconds from 0 to 86400, not 'soon'"),
        ("sqlite:///runs.db?busy_timeout=-1", "busy_timeout must be"),
        ("sqlite:///runs.db?busy_timeout=nan", "busy_timeout must be"),
        ("sqlite:///runs.db?busy_timeout=1e400", "busy_timeout must be"),
        ("sqlite:///runs.db?busy_timeout=99999999", "busy_timeout must be"),
        ("sqlite:///runs.db?busy_timeout=.", "busy_timeout must be"),
        ("sqlite:///runs.db?file_mode=400", "file_mode must be a file mode that lets the owner read and write"),
        ("sqlite:///runs.db?file_mode=rw", "file_mode must be"),
        ("sqlite:///runs.db?snapshot_every=0", "snapshot_every must be a whole number from 1 to 999999, not '0'"),
        ("sqlite:///runs.db?snapshot_every=1.5", "snapshot_every must be a whole number"),
        ("sqlite:///runs.db?snapshot_every=٣", "snapshot_every must be a whole number"),
        ("sqlite:///runs.db?snapshot_every=9999999999999999999", "snapshot_every must be a whole number"),
        ("sqlite:///runs.db?strict=yes", "strict must be 0 or 1, not 'yes'"),
    ],
)
def test_refusals(url: str, said: str) -> None:
    """A URL without a file, or with an unknown, wrong or repeated option, is refused; the error names the option."""
    with pytest.raises(ConfigurationError) as caught:
        cano_open_store(url)

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": ""},
        {"path": ":memory:"},
        {"path": b"runs.db"},
        {"path": "a\0b"},
        {"synchronous": "extra"},
        {"synchronous": None},
        {"busy_timeout": -0.1},
        {"busy_timeout": float("nan")},
        {"busy_timeout": float("inf")},
        {"busy_timeout": True},
        {"busy_timeout": "30"},
        {"snapshot_every": 0},
        {"snapshot_every": 1.0},
        {"snapshot_every": True},
        {"strict": 1},
    ],
)
def test_wrong_arguments(arguments: dict[str, Any]) -> None:
    """The constructor refuses the same values, and wrong types."""
    (name,) = arguments
    with pytest.raises(ConfigurationError, match=name):
        SqliteBackend(**{"path": "runs.db", **arguments})


async def test_a_relative_path_is_that_of_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is relative to the folder that was current when the store was made."""
    monkeypatch.chdir(tmp_path)
    store = SqliteBackend("runs.db")
    os.chdir("/")
    await store.open()
    await store.close()

    assert os.listdir(tmp_path) == ["runs.db"]


def test_capabilities() -> None:
    """The store is durable and keeps bytes; strict is an option."""
    assert [SqliteBackend("x", strict=strict).capabilities.strict for strict in (False, True)] == [False, True]
    assert SqliteBackend("x").capabilities.durable
    assert SqliteBackend("x").capabilities.encoded
