"""How a run ended."""

from __future__ import annotations

from typing import Any, NamedTuple


class RunResult(NamedTuple):
    """How a run ended.

    Attributes:
        run_id: its id.
        state: the exit state.
        data: its data: a dict, or the object that it was started on.
        steps: how many transitions it made.
    """

    run_id: str
    state: Any
    data: Any
    steps: int
