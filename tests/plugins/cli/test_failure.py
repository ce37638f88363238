"""What is told of a failure: causes, notes and the place."""

from __future__ import annotations

import asyncio
import enum
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cano import Kernel, RunTimeoutError, SubWorkflow, TaskConfig, TaskError, Workflow, task
from cano_cli.failure import Failure, failure_of
from cano_cli.places import raised_at
from cano_cli.recorder import Recorder

HERE = "test_failure.py"


class Place(enum.Enum):
    """States that are no strings."""

    HERE = 1
    THERE = 2


def fail(step: Callable[[Any], Coroutine[Any, Any, str]], config: TaskConfig | None = None) -> Failure:
    """What is told where the task `step` fails."""
    flow = Workflow("a", name="w", default_config=config or TaskConfig.minimal())
    flow.register("a", task(step)).add_exit_state("b")
    recorder = Recorder()
    with pytest.raises(BaseException) as caught:  # noqa: PT011  # whatever it is, it is told
        asyncio.run(Kernel(plugins=[recorder]).run(flow, run_id="r1"))
    return failure_of(caught.value, flow, recorder.run)


def code_at(failure: Failure) -> str:
    """The function and line of code that is told as the place, which is in this file."""
    assert failure.place is not None
    file, _, code = failure.place.partition(" in ")
    assert HERE in file
    return code


def deep() -> None:
    """Raises far from the task."""
    raise LookupError("deep down")


async def test_lines() -> None:
    """A failure for people: one fact a line; more lines of a message are set in."""
    failure = Failure(
        ValueError(),
        "one\ntwo",
        causes=("A: 1", "B: 2", "C: 3"),
        notes=("x\ny",),
        place="here",
        run_id="r",
        workflow="w",
        state="s",
    )

    assert list(failure.lines()) == [
        "\x1b[31mError:\x1b[0m one\n    two",
        "  cause:    A: 1",
        "  due to:   B: 2",
        "  due to:   C: 3",
        "  note:     x\n    y",
        "  at:       here",
        "  workflow: w",
        "  state:    s",
        "  run:      r",
    ]


def test_chain_of_causes() -> None:
    """Every cause is told, the root cause last; the place is where that was raised, with its notes."""

    async def step(store: Any) -> str:
        try:
            deep()
        except LookupError as error:
            error.add_note("look here")
            raise ValueError("above") from error
        return "b"

    failure = fail(step)

    assert failure.causes == ("ValueError: above", "LookupError: deep down")
    assert failure.notes == ("look here",)
    assert code_at(failure) == 'deep: raise LookupError("deep down")'


def test_implicit_cause() -> None:
    """What was being handled is told as a cause, too, unless the author says `from None`."""

    async def step(store: Any) -> str:
        try:
            deep()
        except LookupError:
            raise ValueError("above")  # noqa: B904  # that is what is tested
        return "b"

    async def quiet(store: Any) -> str:
        try:
            deep()
        except LookupError:
            raise ValueError("above") from None
        return "b"

    assert fail(step).causes == ("ValueError: above", "LookupError: deep down")
    assert fail(quiet).causes == ("ValueError: above",)
    assert code_at(fail(quiet)) == 'quiet: raise ValueError("above") from None'


