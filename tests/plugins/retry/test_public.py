"""The public names, their documentation, and the imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cano_retry
import cano_retry.tenacity
import pytest

README = Path(cano_retry.__file__).parents[1] / "README.md"
NAMES = ["Chain", "Exponential", "Fixed", "NoRetry", "RetryBudget", "WithBudget"]


def test_names() -> None:
    """Exactly these names are public, in order, and each can be imported."""
    assert cano_retry.__all__ == NAMES
    assert cano_retry.tenacity.__all__ == ["FromTenacity"]
    assert sorted(name for name in NAMES if hasattr(cano_retry, name)) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_documented(name: str) -> None:
    """Each public name has a docstring and its line in the README."""
    assert getattr(cano_retry, name).__doc__
    assert f"`{name}" in README.read_text(encoding="utf-8")


def test_readme_runs() -> None:
    """The README's examples run and print what their comments show."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    for block in blocks:
        expected = "".join(f"{line}\n" for line in re.findall(r"print\(.*\)  # (.*)", block))
        done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, check=False)

        assert (done.stderr, done.stdout) == ("", expected)


def test_imports_are_light() -> None:
    """Importing the plugin imports no third-party package that cano does not import."""
    program = (
        "import sys, cano; before = set(sys.modules); import cano_retry._plugin;"
        "new = {n.partition('.')[0] for n in set(sys.modules) - before} - set(sys.stdlib_module_names);"
        "print(sorted(new - {'cano'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == "['cano_retry']\n"
