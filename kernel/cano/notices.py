"""Notices of runs, which are stored before the commits that they are about."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

from cano.late_run import LateRun
from cano.records import Wait


class Notice(NamedTuple):
    """A notice that a run failed, was parked, or was found to be late.

    Attributes:
        id: an id that no other notice has. The same commit, made again after a crash, has a notice of the same id.
        kind: "failed", "parked" or "late".
        run_id, workflow: the run, and the name of its workflow.
        state: name of the state that is next.
        seq: number of transitions committed.
        at: wall-clock seconds.
        created: when the run was created, in wall-clock seconds.
        token: the fencing token of the kernel that commits.
        error: a failed run's error, as `RunRecord.error`; otherwise None.
        wait: a parked run's wait; otherwise None.
        late: of a late run; otherwise None.
    """

    id: str
    kind: str
    run_id: str
    workflow: str
    state: str
    seq: int
    at: float
    created: float
    token: int
    error: Mapping[str, Any] | None = None
    wait: Wait | None = None
    late: LateRun | None = None


class Announcer(Protocol):
    """Makes runs of notices, which send them. See `RunKeeper.announce`.

    Attributes:
        kinds: the kinds of notices that it wants.
        flow: the workflow of these runs, which the kernel has bound.
    """

    kinds: Collection[str]
    flow: Any

    def message(self, notice: Notice) -> tuple[str, dict[str, Any]] | None:
        """Return the id and the data of the run that sends a notice; or None if none is to be sent."""
        ...
