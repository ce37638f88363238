"""Where a server is not installed, nothing is left untested without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import missing

ROOT = Path(__file__).parents[2]


def test_in_ci_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs a server which CI has not fails, and names what to install."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(missing, "MISSING", {})
    with pytest.raises(pytest.fail.Exception, match="Oracle is not installed: buy one"):
        missing.not_installed("Oracle", "buy one")


def test_elsewhere_it_is_a_skip_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is skipped, and the end of the output says so."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(missing, "MISSING", {})
    with pytest.raises(pytest.skip.Exception, match="Oracle is not installed"):
        missing.not_installed("Oracle", "buy one")

    assert missing.MISSING == {"Oracle": "buy one"}


def test_workers_tell_the_process_that_reports(tmp_path: Path) -> None:
    """Where pytest-xdist distributes the tests, the end of the output names the missing servers all the same."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", "tests/servers/test_redis.py"],
        cwd=ROOT, env={**environment, "PATH": str(tmp_path / "empty")}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT TESTED: Redis" in done.stdout
