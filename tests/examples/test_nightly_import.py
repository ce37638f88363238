"""Every line is imported exactly once, however often the import is killed."""

from __future__ import annotations

import math
import re
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

NIGHT = "2026-11-24"

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def imported(database: Path) -> list[tuple[str, int, str]]:
    """Return the lines in the database: file, number, text."""
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT path, number, text FROM lines ORDER BY path, number").fetchall()
    return [(Path(path).name, number, text) for path, number, text in rows]


def lines_of(paths: list[Path]) -> list[tuple[str, int, str]]:
    """Return the lines as read directly from the files."""
    return [
        (path.name, number, line.decode(errors="replace"))
        for path in sorted(paths)
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1)
    ]


def batches(paths: list[Path], size: int) -> int:
    """Return the number of batches of the files."""
    return sum(math.ceil(len(lines_of([path])) / size) for path in paths)


def killed(root: Path, folder: Path, lines: int, *arguments: str) -> list[int]:
    """Kill the example after that many lines. Return the numbers of the batches that it printed."""
    command = [sys.executable, str(root / "examples" / "nightly_import.py"), "--night", NIGHT, *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = "".join(process.stdout.readline() for _ in range(lines))
        process.kill()
        printed += process.stdout.read()
    return [int(number) for number in re.findall(r"^batch (\d+): .*\n", printed, re.MULTILINE)]


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    """Files of all lengths, with and without a final newline, and with invalid UTF-8."""
    random = Random(11)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "photo.png").write_bytes(b"no text\n")
    paths = [folder / f"{number:02}.txt" for number in range(30)]
    for number, path in enumerate(paths):
        text = b"".join(b"%d caf\xe9 %d\n" % (line, random.randrange(10**6)) for line in range(random.randrange(100)))
        path.write_bytes(text + b"the end" * (number % 3))
    paths[7].write_bytes(b"")
    return paths


def test_killed_again_and_again(root: Path, tmp_path: Path, texts: list[Path], output_of: OutputOf) -> None:
    """Each process resumes with the batch in which the last one was killed, or with the next one."""
    arguments = (str(texts[0].parent), "--batch", "9")
    known, total = 0, batches(texts, 9)
    for lines in (1, 40, 2, 25, 1):
        numbers = killed(root, tmp_path, lines, *arguments)
        assert numbers[0] in ((1,) if known == 0 else (known, known + 1))
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) >= lines
        known = numbers[-1]
    *rest, report, last = output_of("nightly_import", *arguments, "--night", NIGHT)

    assert known - 1 + len(rest) in (total - 1, total)
    assert imported(tmp_path / "lines.db") == lines_of(texts)
    assert report == f"30 files, {len(lines_of(texts))} lines, {total} batches"
    assert last == f"import-{NIGHT} is done: {len(lines_of(texts))} lines in lines.db"


def test_a_night_is_imported_once(tmp_path: Path, texts: list[Path], output_of: OutputOf) -> None:
    """Importing the same night again does nothing; another night is another run."""
    arguments = (str(texts[0].parent), "--night")
    *_, first = output_of("nightly_import", *arguments, NIGHT)

    assert output_of("nightly_import", *arguments, NIGHT) == [first]
    assert imported(tmp_path / "lines.db") == lines_of(texts)
    output_of("nightly_import", *arguments, "2026-11-25")
    assert len(imported(tmp_path / "lines.db")) == 2 * len(lines_of(texts))


def test_a_file_that_vanishes_is_listed(root: Path, tmp_path: Path, texts: list[Path], output_of: OutputOf) -> None:
    """If a file is deleted between two processes, the others are still imported."""
    arguments = (str(texts[0].parent), "--batch", "50")
    killed(root, tmp_path, 1, *arguments)
    last = texts.pop()
    last.unlink()
    *_, report, unreadable, _ = output_of("nightly_import", *arguments, "--night", NIGHT)

    assert unreadable == f"unreadable: {last}: No such file or directory"
    assert report == f"29 files, {len(lines_of(texts))} lines, {batches(texts, 50)} batches"
    assert imported(tmp_path / "lines.db") == lines_of(texts)


def test_the_library_of_python(root: Path, tmp_path: Path, output_of: OutputOf) -> None:
    """Without a folder the example imports Python's library."""
    assert killed(root, tmp_path, 30)[:30] == list(range(1, 31))
    *_, report, _ = output_of("nightly_import", "--night", NIGHT)

    paths = list(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    assert len(paths) > 100
    assert report == f"{len(paths)} files, {len(lines_of(paths))} lines, {batches(paths, 1000)} batches"
    assert imported(tmp_path / "lines.db") == lines_of(paths)


@pytest.mark.parametrize("arguments", [["--batch", "0"], ["nowhere"]])
def test_wrong_arguments(run_example: RunPython, arguments: list[str]) -> None:
    """Wrong arguments are a usage error."""
    done = run_example("nightly_import", *arguments)

    assert done.returncode == 2
    assert "error:" in done.stderr
