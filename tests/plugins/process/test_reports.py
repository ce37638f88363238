"""What a task elsewhere tells its run, and is told: all is as in the process of the run, and some of it live."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Executor,
    Kernel,
    Progress,
    SerializationError,
    SizeLimitError,
    TaskError,
    Workflow,
    hookimpl,
)
from cano_remote import FuturesExecutor

from tests.plugins.process import reports
from tests.plugins.process.live import check_that_reports_are_live, counting
from tests.plugins.process.reports import RETRIED, flow_of

Flow = Workflow[str]


async def told(executor: Executor | None, store: str, flow: Flow, data: dict[str, Any], run_id: str = "r") -> list[Any]:
    """What is known of a run after its end: its data, streams, attributes, and last progress."""
    async with Kernel(store=store, executor={"cpu": executor}, block=["retry"]) as kernel:
        handle = await kernel.start(flow, data, run_id=run_id)
        result = await handle.result()
        streams = [counting([item async for item in handle.stream(channel)]) for channel in ("x", "y")]
        return [result, streams, dict((await kernel.get(run_id)).attributes)]


FLOWS: list[Callable[[], Flow]] = [
    lambda: flow_of(reports.emit),
    lambda: flow_of(reports.emit_and_fail, RETRIED),
    lambda: flow_of(reports.Emits(RETRIED)),  # type: ignore[arg-type]
    lambda: flow_of(reports.set_attributes),
    lambda: flow_of(reports.run_another),
    lambda: flow_of(reports.use_a_thread),
    lambda: reports.after_a_split(),
    lambda: reports.after_an_error(),
    lambda: reports.of_a_parent(),
]
NAMES = ["emit", "retry", "node", "attributes", "another run", "thread", "outcome", "error", "nominal"]
RUN_ID = "report@2026-03-01T04:00:00Z"


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize("flow", FLOWS, ids=NAMES)
async def test_all_is_as_in_the_process_of_the_run(
    workers: Any, tmp_path: Path, flow: Callable[[], Flow], store: str
) -> None:
    """Data, streams and search attributes are the same, and so is what the step knows of what was before."""
    urls = (
        ["memory://"] * 2 if store == "memory" else [f"sqlite:///{tmp_path}/{place}.db" for place in ("here", "there")]
    )
    data = {"size": 7, "tenant": "none"}
    here = await told(None, urls[0], flow(), data, RUN_ID)
    assert await told(workers, urls[1], flow(), data, RUN_ID) == here


async def test_without_a_channel_all_comes_with_the_answer() -> None:
    """A pool of the standard library has none, and the results are the same."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        for flow in FLOWS[:5]:
            here = await told(None, "memory://", flow(), {"size": 7})
            assert await told(FuturesExecutor(pool), "memory://", flow(), {"size": 7}) == here


async def test_the_expected_values(workers: Any) -> None:
    """Each kind of report has the value that the task gave, not only the same in both places."""
    data = {"size": 7, "tenant": "none"}
    result, streams, _ = await told(workers, "memory://", flow_of(reports.emit), data)
    assert (result.state, streams) == ("end", [[[0], [1], [2]], [{"last": True}]])
    _, streams, _ = await told(workers, "memory://", flow_of(reports.emit_and_fail, RETRIED), data)
    assert streams[0] == ["stored by 2", "waits in 2"]
    _, streams, _ = await told(workers, "memory://", FLOWS[2](), data)
    assert streams[0] == ["prep", "exec 2", "post"]
    _, _, attributes = await told(workers, "memory://", flow_of(reports.set_attributes), data)
    assert attributes == {"tenant": "acme", "size": 7}
    result, _, _ = await told(workers, "memory://", reports.after_a_split(), {})
    assert result.data["outcome"] == [[4], ["task 'fail' failed: ValueError: it fails"], False]
    result, _, _ = await told(workers, "memory://", reports.after_an_error(), {})
    text = "task 'fail' failed 2 times, the last time with ValueError: it fails"
    assert result.data["error"] == ["RetryExhaustedError", text, 2, "ValueError('it fails')"]
    result, _, _ = await told(workers, "memory://", reports.of_a_parent(), {}, RUN_ID)
    assert result.data["nominal"] == str(datetime(2026, 3, 1, 4, tzinfo=UTC))
    result, streams, _ = await told(workers, "memory://", flow_of(reports.use_a_thread), {})
    assert streams[0] == ["thread"]


