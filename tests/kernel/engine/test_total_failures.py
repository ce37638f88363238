"""The failure path is total: whatever a task raises, returns or puts, the run fails with a text that can be stored."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cano import (
    Commit,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    RetryExhaustedError,
    Run,
    RunStatus,
    SerializationError,
    TaskConfig,
    TaskError,
    TransitionError,
    Workflow,
    hookimpl,
)
from cano.engine.ports import BoundState, Host, Work
from cano.safe_text import LONGEST, error_text, escaped, safe_repr, safe_str
from cano_cli.failure import failure_of
from cano_memory import MemoryBackend
from cano_retry import Fixed


class Odd(Exception):
    """An error without a text."""

    kind: type[BaseException] = RuntimeError

    def __str__(self) -> str:
        raise self.kind("no text")

    __repr__ = __str__


class OddExit(Odd):
    """One whose text ends the program."""

    kind = SystemExit


class OddCancel(Odd):
    """One whose text looks like a cancellation."""

    kind = asyncio.CancelledError


class Stop(BaseException):
    """A user's own exception that is not an `Exception`."""


class OddStop(Stop):
    """One without a text."""

    __str__ = __repr__ = Odd.__str__


class NoHash:
    """A result that is not a state and has neither hash nor text."""

    def __hash__(self) -> int:
        raise KeyError("no hash")

    def __repr__(self) -> str:
        raise ValueError("no text")


@dataclass
class NoCopy:
    """A value that cannot be copied."""

    def __deepcopy__(self, memo: Any) -> Any:
        raise RuntimeError("no copy")


def cyclic() -> list[Any]:
    """A list that contains itself."""
    made: list[Any] = []
    made.append(made)
    return made


def deep() -> list[Any]:
    """A list that is nested too deeply."""
    made: list[Any] = []
    for _ in range(100_000):
        made = [made]
    return made


def flow_of(work: Callable[[Any], Any], **config: Any) -> Workflow[str]:
    """A workflow of one async task that calls `work`."""

    async def task(store: Any) -> Any:
        return work(store)

    return Workflow("A", name="one").register("A", task, config=TaskConfig(**config)).add_exit_state("B")


def raising(error: BaseException) -> Callable[[Any], Any]:
    """A task that raises it."""

    def work(store: Any) -> Any:
        raise error

    return work


