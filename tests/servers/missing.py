"""What happens where a server that tests need is not installed: in CI they fail, elsewhere they are skipped, loudly."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NoReturn

import pytest

MISSING: dict[str, str] = {}
"""The servers that were looked for in vain, each with what to install."""


def not_installed(server: str, remedy: str) -> NoReturn:
    """Fail the tests that need `server` where `CI` is set; otherwise skip them, and say so at the end.

    Args:
        server: its name.
        remedy: what to install.
    """
    problem = f"{server} is not installed: {remedy}"
    if os.environ.get("CI"):
        pytest.fail(problem, pytrace=False)
    MISSING[server] = remedy
    pytest.skip(problem)


def hand_over(config: pytest.Config) -> None:
    """In a worker of pytest-xdist: send what is missing to the process that writes the summary."""
    if hasattr(config, "workeroutput"):
        config.workeroutput["missing servers"] = MISSING


def take_over(workeroutput: Mapping[str, Any]) -> None:
    """In the process that writes the summary: add what a worker has sent."""
    MISSING.update(workeroutput.get("missing servers", {}))


def report(terminal: pytest.TerminalReporter) -> None:
    """Say what was not tested, below everything else."""
    for server, remedy in MISSING.items():
        terminal.section(f"NOT TESTED: {server}", sep="!", red=True, bold=True)
        terminal.line(f"{server} is not installed, so everything that needs it was skipped: {remedy}", red=True)
