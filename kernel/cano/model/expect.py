"""`Expect`: how long runs of a workflow, and their steps, should take at most. Nothing stops one that takes longer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cano.checks import Span, duration
from cano.errors import ConfigurationError
from cano.safe_text import safe_str

WATCHED = ("run_started", "step_finished", "transition_committed", "run_parked", "run_finished")
"""The methods of the observer that finds late runs, see the hook `cano_watch_lateness`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    """The expected durations of a workflow's runs. A run, or a visit of a state, that takes longer is reported as late.

    A duration is a number of seconds, a timedelta, or a text such as "30s" or "2h30m".

    Attributes:
        within: the time from a run's creation to its end, waits included; None for no expectation.
        step_within: by state, or its name, the time of a visit. It begins with the transition to the state and ends
            with the next one, so it contains retries, waits for a worker or a slot, and a wait whose `then` is the
            state.

    Raises:
        ConfigurationError: a value is not a duration, or nothing is expected.
    """

    within: Span | None = None
    step_within: Mapping[Any, Span] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.step_within, Mapping):
            raise ConfigurationError(f"step_within must map states to durations, not {self.step_within!r}")
        if self.within is None and not self.step_within:
            raise ConfigurationError("Expect() expects nothing; give it within= or step_within=")
        self.seconds, self.step_seconds  # noqa: B018  # their checks

    @property
    def seconds(self) -> float | None:
        """`within` in seconds."""
        return None if self.within is None else duration("within", self.within)

    @property
    def step_seconds(self) -> dict[Any, float]:
        """`step_within` in seconds."""
        return {
            state: duration(f"step_within of {safe_str(state)}", value) for state, value in self.step_within.items()
        }
