"""`Expect`: durations in every form, and what is refused when it is made, and when its workflow is bound."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from cano import ConfigurationError, Expect, ValidationError, Workflow


class State(Enum):
    """The states here."""

    PACK = 1
    PAY = 2
    DONE = 3


async def work(store: Any) -> State:
    """Nothing."""
    return State.DONE


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (5, 5.0),
        (0.5, 0.5),
        (timedelta(minutes=1), 60.0),
        ("30s", 30.0),
        ("2h30m", 9000.0),
        ("1.5h", 5400.0),
        ("7", 7.0),
    ],
)
def test_durations(value: Any, seconds: float) -> None:
    """A duration is a number of seconds, a timedelta or a text, for runs and for steps."""
    expect = Expect(within=value, step_within={State.PAY: value, "PACK": value})

    assert expect.seconds == seconds
    assert expect.step_seconds == {State.PAY: seconds, "PACK": seconds}


@pytest.mark.parametrize("value", [0, -1, True, float("nan"), timedelta(), "", "soon", "1 30", "-5s", "3y", [1], 1e12])
def test_bad_durations_are_refused(value: Any) -> None:
    """Anything else is refused at once, naming where it stands."""
    with pytest.raises(
        ConfigurationError, match=r"within must be a positive number of seconds, a timedelta, or a text"
    ):
        Expect(within=value)
    with pytest.raises(ConfigurationError, match=r"step_within of State\.PAY must be a positive number of seconds"):
        Expect(step_within={State.PAY: value})


def test_an_expectation_of_nothing_is_refused() -> None:
    """An `Expect` names at least one duration, and steps by their state."""
    with pytest.raises(ConfigurationError, match="expects nothing"):
        Expect()
    with pytest.raises(ConfigurationError, match="step_within must map states to durations"):
        Expect(step_within="30s")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"expect must be an Expect\(within=…, step_within=…\) or None"):
        Workflow(State.PACK, expect="10m")  # type: ignore[arg-type]


def test_unknown_states_are_named_at_bind() -> None:
    """Every state that the workflow does not have is a problem of the definition, with the most similar one."""
    flow = Workflow(State.PACK, expect=Expect(step_within={"PAX": 1, State.DONE: 1, State.PACK: 1}))
    flow.register(State.PACK, work).register(State.PAY, work).add_exit_state(State.DONE)
    with pytest.raises(ValidationError) as caught:
        flow.validate()
    assert caught.value.problems == (
        "step_within names PAX, which has no task and is not a state (did you mean <State.PAY: 2>?)",
        "step_within names DONE, an exit state: a run that reaches it has ended",
    )