def test_earlier_attempts_are_no_cause() -> None:
    """What an earlier attempt raised is not the reason for what the last one raised."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 0.0 if attempt == 1 else None

    async def step(store: Any) -> str:
        deep()
        return "b"

    failure = fail(step, TaskConfig(retry=Once()))

    assert failure.message == "task 'step' failed 2 times, the last time with LookupError: deep down"
    assert failure.causes == ("LookupError: deep down",)
    assert failure.attempt == 2


def test_group() -> None:
    """Of a group of errors the first is told as the root cause."""

    async def step(store: Any) -> str:
        try:
            deep()
        except LookupError as error:
            raise ExceptionGroup("several", [error, ValueError("another")]) from None
        return "b"

    failure = fail(step)

    assert failure.causes == ("ExceptionGroup: several (2 sub-exceptions)", "LookupError: deep down")
    assert code_at(failure) == 'deep: raise LookupError("deep down")'


def test_error_raised_by_a_library() -> None:
    """The place is the user's own line, not the library's."""
    import json

    async def step(store: Any) -> str:
        json.loads("[")
        return "b"

    assert code_at(fail(step)) == 'step: json.loads("[")'


def test_no_line_of_the_users() -> None:
    """Where no line of the user's raised anything, it is told where the task is."""

    async def step(store: Any) -> Any:
        return 5

    place = fail(step).place

    assert place is not None
    assert HERE in place
    assert place.endswith(" (task step)")


def test_no_line_of_the_users_in_a_sub_workflow() -> None:
    """The task of the sub-workflow is told, not the class of Cano that executes it; if it is unknown, none is."""

    async def step(store: Any) -> Any:
        return 5

    child = Workflow("c", name="child", default_config=TaskConfig.minimal()).register("c", task(step))
    child.register("again", SubWorkflow(child, then="d")).add_exit_state("d")
    flow = Workflow("a", name="w", default_config=TaskConfig.minimal())
    flow.register("a", SubWorkflow(child, then="b")).add_exit_state("b")
    with pytest.raises(TaskError) as caught:
        asyncio.run(Kernel().run(flow))
    kept = TaskError("task 'workflow child' failed", run_id="r1", workflow="w", state="a", attempt=1)

    assert str(failure_of(caught.value, flow, None).place).endswith(" (task step)")
    assert failure_of(kept, flow, None).place is None


def test_error_out_of_a_store() -> None:
    """An error that a store has kept knows the state's name alone: that is enough to find its task."""

    async def step(store: Any) -> Any:
        return 5

    flow = Workflow(Place.HERE, name="w").register(Place.HERE, task(step)).add_exit_state(Place.THERE)
    kept = TaskError("task 'step' failed", run_id="r1", workflow="w", state="HERE", attempt=2)
    kept.add_note("caused by ValueError: no")
    late = RunTimeoutError("too long", run_id="r1", workflow="w", state="HERE")

    failure = failure_of(kept, flow, None)

    assert failure.place is not None
    assert failure.place.endswith(" (task step)")
    assert (failure.state, failure.attempt, failure.run_id) == ("HERE", 2, "r1")
    assert failure.notes == ("caused by ValueError: no",)
    assert failure_of(late, flow, None).place is None


def test_timeout_of_an_attempt() -> None:
    """A cancellation is no cause, but tells where the task was when its time was over."""

    async def step(store: Any) -> str:
        await asyncio.Event().wait()
        return "b"

    failure = fail(step, TaskConfig(timeout=0.01))

    assert failure.causes == ()
    assert code_at(failure) == "step: await asyncio.Event().wait()"


def test_error_that_cannot_be_shown() -> None:
    """An exception whose message cannot be made does not hide the failure."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    failure = failure_of(Mute(), Workflow("a", name="w"), None)

    assert failure.message == "Mute: <Mute, whose str() raised RuntimeError>"
    assert failure.workflow == "w"
    assert failure.run_id is None


def test_cycle_of_causes() -> None:
    """Exceptions that are each other's cause end somewhere."""
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one

    assert failure_of(one, Workflow("a", name="w"), None).causes == ("ValueError: other",)


def test_a_long_traceback_is_read_by_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a recursion that does not end, each file is looked up once, and not each of its 1,000 frames."""

    def again() -> None:
        again()

    with pytest.raises(RecursionError) as caught:
        again()
    looked_up: list[Any] = []
    realpath = os.path.realpath

    def counted(path: str, **options: Any) -> str:
        looked_up.append(path)
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", counted)
    place = raised_at(caught.value)

    assert place is not None
    assert place.endswith("in again: again()")
    assert 0 < looked_up.count(__file__) <= 2
