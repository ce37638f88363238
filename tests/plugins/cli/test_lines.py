"""JSON Lines, as `cano run --many` reads them."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest
from cano_cli.errors import CliError
from cano_cli.lines import CHUNK, Line, Lines


async def read(name: str) -> list[Line]:
    """All lines of a file."""
    with Lines(name) as lines:
        return [line async for line in lines]


async def test_lines(project: Path) -> None:
    """Each line is an object; blank lines are passed over, but counted; the last one may have no end."""
    (project / "x.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\n  \n{"b": [2]}\n{"c": "\xe2\x98\x83"}')

    found = await read("x.jsonl")

    assert [(line.number, line.data) for line in found] == [(1, {"a": 1}), (4, {"b": [2]}), (5, {"c": "☃"})]
    assert [line.size for line in found] == [13, 15, 13]


async def test_sizes(project: Path) -> None:
    """The sizes of all lines are that of the file, so that a bar ends at its end."""
    (project / "x.jsonl").write_text('{"a": 1}\n\n{"b": 2}\n')
    with Lines("x.jsonl") as lines:
        sizes = [line.size async for line in lines]

        assert sum(sizes) == lines.total


async def test_empty(project: Path) -> None:
    """A file with nothing in it has no lines."""
    (project / "x.jsonl").write_text("\n\n")

    assert await read("x.jsonl") == []


async def test_longer_than_a_chunk(project: Path) -> None:
    """A line may be of any length, and end anywhere in what is read at a time."""
    long = "x" * (3 * CHUNK)
    (project / "x.jsonl").write_text(f'{{"a": "{long}"}}\n{{"b": 1}}\n')

    assert [line.data for line in await read("x.jsonl")] == [{"a": long}, {"b": 1}]


async def test_bad_lines(project: Path) -> None:
    """A line that is no object is named with its number and the reason; those after it are read."""
    (project / "x.jsonl").write_bytes(
        b'{"a": 1}\n{"a": oops}\n[1]\n{"a": NaN}\n{"\xff": 1}\n{"a": 1, "a": 2}\n' + b"[" * 100_000 + b'\n{"b": 2}\n'
    )

    found = await read("x.jsonl")

    assert [line.data for line in found] == [{"a": 1}, *[None] * 6, {"b": 2}]
    assert [line.problem for line in found[1:-1]] == [
        "x.jsonl:2:7: not JSON: Expecting value",
        'x.jsonl:3: expected a JSON object such as {"key": 1}, but the line contains a list',
        "x.jsonl:4: not JSON: NaN is not a JSON value",
        "x.jsonl:5: not UTF-8 text (byte 2)",
        "x.jsonl:6: the key 'a' occurs twice in one JSON object; remove one",
        "x.jsonl:7: the JSON is nested too deeply",
    ]


@pytest.mark.parametrize(
    ("name", "reason"), [("none", "No such file or directory"), (".", "Is a directory"), ("a\0b", "embedded null byte")]
)
def test_cannot_be_opened(name: str, reason: str) -> None:
    """A file that cannot be opened is told before anything is run."""
    with pytest.raises(CliError, match=f"^--many .*: cannot read the file: {reason}$"):
        Lines(name)


async def test_pipe(project: Path) -> None:
    """A pipe is read as it comes, and keeps nobody waiting: neither the event loop nor the end of the process."""
    os.mkfifo(project / "pipe")
    opened = asyncio.get_running_loop().run_in_executor(None, os.open, "pipe", os.O_WRONLY)
    with Lines("pipe") as lines, os.fdopen(await opened, "wb", buffering=0) as writer:
        found = aiter(lines)
        assert lines.total is None
        writer.write(b'{"a": 1}\n{"b"')
        assert (await anext(found)).data == {"a": 1}
        waiting = asyncio.ensure_future(anext(found))
        await asyncio.sleep(0)
        readers = [thread for thread in threading.enumerate() if thread.name == "cano-cli reader"]
        assert {thread.daemon for thread in readers} == {True}  # the first one may not have ended yet
        writer.write(b": 2}\n")
        assert (await waiting).data == {"b": 2}
        writer.close()
        with pytest.raises(StopAsyncIteration):
            await anext(found)
