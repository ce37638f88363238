"""What all tests share."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

from tests.servers import missing
from tests.servers.postgres import postgres
from tests.servers.redis import redis

__all__ = ["postgres", "redis"]

# the whole workspace is installed here: plugins that write to stderr by themselves stay out of tests of other things
os.environ.setdefault("CANO_BLOCK", "structlog")

# new examples are tried where somebody is there to look at them; in CI the same ones every time
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which servers were missing."""
    missing.report(terminalreporter)
