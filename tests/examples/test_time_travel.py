"""A fork has the data of its transition and the result of its own decision."""

from __future__ import annotations

import bz2
import lzma
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

HISTORY = [
    ["seq", "status", "next", "changed"],
    ["0", "running", "READ", "folder"],
    ["1", "running", "CHOOSE", "text"],
    ["2", "parked", "COMPRESS"],
    ["3", "running", "COMPRESS"],
    ["4", "succeeded", "DONE", "codec,", "size"],
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some texts."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for number in range(9):
        (texts / f"{number}.txt").write_text("".join(f"{line * number} bottles\n" for line in range(500)))
    return texts


def text_of(paths: list[Path]) -> bytes:
    """Return the content that the run reads."""
    return b"".join(path.read_bytes() for path in sorted(paths))


def expected(text: bytes, files: int) -> tuple[list[str], list[str]]:
    """Return the lines that are always printed, and those printed only by a working run."""
    sizes = {"zlib": len(zlib.compress(text)), "bz2": len(bz2.compress(text)), "lzma": len(lzma.compress(text))}
    forks = {"first": "zlib", "first with bz2": "bz2", "first with lzma": "lzma"}
    told = [f"{codec} instead of zlib saves {sizes['zlib'] - sizes[codec]} bytes" for codec in ("bz2", "lzma")]
    at_work = [f"{fork} used {codec}: {sizes[codec]} bytes" for fork, codec in forks.items()]
    return told, [f"first read {files} files, {len(text)} bytes", *at_work]


def test_other_decisions(output_of: OutputOf, folder: Path) -> None:
    """The forks use their own codecs without reading the files; a second execution does no work."""
    told, at_work = expected(text_of(list(folder.glob("*.txt"))), 9)
    first, again = output_of("time_travel", folder), output_of("time_travel", folder)

    assert first[:2] == at_work[:2]
    assert [line.split() for line in first[2:8]] == HISTORY
    assert first[8:] == [at_work[2], told[0], at_work[3], told[1]]
    assert again == first[2:8] + told


def test_killed_after_each_line(root: Path, tmp_path: Path, output_of: OutputOf, folder: Path) -> None:
    """A killed run or fork resumes and gives the same result."""
    told, at_work = expected(text_of(list(folder.glob("*.txt"))), 9)
    command = [sys.executable, str(root / "examples" / "time_travel.py"), str(folder)]
    printed: list[str] = []
    for line in at_work:
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            while (one := process.stdout.readline()) and one.rstrip() != line:
                printed.append(one.rstrip())
            process.kill()
            printed += [one.rstrip(), *process.stdout.read().splitlines()]
    last = output_of("time_travel", folder)

    assert [line.split() for line in last if line[:3].strip().isdigit() or line.startswith("seq")] == HISTORY
    assert [line for line in last if line in told] == told
    assert {line for line in [*printed, *last] if " read " in line or " used " in line} == {*at_work}


def test_the_library_of_python(output_of: OutputOf) -> None:
    """Without a folder the example compresses Python's library."""
    paths = list(Path(sysconfig.get_path("stdlib")).glob("[a-d]*.py"))
    told, at_work = expected(text_of(paths), len(paths))

    lines = output_of("time_travel")

    assert [line for line in lines if line in at_work] == at_work
    assert [line for line in lines if line in told] == told
    assert len(paths) > 20


def test_a_wrong_folder(run_example: RunPython) -> None:
    """A wrong folder is a usage error."""
    done = run_example("time_travel", "nowhere")

    assert (done.returncode, "error: not a folder: nowhere" in done.stderr) == (2, True)
