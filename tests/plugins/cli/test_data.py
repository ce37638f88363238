"""`--data`: the run's first data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano_cli.data import read_data
from cano_cli.errors import CliError

Write = Callable[[str, str], Path]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-2.5", -2.5),
        ("true", True),
        ("null", None),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("", ""),
        ("Ada", "Ada"),
        ("007", "007"),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("a=b", "a=b"),
        ("@file.json", "@file.json"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_value(text: str, value: Any) -> None:
    """A value that is JSON is taken as JSON, any other as a string."""
    assert read_data([f"key={text}"]) == {"key": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,", "[1, is not JSON (Expecting value at character 4); a text that begins like JSON needs quotes: "
         "'\"[1,\"'"),
        (" {x}", " {x} is not JSON (Expecting property name enclosed in double quotes at character 3); "
         "a text that begins like JSON needs quotes: '\" {x}\"'"),
        ("[NaN]", "[NaN] is not JSON (NaN is not a JSON value); a text that begins like JSON needs quotes: "
         "'\"[NaN]\"'"),
        ('"' + "x" * 90, f'"{"x" * 59}… is not JSON (Unterminated string starting at at character 1); '
         f"a text that begins like JSON needs quotes: '\"\\\"{'x' * 59}…\"'"),
    ],
)  # fmt: skip
def test_broken_json(text: str, message: str) -> None:
    """A value that begins like JSON but is not is a typing error, not a text."""
    with pytest.raises(CliError) as caught:
        read_data([f"key={text}"])

    assert caught.value.message == f"the value {message}"


def test_nothing() -> None:
    """Without `--data` there is no data."""
    assert read_data([]) == {}


def test_file_and_values(write: Write) -> None:
    """The keys of files and of values come together, in the order given."""
    write("more.json", '{"b": [1, null], "c": "x"}')

    data = read_data(["a=1", "@more.json", "d=2"])

    assert list(data.items()) == [("a", 1), ("b", [1, None]), ("c", "x"), ("d", 2)]


def test_byte_order_mark(project: Path) -> None:
    """A file as Windows writes it is read, too."""
    (project / "bom.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')

    assert read_data(["@bom.json"]) == {"a": 1}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["name"], "--data name: expected key=value, or @file.json for a file with a JSON object"),
        (["=1"], "--data =1: expected key=value, or @file.json for a file with a JSON object"),
        (["@"], "--data @: the file name is missing after the @"),
        (["@no.json"], "--data @no.json: cannot read the file: No such file or directory"),
        (["@."], "--data @.: cannot read the file: Is a directory"),
        (["@nul\0.json"], "--data @nul\0.json: cannot read the file: embedded null byte"),
        (["a=1", "a=2"], "the data key 'a' is given twice: by --data a=1 and by --data a=2; remove one"),
        (["@ok.json", "a=2"], "the data key 'a' is given twice: by --data @ok.json and by --data a=2; remove one"),
        (['x={"k": 1, "k": 2}'], '--data x={"k": 1, "k": 2}: the key \'k\' occurs twice in one JSON object; '
         "remove one"),
        (["@twice.json"], "--data @twice.json: the key 'k' occurs twice in one JSON object; remove one"),
        (["@broken.json"], "broken.json:2:10: not JSON: Expecting value"),
        (["@empty.json"], "empty.json:1:1: not JSON: Expecting value"),
        (["@nan.json"], "nan.json: not JSON: NaN is not a JSON value"),
        (["@list.json"], '--data @list.json: expected a JSON object such as {"key": 1}, but the file contains a list'),
        (["@text.json"], '--data @text.json: expected a JSON object such as {"key": 1}, '
         "but the file contains a string"),
        (["@null.json"], '--data @null.json: expected a JSON object such as {"key": 1}, but the file contains null'),
        (["@latin.json"], "--data @latin.json: the file is not UTF-8 text (byte 7)"),
        (["@deep.json"], "deep.json: the JSON is nested too deeply"),
    ],
)  # fmt: skip
def test_refused(given: list[str], message: str, write: Write, project: Path) -> None:
    """What cannot be understood is named, with the place and what is expected."""
    write("ok.json", '{"a": 1}')
    write("twice.json", '{"outer": {"k": 1, "k": 1}}')
    write("broken.json", '{"a": 1,\n    "b": oops}')
    write("empty.json", "")
    write("nan.json", '{"a": NaN}')
    write("list.json", "[1]")
    write("text.json", '"x"')
    write("null.json", "null")
    write("deep.json", "[" * 100_000)
    (project / "latin.json").write_bytes(b'{"a": "\xe9"}')

    with pytest.raises(CliError) as caught:
        read_data(given)

    assert caught.value.message == message


def test_deep_value() -> None:
    """A value that is nested beyond reason is refused, not taken as a string; only its beginning is shown."""
    with pytest.raises(CliError) as caught:
        read_data(["key=" + "[" * 100_000])

    assert caught.value.message == f"--data key={'[' * 49}...: the JSON value is nested too deeply"
