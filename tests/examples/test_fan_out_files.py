"""The example counts readable files and lists the others."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

OutputOf = Callable[..., list[str]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]


def test_what_cannot_be_read_stops_nothing(output_of: OutputOf, tmp_path: Path) -> None:
    """Every file is counted or listed with a reason; hidden and third-party folders are ignored."""
    files = {
        "a.py": b"import os\n\n# a comment\nprint(1)  # no comment line\n",
        "deep/down/b.py": b"x = 1\n" * 40,
        "deep/latin.py": b"# -*- coding: latin-1 -*-\n# gr\xfcn\nx = 1",
        "empty.py": b"",
        "odd.py": b"# -*- coding: klingon -*-\n",
        "not utf-8.py": b"x = '\xff'\n",
        "notes.txt": b"no Python\n",
        ".hidden/c.py": b"x\n",
        "__pycache__/d.py": b"x\n",
        "site-packages/e.py": b"x\n",
    }
    for name, data in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")

    first, second, *rest = output_of("fan_out_files", tmp_path, "--top", "2")

    assert first == "7 files: 4 counted, 3 not"
    assert second == "43 lines of code, 3 of comments, 1 blank"
    assert [line.split() for line in rest[:2]] == [["40", os.path.join("deep", "down", "b.py")], ["4", "a.py"]]
    reasons = [line.partition("(")[0] for line in rest[2:]]
    assert reasons == [
        "not counted: gone.py: FileNotFoundError",
        "not counted: not utf-8.py: SyntaxError",
        "not counted: odd.py: SyntaxError",
    ]


def test_nothing_to_count(output_of: OutputOf, tmp_path: Path) -> None:
    """A split into no branches joins too."""
    assert output_of("fan_out_files", tmp_path) == [
        "0 files: 0 counted, 0 not",
        "0 lines of code, 0 of comments, 0 blank",
    ]


def test_python_itself(output_of: OutputOf) -> None:
    """All lines of Python's library are counted."""
    root = Path(sysconfig.get_path("stdlib"))
    left_out = {"__pycache__", "site-packages", "dist-packages"}
    paths = [
        path
        for path in root.rglob("*.py")
        if not any(part in left_out or part.startswith(".") for part in path.relative_to(root).parts[:-1])
    ]

    first, second, *rest = output_of("fan_out_files")
    files, counted, failed = map(int, re.findall(r"\d+", first))
    missed = {line.split(": ")[1] for line in rest if line.startswith("not counted")}

    assert files == len(paths) > 100
    assert counted + failed == files
    assert failed == len(missed)
    lines = 0
    for path in paths:
        if str(path.relative_to(root)) not in missed:
            with path.open(encoding="latin-1") as file:  # which no bytes are wrong in
                lines += sum(1 for _ in file)
    assert sum(map(int, re.findall(r"\d+", second))) == lines


def test_a_folder_that_is_none(run_example: RunPython, tmp_path: Path) -> None:
    """The error names the wrong argument."""
    done = run_example("fan_out_files", tmp_path / "nowhere")

    assert done.returncode == 2
    assert "not a folder" in done.stderr
