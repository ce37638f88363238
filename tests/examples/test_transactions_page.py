"""What docs/transactions.md shows is true: its programs print what they say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples.test_readme import RunPython, blocks

PAGE = Path(__file__).parents[2] / "docs" / "transactions.md"
PROGRAMS = [code for code in blocks("python", PAGE) if "asyncio.run(" in code]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_programs(run_python: RunPython, number: int) -> None:
    """Each stands alone, and prints the comments behind its calls."""
    code = PROGRAMS[number]
    promised = re.findall(r"^ *(?:print\(.*\)|await handle.result\(\))  # (.*)$", code, re.MULTILINE)
    done = run_python("-W", "error", "-c", code)

    assert len(promised) > 0
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == promised


def test_the_readme_leads_to_it(root: Path) -> None:
    """README.md links to the page."""
    assert "(docs/transactions.md)" in (root / "README.md").read_text(encoding="utf-8")
