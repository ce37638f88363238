"""What a type checker says about a user's program, right and wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cano
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRONG = sorted(HERE.glob("wrong_*.py"))
REPORT = re.compile(r"^tests/typing/(?P<file>\w+\.py):(?P<line>\d+): error: .*\[(?P<code>[\w-]+)\]$", re.MULTILINE)

Reports = set[tuple[str, int, str]]


@pytest.fixture(scope="module")
def reports() -> Reports:
    """What mypy, as strict as in this repository, reports about all files: file, line and code."""
    files = [str(path.relative_to(ROOT)) for path in [HERE / "api.py", *WRONG]]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--hide-error-context", "--no-error-summary", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    found = {(match["file"], int(match["line"]), match["code"]) for match in REPORT.finditer(done.stdout)}
    errors = {line for line in done.stdout.splitlines() if ": error: " in line}
    assert done.returncode == 1, done.stdout + done.stderr
    assert len({error.split(": ")[0] for error in errors}) == len({(file, line) for file, line, _ in found}), errors
    return found


@pytest.mark.timeout(300)
def test_a_right_program_is_right(reports: Reports) -> None:
    """Nothing is wrong with the program that uses everything."""
    assert {report for report in reports if report[0] == "api.py"} == set()


def test_the_right_program_uses_every_name() -> None:
    """No public name is left out: each is imported and used."""
    found = Counter(re.findall(r"\w+", (HERE / "api.py").read_text(encoding="utf-8")))

    assert [name for name in cano.__all__ if found[name] < 2] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_what_is_wrong_is_reported(path: Path, reports: Reports) -> None:
    """Every mistake is found in its line, under the code that the line says, and nothing else is."""
    expected = {
        (path.name, number, code)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        for code in line.partition("# E: ")[2].replace(",", " ").split()
    }
    assert expected
    found = {report for report in reports if report[0] == path.name}

    assert {"reported": sorted(found - expected), "missed": sorted(expected - found)} == {"reported": [], "missed": []}
