"""The bound context, the context on the plugin's own lines, and clean-up after errors."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from cano import JoinConfig, JoinStrategy, Kernel, KeyValueStore, SubWorkflow, Workflow
from cano_structlog import EVENTS, LogSettings, RunLog
from cano_structlog.bound import reset, structlog_variables
from structlog.contextvars import bind_contextvars, get_contextvars
from structlog.testing import capture_logs

ALL_AT_INFO = LogSettings(levels=dict.fromkeys(EVENTS, "info"))


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    """Before and after each test structlog is unconfigured and nothing is bound."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def one_step(seen: list[dict[str, Any]]) -> Workflow[str]:
    """A workflow whose task records the bound context."""
    flow = Workflow("a", name="one").add_exit_state("b")

    @flow.on("a")
    async def a(store: KeyValueStore) -> str:
        seen.append(get_contextvars())
        return "b"

    return flow


async def test_lines_are_whole_without_merged_context() -> None:
    """The plugin's own lines carry the context even under a configuration without `merge_contextvars`."""
    async with Kernel(discover=False, plugins=[RunLog(ALL_AT_INFO)]) as k:
        with capture_logs() as lines:
            result = await k.run(one_step([]))

    assert {(line["run_id"], line["workflow"], line["version"]) for line in lines} == {(result.run_id, "one", "1")}
    steps = [line for line in lines if line["event"] in ("cano.step.started", "cano.step.finished")]
    assert [(line["state"], line["seq"], line["attempt"]) for line in steps] == [("a", 1, 1)] * 2


async def test_a_child_has_nothing_of_its_parents_step() -> None:
    """No line of a child run carries the number, attempt or branch of the parent's step."""
    seen: list[dict[str, Any]] = []
    parent = Workflow("p", name="parent").add_exit_state("end")
    parent.register_split("p", [SubWorkflow(one_step(seen), then="end")], JoinConfig(JoinStrategy.all(), "end"))

    async with Kernel(discover=False, plugins=[RunLog(ALL_AT_INFO)]) as k:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await k.run(parent)

    childs = [line for line in lines if line["workflow"] == "one"]
    assert childs[0]["event"] == "cano.run.started"
    assert not {"seq", "attempt", "branch"} & childs[0].keys()
    assert all("branch" not in line for line in [*childs, *seen])
    assert [line["branch"] for line in lines if line["workflow"] == "parent" and "branch" in line] != []


async def test_a_logger_that_raises() -> None:
    """If logging fails, tasks still have their context, nothing stays bound, and each failure is counted."""

    def broken(logger: Any, method: str, event: Any) -> Any:
        raise OSError("the disk is full")

    structlog.configure(processors=[broken])
    seen: list[dict[str, Any]] = []

    async with Kernel(discover=False, plugins=[RunLog(ALL_AT_INFO)]) as k:
        result = await k.run(one_step(seen))
        counted = k.observer_errors

    assert seen == [
        {"run_id": result.run_id, "workflow": "one", "version": "1", "state": "a", "seq": 1, "attempt": 1},
    ]
    assert get_contextvars() == {}
    assert sum(counted.values()) == 5  # run started, step started, step finished, committed, run finished


def test_variables_are_those_of_structlog() -> None:
    """Looking them up binds nothing; setting one has the effect of `bind_contextvars`."""
    (mine,) = structlog_variables(["mine"])
    assert get_contextvars() == {}

    token = mine.set(1)
    assert get_contextvars() == {"mine": 1}
    bind_contextvars(mine=2)
    reset([token])
    assert get_contextvars() == {}


def test_reset_in_another_context() -> None:
    """Resetting a token in another context than its own changes nothing."""
    (mine,) = structlog_variables(["mine"])
    token = contextvars.copy_context().run(mine.set, 1)

    reset([token])

    assert get_contextvars() == {}
