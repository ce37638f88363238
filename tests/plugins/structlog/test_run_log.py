"""The observer: its events, their keys, and the context bound while tasks run."""

from __future__ import annotations

import asyncio
import enum
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from cano import (
    ConfigurationError,
    Expect,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    RunCancelledError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryBackend
from cano_structlog import EVENTS, ContextFilter, LogSettings, RunLog
from cano_structlog.failures import FailureLines
from structlog.testing import capture_logs


class State(enum.Enum):
    FIRST = 1
    SECOND = 2
    DONE = 3


class Once:
    """A retry strategy: one retry, after two seconds."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        return 2.0 if attempt == 1 else None


@pytest.fixture(autouse=True)
def _structlog() -> Iterator[None]:
    """Before and after each test structlog is unconfigured and nothing is bound."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def kernel(settings: LogSettings | None = None, **options: Any) -> Kernel:
    log = RunLog(settings or LogSettings(level="debug"))
    return Kernel(discover=False, plugins=[log], clock=VirtualClock(), **options)


def two_steps() -> Workflow[State]:
    flow = Workflow(State.FIRST, name="two", version="7", default_config=TaskConfig(retry=Once()))
    tried = iter([ValueError("no"), None])

    @flow.on(State.FIRST)
    async def first(store: KeyValueStore) -> State:
        structlog.get_logger().info("mine")
        if (error := next(tried)) is not None:
            raise error
        return State.SECOND

    @flow.on(State.SECOND)
    def second(store: KeyValueStore) -> State:
        structlog.get_logger().info("mine too")
        return State.DONE

    return flow.add_exit_state(State.DONE)


def at_once() -> Workflow[str]:
    """A workflow whose start state is an exit state."""
    return Workflow("done").add_exit_state("done")


async def logged(flow: Workflow[Any], settings: LogSettings | None = None, **run: Any) -> list[dict[str, Any]]:
    async with kernel(settings) as k:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            await k.run(flow, **run)
    return [dict(line) for line in lines]


async def test_sequence_of_events() -> None:
    """Each lifecycle hook logs its event, in order, for async and plain tasks alike."""
    lines = await logged(two_steps(), run_id=None)

    assert [line["event"] for line in lines] == [
        "cano.run.started",
        "cano.step.started",
        "mine",
        "cano.step.retrying",
        "mine",
        "cano.step.finished",
        "cano.transition.committed",
        "cano.step.started",
        "mine too",
        "cano.step.finished",
        "cano.transition.committed",
        "cano.run.finished",
    ]


async def test_keys_of_events() -> None:
    """Events carry stable keys; the context is on each of them."""
    lines = await logged(two_steps())
    by_event = {line["event"]: line for line in reversed(lines)}

    assert {(line["workflow"], line["version"]) for line in lines} == {("two", "7")}
    assert len({line["run_id"] for line in lines}) == 1
    retrying = by_event["cano.step.retrying"]
    assert (retrying["attempt"], retrying["delay_s"], retrying["error"], retrying["error_type"]) == (
        1,
        2.0,
        "no",
        "ValueError",
    )
    finished = by_event["cano.step.finished"]
    assert (finished["state"], finished["next_state"], finished["seq"], finished["attempt"]) == (
        "FIRST",
        "SECOND",
        1,
        2,
    )
    assert finished["duration_ms"] >= 0
    assert by_event["cano.run.finished"]["status"] == "succeeded"
    assert by_event["cano.run.finished"]["seq"] == 2


async def test_context_in_tasks() -> None:
    """A task's own lines carry run, state and attempt, in the event loop and in a thread."""
    mine = [line for line in await logged(two_steps()) if line["event"].startswith("mine")]

    assert [(line["event"], line["state"], line["seq"], line["attempt"]) for line in mine] == [
        ("mine", "FIRST", 1, 1),
        ("mine", "FIRST", 1, 2),
        ("mine too", "SECOND", 2, 1),
    ]


async def test_nothing_bound_after() -> None:
    """After a run succeeds, fails or is cancelled, the context is as before."""
    structlog.contextvars.bind_contextvars(request="r", state="outer")
    flow = Workflow(State.FIRST).add_exit_states([State.SECOND, State.DONE])
    entered, never = asyncio.Event(), asyncio.Event()

    @flow.on(State.FIRST)
    async def first(store: KeyValueStore) -> State:
        if store["how"] == "fail":
            raise ValueError
        if store["how"] == "hang":
            entered.set()
            await never.wait()
        return State.DONE

    async with kernel() as k:
        with capture_logs():
            await k.run(flow, {"how": "well"})
            with pytest.raises(TaskError):
                await k.run(flow, {"how": "fail"})
            task = asyncio.ensure_future(k.run(flow, {"how": "hang"}))
            await entered.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    assert structlog.contextvars.get_contextvars() == {"request": "r", "state": "outer"}


async def test_cancelled_run_is_not_failed() -> None:
    """A cancelled run ends with `cano.run.finished` and its status; its step with `cano.step.cancelled`."""
    flow = Workflow(State.FIRST).add_exit_states([State.SECOND, State.DONE])
    entered, never = asyncio.Event(), asyncio.Event()

    @flow.on(State.FIRST)
    async def first(store: KeyValueStore) -> State:
        entered.set()
        await never.wait()
        return State.DONE

    async with kernel() as k:
        with capture_logs() as lines:
            handle = await k.start(flow)
            await entered.wait()
            await handle.cancel()
            with pytest.raises(RunCancelledError):
                await handle.result()

    assert [(line["event"], line.get("status")) for line in lines][-2:] == [
        ("cano.step.cancelled", None),
        ("cano.run.finished", "cancelled"),
    ]
    assert {line["log_level"] for line in lines} == {"info", "debug"}


async def test_failed_run() -> None:
    """A failed run logs the exception of the user's code once for the step and once for the run."""
    flow = Workflow(State.FIRST).add_exit_states([State.SECOND, State.DONE])

    @flow.on(State.FIRST)
    async def first(store: KeyValueStore) -> State:
        raise LookupError("gone")

    async with kernel() as k:
        with capture_logs() as lines, pytest.raises(TaskError):
            await k.run(flow)

    failures = [(line["event"], line["error_type"], line["log_level"]) for line in lines if "error" in line]
    assert failures == [("cano.step.failed", "LookupError", "error"), ("cano.run.failed", "LookupError", "error")]


async def test_branches_and_children() -> None:
    """Branches log their own name, and a child run its own id; afterwards the parent's context is restored."""
    child = Workflow(State.SECOND, name="child").add_exit_states([State.FIRST, State.DONE])
    parent = Workflow(State.FIRST, name="parent").add_exit_state(State.DONE)

    @child.on(State.SECOND)
    async def inner(store: KeyValueStore) -> State:
        return State.DONE

    async def one(store: KeyValueStore) -> int:
        structlog.get_logger().info("one")
        return 1

    async def two(store: KeyValueStore) -> int:
        structlog.get_logger().info("two")
        return 2

    parent.register_split(State.FIRST, [one, two], JoinConfig(JoinStrategy.all(), State.SECOND))
    parent.register(State.SECOND, SubWorkflow(child, then=State.DONE))
    lines = await logged(parent)

    branches = {line["event"]: line["branch"] for line in lines if line["event"] in ("one", "two")}
    assert branches == {"one": "0:one", "two": "1:two"}
    started = [line for line in lines if line["event"] == "cano.run.started"]
    assert [(line["workflow"], line.get("parent_id")) for line in started] == [
        ("parent", None),
        ("child", started[0]["run_id"]),
    ]
    assert lines[-1]["event"] == "cano.run.finished"
    assert lines[-1]["workflow"] == "parent"
    assert "branch" not in lines[-1]


async def test_interleaved_runs_never_mix() -> None:
    """Of 1,000 runs at once, each line carries the id of the run that wrote it."""
    flow = Workflow(State.FIRST).add_exit_states([State.SECOND, State.DONE])

    @flow.on(State.FIRST)
    async def first(store: KeyValueStore) -> State:
        await asyncio.sleep(0)
        structlog.get_logger().info("mine", own=store["own"])
        return State.DONE

    async with kernel(LogSettings(levels=dict.fromkeys(EVENTS, "off"))) as k:
        with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            results = await asyncio.gather(*(k.run(flow, {"own": number}) for number in range(1000)))

    expected = {number: result.run_id for number, result in enumerate(results)}
    assert {line["own"]: line["run_id"] for line in lines} == expected


async def test_levels_and_sampling() -> None:
    """Levels are set per event; a run that is not sampled still logs its start, retries and end."""
    quiet = LogSettings(levels={"run.started": "off", "cano.run.finished": "warning"}, sample_steps=0)

    lines = await logged(two_steps(), quiet)

    assert [(line["event"], line["log_level"]) for line in lines if line["event"].startswith("cano")] == [
        ("cano.step.retrying", "warning"),
        ("cano.run.finished", "warning"),
    ]


async def test_data_is_redacted() -> None:
    """The last event carries the selected data, without secrets at any depth."""
    flow = at_once()
    data = {"user": {"name": "Ada", "Password": "x", "pins": [{"card_pin": 1}], "dbToken": "x"}, "other": 1}

    lines = await logged(flow, LogSettings(level="info", data=["user", "missing"], redact=["PIN"]), data=data)

    expected = {"user": {"name": "Ada", "Password": "[redacted]", "pins": [{"card_pin": "[redacted]"}]}}
    expected["user"]["dbToken"] = "[redacted]"
    assert lines[-1]["data"] == expected


class Unreadable(Exception):
    """An error whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ValueError("GET https://ada:hunter2@host/?pin=77&q=1"), "GET https://[redacted]@host/?pin=[redacted]&q=1"),
        (Unreadable(), "Unreadable"),
    ],
)
async def test_errors_are_redacted(error: Exception, shown: str) -> None:
    """An error that quotes a URL shows no secret of it; one without a readable text is logged all the same."""
    flow = Workflow("a", name="failing", default_config=TaskConfig.minimal()).add_exit_state("b")

    @flow.on("a")
    def fail(store: KeyValueStore) -> str:
        raise error

    async with kernel(LogSettings(redact=["pin"])) as k:
        with capture_logs() as lines, pytest.raises(TaskError):
            await k.run(flow)

    assert shown in lines[-1]["error"]
    assert "hunter2" not in str(lines)
    assert "77" not in str([line.get("error") for line in lines])


async def test_configured_structlog_is_left_alone() -> None:
    """The application's own configuration is kept and receives the events."""
    seen: list[Any] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        seen.append(event["event"])
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    flow = at_once()

    async with kernel() as k:
        await k.run(flow)

    assert structlog.get_config()["processors"] == [keep]
    assert seen == ["cano.run.started", "cano.run.finished"]


async def test_stdlib_records_carry_the_context() -> None:
    """With `ContextFilter`, lines of the standard library's logging carry the run's context too."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(ContextFilter())
    handler.setFormatter(logging.Formatter("%(run_id)s|%(state)s|%(message)s"))
    log = logging.getLogger("app.of.mine")
    log.addHandler(handler)
    flow = Workflow(State.FIRST).add_exit_states([State.SECOND, State.DONE])

    @flow.on(State.FIRST)
    def first(store: KeyValueStore) -> State:
        log.warning("inside")
        return State.DONE

    try:
        async with kernel() as k:
            with capture_logs():
                result = await k.run(flow)
        log.warning("outside")
    finally:
        log.removeHandler(handler)

    assert stream.getvalue() == f"{result.run_id}|FIRST|inside\n||outside\n"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"levels": {"run.begun": "info"}}, "run.begun"),
        ({"levels": {"run.started": "loud"}}, "loud"),
        ({"sample_steps": 1.5}, "sample_steps"),
        ({"sample_steps": float("nan")}, "sample_steps"),
        ({"sample_steps": True}, "sample_steps"),
        ({"render": "xml"}, "xml"),
        ({"level": "loud"}, "level"),
        ({"data": "user"}, "data"),
        ({"redact": "pin"}, "redact"),
    ],
)
def test_bad_settings(options: dict[str, Any], named: str) -> None:
    """The error about a wrong setting names it."""
    with pytest.raises(ConfigurationError, match=named):
        LogSettings(**options)


def test_settings_from_the_environment() -> None:
    """Every variable is read; the error about a wrong one names it."""
    env = {
        "CANO_LOG_LEVELS": "step.started=info, run.started=off",
        "CANO_LOG_SAMPLE_STEPS": "0.25",
        "CANO_LOG_DATA": "a,b",
        "CANO_LOG_REDACT": "pin",
        "CANO_LOG_RENDER": "json",
        "CANO_LOG": "Debug",
        "CANO_LOG_STDLIB": "1",
    }
    settings = LogSettings.from_environment(env)

    assert (settings.levels["cano.step.started"], settings.levels["cano.run.started"]) == ("info", "off")
    assert (settings.sample_steps, tuple(settings.data), settings.stdlib) == (0.25, ("a", "b"), True)
    assert (settings.render, settings.level) == ("json", "debug")
    assert settings.redacted({"PIN": 1}) == {"PIN": "[redacted]"}
    for name, value in (("CANO_LOG_LEVELS", "loud"), ("CANO_LOG", "loud"), ("CANO_LOG_SAMPLE_STEPS", "many")):
        with pytest.raises(ConfigurationError, match=name):
            LogSettings.from_environment({name: value})


async def test_trace_ids_where_there_are_any() -> None:
    """If an OpenTelemetry span is current, every event carries its ids."""
    trace = pytest.importorskip("opentelemetry.trace")
    span = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=False))

    class Traced:
        @hookimpl(tryfirst=True)
        def cano_run_started(self, run: Any) -> None:
            self.scope = trace.use_span(span)
            self.scope.__enter__()

        @hookimpl(trylast=True)
        def cano_run_finished(self, run: Any) -> None:
            self.scope.__exit__(None, None, None)

    flow = at_once()
    async with Kernel(discover=False, plugins=[RunLog(LogSettings(level="info")), Traced()]) as k:
        with capture_logs() as lines:
            await k.run(flow)

    assert [(line["trace_id"], line["span_id"]) for line in lines] == [(f"{0xABC:032x}", f"{0xDEF:016x}")] * 2


@pytest.mark.parametrize("only_failures", [False, True])
@pytest.mark.parametrize("level", ["warning", "off"])
async def test_late_runs(only_failures: bool, level: str, caplog: pytest.LogCaptureFixture) -> None:
    """A late run, or visit, is one event, at the level that the settings have; the kernel writes no second line."""
    settings, clock = LogSettings(levels={"run.late": level}), VirtualClock()
    log = FailureLines(settings, None) if only_failures else RunLog(settings)
    flow: Workflow[str] = Workflow("a", name="slow", expect=Expect(within=60, step_within={"a": 20}))

    @flow.add_exit_state("end").on("a")
    async def a(store: KeyValueStore) -> str:
        await clock.sleep(100)
        return "end"

    with capture_logs() as lines:
        async with Kernel(discover=False, plugins=[log], clock=clock, store=MemoryBackend()) as kernel:
            await kernel.run(flow, {}, run_id="r")
    late = [line for line in lines if line["event"] == "cano.run.late"]
    keys = "run_id", "workflow", "state", "late", "within_s", "late_s", "status", "log_level"
    expected = [
        ("r", "slow", "a", "step", 20.0, 0.0, "running", "warning"),
        ("r", "slow", "a", "run", 60.0, 0.0, "running", "warning"),
    ]
    assert [tuple(line[key] for key in keys) for line in late] == (expected if level == "warning" else [])
    assert "is late" not in caplog.text
