"""What all tests share."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.servers import missing
from tests.servers.postgres import postgres
from tests.servers.redis import redis

__all__ = ["postgres", "redis"]

# the whole workspace is installed here: plugins that write to stderr by themselves stay out of tests of other things
os.environ.setdefault("CANO_BLOCK", "structlog")

# tests start hundreds of processes that import the same modules: compile each module once, whatever the shell says
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# no example may fail because other tests keep the machine busy
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# a developer gets new examples each time, CI the same ones
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

HERE = Path(__file__).parent
SLOW_FOLDERS = [HERE / name for name in ("acceptance", "benchmarks", "examples", "servers", "typing")]
SLOW_FIXTURES = {"postgres", "redis", "server", "a_server", "start", "cluster", "ray_cluster"}
"""The fixtures that start servers and processes. Other files that start processes set `pytestmark`."""


@pytest.hookimpl(tryfirst=True)  # before pytest looks at what `-m` selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark slow tests. Workers run the files that have some first, so that none is left for the end."""
    for item in items:
        if (
            item.get_closest_marker("soak")
            or SLOW_FIXTURES.intersection(getattr(item, "fixturenames", ()))
            or any(item.path.is_relative_to(folder) for folder in SLOW_FOLDERS)
        ):
            item.add_marker(pytest.mark.slow)
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """Keep modules and collected tests out of later garbage collections: many tests start some, to find leaks."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Do the same with what a file has left, such as imported modules and what Hypothesis remembers."""
    done = yield
    if nextitem is not None and nextitem.path != item.path:
        gc.collect()
        gc.freeze()
    return done


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is no such hook
def pytest_xdist_auto_num_workers() -> int:
    """Start three workers for two cores, since tests also wait: for processes, servers and disks."""
    return min(8, max(2, (os.cpu_count() or 1) * 3 // 2))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the missing servers from a worker to the process that reports them."""
    missing.hand_over(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the missing servers from a worker that has ended; one that crashed has sent none."""
    missing.take_over(getattr(node, "workeroutput", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end which servers were missing."""
    missing.report(terminalreporter)
