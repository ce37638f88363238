"""Tracebacks as texts: what they say, that making one never fails, and which frames Python prints."""

from __future__ import annotations

import traceback
from typing import Any

import pytest
from cano import JoinConfig, JoinError, JoinStrategy, Kernel, SubWorkflow, TaskError, Workflow
from cano.safe_text import LONGEST
from cano.tracebacks import raised_at, rendered

HERE = __file__


class Declined(Exception):
    """An error of the user's."""


def pay(store: Any) -> str:
    """Raise an error with a cause and a note."""
    try:
        card = {"limit": 0}
        card["number"]
    except KeyError as error:
        declined = Declined("no card")
        declined.add_note("ask the customer")
        raise declined from error
    return "end"


async def failing(store: Any) -> str:
    """Raise an error."""
    raise OSError("disk")


def flow_of(task: Any) -> Workflow[str]:
    """A workflow with this task."""
    return Workflow("pay", name="shop").register("pay", task).add_exit_state("end")


async def error_of(flow: Workflow[str]) -> Exception:
    """The error of a run."""
    async with Kernel(store="memory://", discover=False) as kernel:
        with pytest.raises((TaskError, JoinError)) as caught:
            await kernel.run(flow)
    return caught.value


async def test_a_text_names_files_lines_causes_and_notes() -> None:
    """The root cause comes first, with its source line. No frame of the engine is in it."""
    error = await error_of(flow_of(pay))
    text, line = rendered(error), pay.__code__.co_firstlineno

    assert text.startswith(
        f'Traceback (most recent call last):\n  File "{HERE}", line {line + 4}, in pay\n    card["number"]\n'
        "KeyError: 'number'\n\nThe above exception was the direct cause of the following exception:\n\n"
        f'Traceback (most recent call last):\n  File "{HERE}", line {line + 8}, in pay\n    raise declined from error\n'
        f"{__name__}.Declined: no card\nask the customer\n"
    )
    assert "in pay" in text
    assert "cano.errors.TaskError: task 'pay' failed: Declined: no card\nat run " in text
    assert "/cano/engine/" not in text
    assert raised_at(error) == f"{HERE}:{line + 4} in pay"


@pytest.mark.parametrize(
    "flow",
    [
        flow_of(failing),
        Workflow("a", name="outer").register("a", SubWorkflow(flow_of(failing), then="b")).add_exit_state("b"),
        Workflow("a", name="split")
        .register_split("a", [failing, pay], JoinConfig(JoinStrategy.all(), "b"))
        .add_exit_state("b"),
    ],
    ids=["task", "child", "branch"],
)
async def test_python_prints_the_users_frames_first(flow: Workflow[str]) -> None:
    """Of the engine, Python prints only the frames through which the error came to the caller."""
    lines = [line for line in traceback.format_exception(await error_of(flow)) if line.startswith("  File")]

    assert f'"{HERE}", line {failing.__code__.co_firstlineno + 2}, in failing' in lines[0]
    assert [line.split(", in ")[1].split("\n")[0] for line in lines][1:] == ["error_of", "run", "drive"]


async def test_the_engines_frames_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """CANO_TRACEBACK=full keeps them, for those who look for a mistake of the engine."""
    monkeypatch.setenv("CANO_TRACEBACK", "full")

    assert "in _loop" in "".join(traceback.format_exception(await error_of(flow_of(failing))))


async def test_local_variables_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without CANO_TRACEBACK=locals, a text has none; with it, long ones are cut."""

    def sells(store: Any) -> str:
        amount, text = 17, "x" * 300
        raise ValueError(len(text) + amount)

    error = await error_of(flow_of(sells))
    assert "amount" not in rendered(error).replace("raise ValueError(len(text) + amount)", "")
    monkeypatch.setenv("CANO_TRACEBACK", "full,locals")
    assert "      amount = 17\n      text = 'xxx" in rendered(error)
    assert "x" * 200 not in rendered(error)


async def test_members_of_groups_and_branches() -> None:
    """A group shows its members, and a split the branches that failed beside the one that is the cause."""
    group = ExceptionGroup("two", [OSError("one"), ExceptionGroup("inner", [ValueError(str(n)) for n in range(20)])])
    text = rendered(group)
    assert "ExceptionGroup: two (2 sub-exceptions)\n  +-- 1 of 2\n  | OSError: one\n  +-- 2 of 2\n" in text
    assert "  |   | ValueError: 9\n  |   +-- … 10 more exceptions" in text.replace("  |   +-- …", "  |   +-- …")

    flow = Workflow("a", name="split").add_exit_state("b")
    flow.register_split("a", [failing, pay], JoinConfig(JoinStrategy.quorum(1), "b"))
    text = rendered(await error_of(flow))
    assert "OSError: disk" in text
    assert "  | " in text
    assert "Declined: no card" in text
    assert not [line for line in text.splitlines() if line.startswith("  |") and "of cano" in line]


class Hostile(Exception):
    """An exception whose own code raises."""

    def __str__(self) -> str:
        raise self

    @property
    def __notes__(self) -> list[str]:  # type: ignore[override]
        raise ZeroDivisionError


class Lying(Exception):
    """An exception with another new cause each time."""

    __notes__ = 7  # type: ignore[assignment]

    @property
    def __cause__(self) -> Any:  # type: ignore[override]
        return Lying()


def deep(number: int) -> None:
    """Raise at some depth, by two functions in turn, so that no two frames are alike."""
    deeper(number)


def deeper(number: int) -> None:
    """The other one."""
    if number:
        deep(number - 1)
    raise RecursionError("too deep")


def chained(count: int) -> Exception:
    """An exception with that many causes."""
    error = Exception("first")
    for number in range(count):
        last, error = error, Exception(f"error {number}")
        error.__cause__ = last
    return error


def circular() -> Exception:
    """An exception that is its own cause's cause."""
    first, second = Exception("one"), Exception("two")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Hostile(), "Hostile"), (Lying(), "Lying"), (Exception("x" * 10**6), "xxx"), (chained(5000), "error 4999"),
        (chained(50), "… 30 more exceptions"), (circular(), "two"), (Exception("a\0b\udc80"), "a\\x00b\\udc80"),
        (KeyboardInterrupt(), "KeyboardInterrupt"), (BaseExceptionGroup("g", [Hostile()] * 5000), "of 5000"),
    ],
    ids=["hostile", "lying", "long", "chain", "links", "circle", "signs", "base", "group"],
)  # fmt: skip
def test_any_exception_has_a_text(error: BaseException, expected: str) -> None:
    """The text of any exception is bounded, and any store can keep it."""
    text = rendered(error)

    assert expected in text
    assert len(text) <= LONGEST + 2
    assert "\0" not in text
    text.encode()
    raised_at(error)


def test_long_tracebacks_are_cut_in_the_middle() -> None:
    """The first frames and the last ones stay, and the text says how many are left out."""
    with pytest.raises(RecursionError) as caught:
        deep(300)
    text = rendered(caught.value)

    assert "  … 578 more frames" in text
    assert text.count("  File ") == 25
    assert text.endswith("RecursionError: too deep")


@pytest.mark.parametrize("kind", [Hostile, Lying])
async def test_a_hostile_exception_fails_a_run_as_any_other(kind: type[Exception]) -> None:
    """To take the engine's frames out of it never fails."""

    async def raises(store: Any) -> str:
        raise kind

    assert isinstance((await error_of(flow_of(raises))).__cause__, kind)