async def test_items_and_progress_are_live(workers: Any, tmp_path: Path) -> None:
    """What a task flushes, and its progress, is there while the task still executes."""
    await check_that_reports_are_live(workers, f"sqlite:///{tmp_path}/runs.db", tmp_path)


async def test_items_of_a_lost_worker_are_superseded(workers: Any, tmp_path: Path) -> None:
    """The call is executed again, in the same attempt, and its items count once."""
    flow = flow_of(reports.emit_and_die)
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db", executor={"cpu": workers}, block=["retry"]) as kernel:
        handle = await kernel.start(flow, {"folder": str(tmp_path)}, run_id="r")
        items = handle.stream("x")
        seen = [await anext(items)]
        (tmp_path / "go").touch()
        await handle.result()
        seen += [item async for item in items]

        assert [(item.value, item.superseded) for item in seen] == [
            ("first", ()), (None, (range(1, 2),)), ("second", ()),
        ]  # fmt: skip
        assert len([entry for entry in await kernel.history("r") if entry.seq]) == 1


async def test_the_progress_of_the_last_report_wins(workers: Any) -> None:
    """Reports that are sent with the answer come before observers see the end of the step."""
    seen: list[Any] = []

    class Observer:
        @hookimpl
        def cano_step_finished(self, step: Any) -> None:
            seen.append(step.last_progress)

    async with Kernel(executor={"cpu": workers}, plugins=[Observer()]) as kernel:
        await kernel.run(flow_of(reports.emit), {})
    assert seen == [Progress(3, 3, "counting")]


async def test_a_signal_to_the_wait_that_a_task_has_named(workers: Any, tmp_path: Path) -> None:
    """A task elsewhere gets the token of the wait that it begins, and a signal may name it."""
    store = f"sqlite:///{tmp_path}/runs.db"
    async with Kernel(store=store, executor={"cpu": workers}) as kernel:
        handle = await kernel.start(flow_of(reports.ask_for_the_token), {}, run_id="r")
        while (view := await kernel.get("r")).wait is None:
            async for event in handle.events():
                if event.kind == "wait":
                    break
        await kernel.signal("r", "go", 5, wait=view.data["token"])
        assert (await handle.result()).data["payload"] == 5


@pytest.mark.parametrize(
    ("function", "kind", "problem"),
    [
        (
            reports.begin_a_transaction,
            ConfigurationError,
            "its run, which alone can have a transaction; use it in a",
        ),
        (reports.use_the_kernel, ConfigurationError, "which has no 'active_plugins' of its run; use it in a task"),
        (reports.set_unknown, ConfigurationError, "declares no attribute 'tenent' (did you mean 'tenant'?)"),
        (reports.set_wrong, TypeError, "size"),
        (reports.emit_unsendable, SerializationError, "builtin_function_or_method"),
        (reports.emit_too_much, SizeLimitError, "the channel's name"),
    ],
)
async def test_what_is_refused(workers: Any, function: Any, kind: type[Exception], problem: str) -> None:
    """What cannot be done elsewhere, and what the run refuses, is the attempt's error, and says what to do."""
    async with Kernel(executor={"cpu": workers}, block=["retry"]) as kernel:
        with pytest.raises(TaskError) as caught:
            await kernel.run(flow_of(function), {})
    assert isinstance(caught.value.__cause__, kind)
    assert problem in str(caught.value)


async def test_an_outcome_that_cannot_be_sent(workers: Any) -> None:
    """Only the task that reads it fails, and the error names the class."""
    async with Kernel(executor={"cpu": workers}, block=["retry"]) as kernel:
        with pytest.raises(TaskError, match="outcome of the split cannot be sent to another process"):
            await kernel.run(reports.after_a_split(reports.unsendable), {})
