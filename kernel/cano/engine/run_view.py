"""`RunView`: all that a store knows of a run; `RunInfo` and `Progress`: what its kernel knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from cano.errors import WorkflowError
    from cano.lanes import Lane
    from cano.late_run import LateRun
    from cano.records import RunStatus, Wait


class Progress(NamedTuple):
    """A report of a step's progress.

    Attributes:
        done, total: amounts in a unit that the task chooses; `total` is None if it is not known.
        message: a text, or None.
    """

    done: float
    total: float | None
    message: str | None


class RunInfo(NamedTuple):
    """The progress of a run.

    Attributes:
        run_id, workflow: the run's id, and its workflow's name.
        status: running, parked, interrupted, succeeded, failed or cancelled.
        state: the state that it is in. For a parked run, the one that follows its wait.
        seq: number of the current step, or of the last one.
        attempt: the last attempt of that step, counted from 1.
        progress: the step's last report of its progress, or None. Other processes know the one that is stored.
        error: the exception that the run failed with, or None.
        as_of: when this was true, in wall-clock seconds.
    """

    run_id: str
    workflow: str
    status: RunStatus
    state: Any
    seq: int
    attempt: int
    progress: Progress | None
    error: BaseException | None
    as_of: float


class RunView(NamedTuple):
    """All that a store knows of a run. Any process can read it, whichever executes the run.

    Attributes:
        run_id, workflow, version: the run's id, and name and version of its workflow.
        status: running, parked, interrupted, succeeded, failed or cancelled.
        state: name of the state that is next, or of the exit state.
        seq: number of transitions committed.
        data: its data by key.
        unreadable: for the values that this process cannot read, since it does not know their class, the reasons by
            key; "" stands for the payload.
        error: the error that it ended with, with its `traceback`; or None.
        wait, wait_token: a parked run's wait, and the token to answer it; otherwise None.
        payload: the payload for the next step, or None.
        signals: names of the signals that no wait has taken, oldest first.
        parent, children: id of the run that started it, or None; ids of the runs that it started, the newest 100.
        origin: of a fork, the id of the run and the `seq` that it was forked from; otherwise None.
        deadline: the end of its timeout in wall-clock seconds, or None.
        created, updated: wall-clock seconds.
        holder, expires: the holder of its lease while it is running, and when the lease expires; otherwise None.
        progress: the last report of the present step's progress that is stored, or None.
        attributes: its search attributes by name, as they are stored: of an enum's member, the value.
        late: that the run, or its visit of the present state, was found to be late; see `Workflow(expect=…)`.
        as_of: when this was true, in wall-clock seconds.
        lane: a submitted run's place in the queues: its `queue`, `priority` and `key`; otherwise None.
    """

    run_id: str
    workflow: str
    version: str
    status: RunStatus
    state: str
    seq: int
    data: Mapping[str, Any]
    unreadable: Mapping[str, str]
    error: WorkflowError | None
    wait: Wait | None
    wait_token: str | None
    payload: Any
    signals: tuple[str, ...]
    parent: str | None
    children: tuple[str, ...]
    origin: tuple[str, int] | None
    deadline: float | None
    created: float
    updated: float
    holder: str | None
    expires: float | None
    progress: Progress | None
    attributes: Mapping[str, Any]
    late: tuple[LateRun, ...]
    as_of: float
    lane: Lane | None = None
