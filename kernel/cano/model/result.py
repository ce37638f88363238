"""The result of a run."""

from __future__ import annotations

from typing import Any, NamedTuple


class RunResult(NamedTuple):
    """The result of a run that reached an exit state.

    Attributes:
        run_id: the run's id.
        state: the exit state.
        data: the run's data: a dict, or the object that it was started on.
        steps: the number of transitions that it made.
    """

    run_id: str
    state: Any
    data: Any
    steps: int
