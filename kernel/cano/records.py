"""What kernel and stores exchange: runs, their commits, histories and signals. Values, never changed in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from cano.checks import one_of, time_limit, whole_or_none

_NOTHING: Mapping[str, Any] = {}


class RunStatus(Enum):
    """Where a run stands. A stored run that says RUNNING while nobody holds its lease is INTERRUPTED."""

    RUNNING = "running"
    PARKED = "parked"
    INTERRUPTED = "interrupted"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the run has ended for good, unless somebody resumes a failed one."""
        return self in _FINISHED


_FINISHED = frozenset({RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED})


class Wait(NamedTuple):
    """What a parked run waits for.

    Attributes:
        signal: the signal's name, or None where only time is waited for.
        then: name of the state that follows.
        until: wall-clock seconds at which the wait ends without a signal, or None.
        on_timeout: name of the state that follows then; None where that is `then`.
    """

    then: str
    signal: str | None = None
    until: float | None = None
    on_timeout: str | None = None


class RunRecord(NamedTuple):
    """A run as a store keeps it.

    Attributes:
        run_id: its id, unique in the store.
        workflow, version, fingerprint: the definition that it runs under.
        state: name of the state whose task is next (or of the exit state).
        seq: number of transitions committed so far.
        status: as last committed.
        data: key to value; values are bytes unless the store's `Capabilities` say otherwise.
        error: a failed run's error: class, message, and the state and attempt it happened at.
        wait: what a parked run waits for.
        payload: what the signal that woke it carried, for the step that follows.
        parent: id of the run that started it as a sub-workflow.
        created, updated: wall-clock seconds.
        holder, expires: who holds the lease and until when (wall-clock seconds); None when nobody does.
        token: the fencing token: grows by one with every claim.
    """

    run_id: str
    workflow: str
    version: str
    fingerprint: str
    state: str
    seq: int = 0
    status: RunStatus = RunStatus.RUNNING
    data: Mapping[str, Any] = _NOTHING
    error: Mapping[str, Any] | None = None
    wait: Wait | None = None
    payload: Any = None
    parent: str | None = None
    created: float = 0.0
    updated: float = 0.0
    holder: str | None = None
    expires: float | None = None
    token: int = 0


class Commit(NamedTuple):
    """One atomic change of one run. All of it happens, or none.

    Attributes:
        run_id: the run.
        token: the fencing token that the committer holds.
        expected_seq: the run's `seq` before this commit.
        seq: its `seq` after; equal to `expected_seq` where no transition is made.
        state, status, error, wait, payload: the record's new values.
        changed: keys to set. Keys that are not named stay as they are; a new key comes last in the order.
        removed: keys to remove, before `changed` is applied; some may be missing, or be set again.
        consumed: ids of signals that this commit takes; unknown ones are ignored.
        release: whether to free the lease with it. Then nobody holds the run; its `token` stays what it was.
        at: wall-clock seconds.
    """

    run_id: str
    token: int
    expected_seq: int
    seq: int
    state: str
    status: RunStatus
    changed: Mapping[str, Any] = _NOTHING
    removed: Sequence[str] = ()
    error: Mapping[str, Any] | None = None
    wait: Wait | None = None
    payload: Any = None
    consumed: Sequence[str] = ()
    release: bool = False
    at: float = 0.0


class Transition(NamedTuple):
    """One line of a run's history: the commit that led to `state`."""

    seq: int
    state: str
    status: RunStatus
    at: float
    changed: Mapping[str, Any] = _NOTHING
    removed: Sequence[str] = ()


class Signal(NamedTuple):
    """A signal sent to a run. `id` is unique: a signal put twice under one id counts once."""

    id: str
    name: str
    payload: Any = None


class Signals(NamedTuple):
    """All that was ever sent to a run: the signals that wait, the oldest first, and the ids of those consumed."""

    waiting: Sequence[Signal] = ()
    consumed: Sequence[str] = ()


class RunFilter(NamedTuple):
    """Which runs to list, newest first. None means any."""

    workflow: str | None = None
    status: RunStatus | None = None
    parent: str | None = None
    limit: int | None = None


class Standstill(Enum):
    """Why a run is not progressing; exactly one applies."""

    RUNNING_HERE = "this kernel executes it"
    RUNNING_ELSEWHERE = "another holder executes it"
    INTERRUPTED = "no process executes it; recover() or resume() takes it over"
    WAITING_FOR_SIGNAL = "it waits for a signal"
    WAITING_FOR_TIME = "it waits for a time"
    READY = "its wait is over; recover() or resume() takes it over"
    FAILED = "it failed; resume() tries again from the state that failed"
    SUCCEEDED = "it has ended in success"
    CANCELLED = "it was cancelled"


class Explanation(NamedTuple):
    """Why a run is not progressing.

    Attributes:
        reason: one of a closed list.
        detail: the particulars: the holder, the signal's name, the time, the error.
    """

    reason: Standstill
    detail: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class Finding(NamedTuple):
    """A problem in a store.

    Attributes:
        kind: "corrupt", "orphan" or "stale lease".
        run_id: the run.
        detail: what is wrong.
    """

    kind: str
    run_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished runs are kept.

    Attributes:
        keep_last: how many finished runs of each workflow are kept, the newest; None is all.
        max_age: seconds after its end for which a finished run is kept; None is for ever.
        on_terminal: "keep", or "delete" to delete every finished run at once.

    Raises:
        ConfigurationError: a value is of the wrong kind.
    """

    keep_last: int | None = None
    max_age: float | None = None
    on_terminal: str = "keep"

    def __post_init__(self) -> None:
        whole_or_none("keep_last", self.keep_last, 0)
        time_limit("max_age", self.max_age)
        one_of("on_terminal", self.on_terminal, ("keep", "delete"))

    def expired(self, newer: int, age: float) -> bool:
        """Whether to delete a finished run that ended `age` seconds ago, with `newer` later ones of its workflow."""
        if self.on_terminal == "delete" or (self.keep_last is not None and newer >= self.keep_last):
            return True
        return self.max_age is not None and age > self.max_age
