"""Checks of arguments, and options of URLs: what is read, what is refused, and what no error shows."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from cano import ConfigurationError
from cano.options import (
    Options,
    Text,
    file_mode,
    instant,
    one_of,
    optional,
    positive_seconds,
    seconds,
    switch,
    text,
    whole,
)

TIME = "a datetime with a time zone, or seconds since the epoch, in the years 1 to 9999"

OPTIONS = Options(
    wait=partial(seconds, most=3600),
    size=partial(whole, least=1),
    level=partial(one_of, allowed=("full", "normal", "off")),
    strict=switch,
    folder=text,
)


@pytest.mark.parametrize(
    ("check", "given", "expected"),
    [
        (whole, 0, 0),
        (whole, Text("007"), 7),
        (partial(whole, least=-1, most=1), -1, -1),
        (seconds, 2.5, 2.5),
        (seconds, math.inf, math.inf),
        (seconds, Text("2.5"), 2.5),
        (seconds, Text(".5"), 0.5),
        (seconds, Text("3"), 3),
        (positive_seconds, 1e-9, 1e-9),
        (switch, True, True),
        (switch, Text("0"), False),
        (partial(one_of, allowed=("a", "b")), "b", "b"),
        (text, "a b", "a b"),
        (file_mode, 0o640, 0o640),
        (file_mode, Text("600"), 0o600),
        (file_mode, Text("0666"), 0o666),
        (optional(whole), None, None),
        (optional(whole), 3, 3),
    ],
)
def test_what_is_allowed(check: Callable[..., Any], given: object, expected: object) -> None:
    """A check returns the value. It reads a number or a switch from `Text`, and returns plain strings."""
    found = check("name", given)

    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("check", "given", "said"),
    [
        (whole, -1, "name must be a whole number, 0 or more, not -1"),
        (whole, True, "name must be a whole number, 0 or more, not True"),
        (whole, 1.0, "name must be a whole number, 0 or more, not 1.0"),
        (whole, "1", "name must be a whole number, 0 or more, not '1'"),
        (partial(whole, least=1, most=9), 10, "name must be a whole number from 1 to 9, not 10"),
        (whole, Text("1.5"), "name must be a whole number, 0 or more, not '1.5'"),
        (whole, Text("٣"), "name must be a whole number, 0 or more, not '٣'"),
        (whole, Text("9" * 20), f"name must be a whole number, 0 or more, not '{'9' * 20}'"),
        (seconds, -0.1, "name must be a number of seconds, 0 or more, not -0.1"),
        (seconds, math.nan, "name must be a number of seconds, 0 or more, not nan"),
        (seconds, True, "name must be a number of seconds, 0 or more, not True"),
        (seconds, "3", "name must be a number of seconds, 0 or more, not '3'"),
        (seconds, None, "name must be a number of seconds, 0 or more, not None"),
        (partial(seconds, most=60), math.inf, "name must be a number of seconds from 0 to 60, not inf"),
        (seconds, Text("1e3"), "name must be a number of seconds, 0 or more, not '1e3'"),
        (seconds, Text("."), "name must be a number of seconds, 0 or more, not '.'"),
        (seconds, Text("nan"), "name must be a number of seconds, 0 or more, not 'nan'"),
        (positive_seconds, 0, "name must be a positive number of seconds, not 0"),
        (positive_seconds, math.nan, "name must be a positive number of seconds, not nan"),
        (switch, 1, "name must be True or False, not 1"),
        (switch, "1", "name must be True or False, not '1'"),
        (switch, Text("yes"), "name must be 0 or 1, not 'yes'"),
        (partial(one_of, allowed=("a", "b", "c")), "d", "name must be a, b or c, not 'd'"),
        (partial(one_of, allowed=("a", "b")), ["a"], "name must be a or b, not ['a']"),
        (text, "", "name must be a string that is not empty and contains no NUL, not ''"),
        (
            file_mode,
            0o755,
            "name must be a file mode that lets the owner read and write, such as 600 or 640 (0o600 in code), not 493",
        ),
        (
            file_mode,
            Text("0o600"),
            "name must be a file mode that lets the owner read and write, such as 600 or 640 "
            "(0o600 in code), not '0o600'",
        ),
        (text, "\ud800", r"name must be a string without lone surrogates, not '\ud800'"),
        (instant, math.nan, f"name must be {TIME}, not nan"),
        (instant, 253_402_300_800, f"name must be {TIME}, not 253402300800"),
        (instant, True, f"name must be {TIME}, not True"),
        (whole, 2**63, "name must be a whole number from 0 to 9223372036854775807, not 9223372036854775808"),
        (
            positive_seconds,
            1e12,
            "name must be a positive number of seconds up to 100,000,000,000, not 1000000000000.0",
        ),
        (text, b"a", "name must be a string that is not empty and contains no NUL, not b'a'"),
        (optional(whole), "3", "name must be a whole number, 0 or more, not '3'"),
    ],
)
def test_what_is_refused(check: Callable[..., Any], given: object, said: str) -> None:
    """The error names the argument, what is allowed, and the value."""
    with pytest.raises(ConfigurationError) as caught:
        check("name", given)

    assert str(caught.value) == said


def test_options_are_read() -> None:
    """Options are percent-decoded and checked; a URL may have none, and any part may be empty."""
    url = "store://host/place?wait=2.5&&size=7&level=full&strict=1&folder=a%20b%26c+d"

    found = OPTIONS.read(url)
    assert found == {"wait": 2.5, "size": 7, "level": "full", "strict": True, "folder": "a b&c+d"}
    assert {type(value) for value in found.values()} == {float, int, str, bool}
    assert OPTIONS.read("store://host") == OPTIONS.read("store://host?") == {}
    assert list(OPTIONS) == ["wait", "size", "level", "strict", "folder"]


def test_a_check_of_ones_own() -> None:
    """An option may have any check; a string that it returns is a plain one."""
    options = Options(name=lambda name, value: value)

    assert type(options.read("store:?name=a")["name"]) is str


def test_options_are_split_off() -> None:
    """Options of others stay in the URL as they are written."""
    url = "store://host/a?x=%41&strict=1&y&size=3"

    assert OPTIONS.split(url) == ("store://host/a?x=%41&y", {"strict": True, "size": 3})
    assert OPTIONS.split("store://host?strict=0") == ("store://host", {"strict": False})


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("size=0", "size must be a whole number, 1 or more, not '0'"),
        ("level", "level must be full, normal or off, not ''"),
        ("strict=1&strict=1", "the URL has the option 'strict' twice"),
        ("levle=full",
         "the URL has the unknown option 'levle' (did you mean 'level'?); known are wait, size, level, strict, folder"),
        ("=1", "the URL has the unknown option ''; known are wait, size, level, strict, folder"),
    ],
)  # fmt: skip
def test_wrong_options(query: str, said: str) -> None:
    """The error says which option is wrong and what is allowed, and does not show the URL."""
    with pytest.raises(ConfigurationError) as caught:
        OPTIONS.read(f"store://ada:secret@host?{query}")

    assert str(caught.value) == said


def test_a_url_without_options() -> None:
    """`Options()` refuses every option."""
    assert Options().read("store://host") == {}
    with pytest.raises(ConfigurationError, match="unknown option 'strict'; it takes no options"):
        Options().read("store://host?strict=1")


@pytest.mark.parametrize("query", ["secret=1@host", "size=secret@host", "strict=1&strict=secret@host", "a=1&size=1@b"])
def test_what_may_be_the_rest_of_a_password_is_not_shown(query: str) -> None:
    """Where a password contains a ?, what follows looks like options: no error quotes that."""
    with pytest.raises(ConfigurationError, match="write @ as %40") as caught:
        OPTIONS.read(f"store://ada:pass?{query}/place")

    assert "secret" not in str(caught.value)


def test_keyword_arguments_are_checked_alike() -> None:
    """The same checks are for settings of the same names; there, text is not read as a number."""
    right = SimpleNamespace(wait=2.5, size=7, level="full", strict=True, folder="a", more=object())
    OPTIONS.check(right)

    given = SimpleNamespace(**{**vars(right), "wait": timedelta(seconds=3)})
    OPTIONS.check(given)
    assert given.wait == 3.0

    for name, wrong in (("wait", "2.5"), ("size", True), ("level", None), ("strict", 1), ("folder", "")):
        with pytest.raises(ConfigurationError, match=f"^{name} must be "):
            OPTIONS.check(SimpleNamespace(**{**vars(right), name: wrong}))


def test_options_are_imported_quickly() -> None:
    """Every plugin imports them: they load nothing that `import cano` has not loaded."""
    program = "import sys, cano; had = set(sys.modules); import cano.options; print(sorted({*sys.modules} - had))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "['cano.options']\n"