def putting(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A task that puts a value."""

    def work(store: Any) -> Any:
        store["k"] = make()
        return "B"

    return work


def changing(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A task that changes a value in place."""

    def work(store: Any) -> Any:
        store["k"].append(make())
        return "B"

    return work


def appending(make: Callable[[], Any]) -> Callable[[Any], Any]:
    """A task that appends to a list."""

    def work(store: Any) -> Any:
        store.append("k", make())
        return "B"

    return work


async def end_of(work: Callable[[Any], Any], url: str) -> tuple[BaseException, Any]:
    """How a stored run fails: the error, and what the store keeps of it. No process tries it again."""
    async with Kernel(store=url) as kernel:
        flow = flow_of(work)
        with pytest.raises(BaseException) as caught:  # noqa: PT011  # the tests look at it
            await kernel.run(flow, {"k": []}, run_id="x")
        assert await kernel.recover(flow) == []
        (record,) = await kernel.runs()
        assert record.status is RunStatus.FAILED
        assert (await kernel.explain("x")).reason.name == "FAILED"
        assert record.error is not None
        assert failure_of(caught.value, flow, None).message
        return caught.value, record.error


@pytest.fixture(params=["memory://", "memory://?strict=1", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a store."""
    return f"sqlite:///{tmp_path}/runs.db" if request.param == "sqlite" else request.param


@pytest.mark.parametrize(
    "error",
    [
        Odd(),
        OddExit(),
        OddCancel(),
        ValueError("\ud800"),
        ValueError("a\0b"),
        ValueError("x" * 1_000_000),
        ExceptionGroup("\ud800", [Odd()]),
    ],
    ids=["odd", "exits", "cancels", "surrogate", "nul", "long", "group"],
)
async def test_whatever_a_task_raises(url: str, error: Exception) -> None:
    """The cause is what was raised, and the record has a readable text of it."""
    raised, stored = await end_of(raising(error), url)
    assert type(raised) is TaskError
    assert raised.__cause__ is error
    assert type(error).__name__ in stored["message"]
    assert len(stored["message"]) < LONGEST + 100
    assert "\0" not in stored["message"]
    stored["message"].encode()


@pytest.mark.parametrize(
    "error",
    [Stop("now"), pytest.fail.Exception("now"), BaseExceptionGroup("now", [Stop()]), OddStop()],
    ids=["own", "pytest", "group", "odd"],
)
async def test_what_is_not_an_exception(url: str, error: BaseException) -> None:
    """It is raised as itself, yet the run has failed as by an exception."""
    raised, stored = await end_of(raising(error), url)
    assert raised is error
    assert stored["type"] == "TaskError"
    assert stored["message"] == f"task 'task' failed: {error_text(error)}"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_ends_the_program(tmp_path: Path, kind: type[BaseException]) -> None:
    """It interrupts the run, which is not to blame, and which can continue."""
    works = [raising(kind()), lambda store: "B"]

    async def run() -> Any:
        async with Kernel(store=f"sqlite:///{tmp_path}/runs.db") as kernel:
            found = [record.status for record in await kernel.runs()]
            return found, (await kernel.run(flow_of(works.pop(0)), {}, run_id="x")).state

    with pytest.raises(kind):
        asyncio.run(run())
    assert asyncio.run(run()) == ([RunStatus.INTERRUPTED], "B")


class Working:
    """A plugin that executes states in place of their tasks."""

    @hookimpl
    def cano_bind_state(self, state: BoundState, kernel: Host) -> Work:
        """Answer for all states."""

        async def work(run: Run, state: BoundState) -> Any:
            return state.function(run.store)

        state.function = state.task.function  # type: ignore[union-attr]
        return work


@pytest.mark.parametrize("store", [None, "memory://", "memory://?strict=1", "sqlite"])
async def test_what_a_plugin_raises_that_executes_a_state(store: str | None, tmp_path: Path) -> None:
    """The state has failed, with that as the cause; it may have a state for this."""
    problem = OSError("gone")

    def work(store: Any) -> Any:
        raise problem

    url = f"sqlite:///{tmp_path}/runs.db" if store == "sqlite" else store or "memory://"
    block = ["memory"] if store is None else []
    async with Kernel(store=url, plugins=[Working()], block=block) as kernel:
        flow = Workflow("A", name="one").register("A", work).add_exit_states(["B"])
        with pytest.raises(TaskError, match="task 'work' failed: OSError: gone") as caught:
            await kernel.run(flow, {}, run_id="x")
        assert caught.value.__cause__ is problem
        assert (caught.value.run_id, caught.value.state) == ("x", "A")
        if store is not None:
            assert [record.status for record in await kernel.runs()] == [RunStatus.FAILED]
        flow = Workflow("A").register("A", work, config=TaskConfig(on_exhausted="B")).add_exit_states(["B"])
        assert (await kernel.run(flow, {})).state == "B"


async def test_a_store_that_raises_an_error_of_its_own() -> None:
    """Not the task has failed: the run is interrupted, here as in the store."""

    class Broken(MemoryBackend):
        async def commit(self, commit: Commit, audit: Any = None) -> None:
            raise OSError("gone")

    async with Kernel(store=Broken(strict=True), plugins=["msgspec"]) as kernel:
        handle = await kernel.start(flow_of(lambda store: "B"), {}, run_id="x")
        with pytest.raises(OSError, match="gone"):
            await handle.result()
        assert handle.status().status is RunStatus.INTERRUPTED
        assert [record.status for record in await kernel.runs()] == [RunStatus.INTERRUPTED]


@pytest.mark.parametrize(
    "result", [NoHash(), cyclic(), "\ud800", {1: 2, "a": 3}], ids=["odd", "cyclic", "text", "dict"]
)
async def test_whatever_a_task_returns(url: str, result: Any) -> None:
    """It is refused as a state."""
    raised, stored = await end_of(lambda store: result, url)
    assert isinstance(raised, TransitionError)
    assert raised.returned is result
    assert "is not a state" in stored["message"]


@pytest.mark.parametrize("act", [putting, changing, appending])
@pytest.mark.parametrize("make", [cyclic, deep])
async def test_values_that_end_nowhere(url: str, act: Any, make: Callable[[], Any]) -> None:
    """The error names the key."""
    raised, stored = await end_of(act(make), url)
    assert isinstance(raised, SerializationError) or isinstance(raised.__cause__, SerializationError)
    assert "key 'k'" in stored["message"]


async def test_a_value_that_cannot_be_copied() -> None:
    """The error names the key, and has what `__deepcopy__` raised as its cause."""
    raised, _ = await end_of(putting(NoCopy), "memory://")
    assert isinstance(raised.__cause__, SerializationError)
    assert raised.__cause__.key == "k"
    assert isinstance(raised.__cause__.__cause__, RuntimeError)


@pytest.mark.parametrize("make", [cyclic, deep, NoCopy])
async def test_such_values_cannot_start_a_run(url: str, make: Callable[[], Any]) -> None:
    """Nor a store be filled with them."""
    async with Kernel(store=url) as kernel:
        with pytest.raises(SerializationError, match="key 'start'"):
            await kernel.run(flow_of(lambda store: "B"), {"start": make()}, run_id="x")
        assert await kernel.runs() == []


async def test_keys_of_mixed_types() -> None:
    """On a user's own dict, a missing key is reported as ever."""
    with pytest.raises(TaskError, match="no key 'none' in the store; there are: 1, a"):
        await flow_of(lambda store: store["none"]).orchestrate({1: 2, "a": 3})


async def test_in_memory_after_retries_and_in_splits() -> None:
    """The same without a store."""
    odd = Odd()
    with pytest.raises(RetryExhaustedError) as caught:
        await flow_of(raising(odd), retry=Fixed(1, 0)).orchestrate({})
    assert caught.value.__cause__ is odd
    split = Workflow("S", default_config=TaskConfig.minimal()).add_exit_state("B")
    split.register_split("S", [raising(odd)], JoinConfig(JoinStrategy.all(), "B"))
    with pytest.raises(JoinError):
        await split.orchestrate({})


def test_safe_texts() -> None:
    """They are what `str` and `repr` return, if these return what can be kept."""
    assert safe_str("é") == "é"
    assert safe_repr([1, "é"]) == "[1, 'é']"
    assert error_text(ValueError()) == "ValueError"
    assert error_text(ValueError("no")) == "ValueError: no"
    assert error_text(Odd()) == "Odd: <Odd, whose str() raised RuntimeError>"
    assert safe_str("a\0\ud800") == "a\\x00\\ud800"
    assert safe_str("x" * LONGEST) == "x" * LONGEST
    assert safe_str("x" * (LONGEST + 1)) == "x" * LONGEST + " …"
    with pytest.raises(KeyboardInterrupt):
        safe_str(type("Interrupted", (), {"__str__": raising(KeyboardInterrupt())})())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("order-17 für Zoë: ключ 注文 😀", "order-17 für Zoë: ключ 注文 😀"),
        ("spaces:\xa0\u3000.", "spaces:\xa0\u3000."),
        ("a\nb\r\tc\x0b\x85\u2028\u2029", r"a\nb\r\tc\x0b\x85\u2028\u2029"),
        ("\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\0", r"\x1b[31mred\x1b]0;title\x07\x9b2J\x7f\x00"),
        ("\u202egpj.exe\u2066\u200f\u061c", r"\u202egpj.exe\u2066\u200f\u061c"),
        ("a\u200bb\ufeff\u00ad\ue000\U000e0041", r"a\u200bb\ufeff\xad\ue000\U000e0041"),
        ("\ud800", r"\ud800"),
    ],
)
def test_escaped(text: str, shown: str) -> None:
    """No terminal or log reader interprets an escaped text, which is one line; other letters and spaces stay."""
    assert escaped(text) == shown
    assert shown.encode() is not None
    assert len(escaped(text).splitlines()) == 1
