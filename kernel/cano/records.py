"""The values that kernel and stores exchange: runs, commits, histories and signals. They are never changed in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from cano.checks import Duration, one_of, time_limit, whole_or_none
from cano.lanes import Lane
from cano.signals import SignalKey, keys_of

_NOTHING: Mapping[str, Any] = {}


class RunStatus(Enum):
    """The status of a run. A stored run with RUNNING that no process holds is INTERRUPTED, or QUEUED if none did."""

    RUNNING = "running"
    PARKED = "parked"
    INTERRUPTED = "interrupted"
    QUEUED = "queued"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether the run has ended. A failed run can still be resumed."""
        return self in _FINISHED


_FINISHED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)  # no set: Python code hashes an enum


class Wait(NamedTuple):
    """The wait of a parked run: for a signal, a time, or both.

    Attributes:
        then: name of the next state.
        signal: the signal's name, or None to wait for the time only.
        until: wall-clock seconds at which the wait ends without a signal, or None.
        on_timeout: name of the next state if the wait ends without a signal; None, for a time only, is `then`.
        own: whether the signal is one of the engine's own, which no caller can send.
    """

    then: str
    signal: str | None = None
    until: float | None = None
    on_timeout: str | None = None
    own: bool = False

    @property
    def child(self) -> str | None:
        """The id of the child run whose end it waits for, in place of a user's signal; otherwise None."""
        name = self.signal
        return name.removeprefix(_CHILD) if self.own and name is not None and name.startswith(_CHILD) else None


_CHILD = "child "


def child_signal(run_id: str) -> str:
    """Return the name of the engine's own signal that reports the end of a child to its parent."""
    return _CHILD + run_id


def wait_token(run_id: str, seq: int) -> str:
    """Return the token of the wait that transition `seq` of a run begins. See `current_wait`."""
    return f"{run_id}:{seq}"


class Appended(tuple[Any, ...]):
    """The parts that were appended to a list, oldest first.

    In a store each part is an encoded list of items, kept as it is. In `Kernel.history` the parts are the items.
    """

    __slots__ = ()

    @staticmethod
    def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
        """Return what `function` makes of a value; of an `Appended` one, what it makes of each part."""
        return Appended(map(function, value)) if value.__class__ is Appended else function(value)

    @staticmethod
    def gather(data: dict[str, Any], changed: Mapping[str, Any], removed: Iterable[str] = ()) -> None:
        """Apply the changes of a commit to `data`. The time does not grow with the values that they append to.

        From then on, a value that was appended to is a list: of the value that was set before, or None if there was
        none, and of the parts. `gathered` makes `Appended` of it.
        """
        for key in removed:
            data.pop(key, None)
        for key, value in changed.items():
            if value.__class__ is not Appended:
                data[key] = value
            elif (old := data.get(key)).__class__ is _Gathered:
                old.extend(value)
            else:
                data[key] = _Gathered([*((None, *old) if old.__class__ is Appended else (old,)), *value])

    @staticmethod
    def gathered(data: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that `gather` has gathered."""
        return {
            key: Appended(value[value[0] is None :]) if value.__class__ is _Gathered else value
            for key, value in data.items()
        }


class _Gathered(list[Any]):
    """A value that was appended to, while it is gathered. A store of objects has other lists, too."""


class RunRecord(NamedTuple):
    """A run as a store keeps it.

    Attributes:
        run_id: the run's id, unique in the store.
        workflow, version, fingerprint: name, version and fingerprint of the workflow's definition.
        state: name of the state whose task is next, or of the exit state.
        seq: number of transitions committed.
        status: the status of the last commit.
        data: value by key; values are bytes unless the store's `Capabilities` say otherwise. With `appends`, the value
            of a key to which commits have appended is `Appended`: its first part is the value that was set last.
        error: a failed run's error: class, message, state and attempt; that of a child that was cancelled by itself;
            otherwise None.
        wait: a parked run's wait; otherwise None.
        payload: the payload of the signal that woke the run, for the next step.
        parent: id of the run that started this one as a sub-workflow, or None.
        created, updated: wall-clock seconds. If a run was claimed and released before it began, `updated` is less.
        holder, expires: the lease's holder, and the wall-clock seconds when the lease expires; None without a lease.
        token: the fencing token, which rises by one with each claim.
        own: the engine's own values by name, beside the data: whatever a key of the data is, it is none of these.
        attributes: encoded search attributes by name, by which stores that promise `attributes` find a new run. Stores
            do not return them: the run has them among the engine's own values.
        lane: of a submitted run, for life: its place in the queues. None for all others, and in stores that do not
            promise `queues`.
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
    own: Mapping[str, Any] = _NOTHING
    attributes: Mapping[str, bytes] = _NOTHING
    lane: Lane | None = None

    @property
    def queue(self) -> str:
        """The name of the run's queue."""
        return (self.lane or Lane()).queue

    @property
    def in_queue(self) -> bool:
        """Whether it was submitted and has not begun: it waits in its queue, or, with a delay, is about to."""
        if self.lane is None or self.holder is not None or self.seq or (self.token and self.updated >= self.created):
            return False
        wait = self.wait if self.status is RunStatus.PARKED else None
        delayed = wait is not None and wait.signal is None and wait.until is not None
        return delayed or self.status is RunStatus.RUNNING

    @property
    def place(self) -> tuple[float, str]:
        """The run's place in lists of runs, which begin with the greatest: its `created`, then its id."""
        return self.created, self.run_id

    @property
    def wait_token(self) -> str | None:
        """The token of the signal's wait that the run is parked in, as in `current_wait().token`; otherwise None."""
        wait = self.wait
        return None if wait is None or wait.signal is None or wait.own else wait_token(self.run_id, self.seq)


class StreamChunk(NamedTuple):
    """Successive items of one channel of a run's streams, as a store keeps them.

    Attributes:
        channel: the channel's name, any text.
        first, last: the offsets of its first and its last item, counted from 1 in each channel.
        value: all of the items together, encoded as other values are.
    """

    channel: str
    first: int
    last: int
    value: Any


class Commit(NamedTuple):
    """One change of one run. A store applies all of it or nothing.

    Attributes:
        run_id, token: the run's id, and the fencing token of the committing kernel.
        expected_seq, seq: the run's `seq` before this commit and after it; equal if it makes no transition.
        state, status, error, wait, payload: the record's new values.
        changed: values to set, by key. Other keys keep their values; a new key is the last in the order. With the
            capability `appends`, the parts of an `Appended` value are added to the value that the key has.
        removed: keys to remove before `changed` is applied. They may be missing, and `changed` may set them again.
        consumed: ids of the signals that this commit consumes; unknown ids are ignored.
        release: whether to release the lease, too. The run then has no holder; its `token` does not change.
        own, own_removed: the engine's own values to set and to remove, as `changed` and `removed`.
        own_consumed: ids of the engine's own signals that this commit consumes, as `consumed`.
        answered: `to` and id of the signals to one wait that this commit consumes, as `consumed`.
        attributes: all encoded search attributes of the run, in place of those that it had; None changes none.
        chunks: what it adds to the run's streams. Only commits to a `StreamingStore` have any.
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
    own: Mapping[str, Any] = _NOTHING
    own_removed: Sequence[str] = ()
    own_consumed: Sequence[str] = ()
    answered: Sequence[tuple[int, str]] = ()
    attributes: Mapping[str, bytes] | None = None
    chunks: Sequence[StreamChunk] = ()
    at: float = 0.0

    @property
    def consumed_keys(self) -> list[SignalKey]:
        """The keys of all signals that this commit consumes."""
        return keys_of(self)


class Transition(NamedTuple):
    """One entry of a run's history: the commit that led to `state`.

    Attributes:
        seq, state, status: the run's values after the commit.
        at: wall-clock seconds.
        changed: the values that it set, by key; `Appended` ones were added to the value that the key had.
        removed: the keys that it removed.
        origin: in the first entry of a fork, the id of the run and the `seq` that it was forked from. Stores leave it.
        own, own_removed: the engine's own values that it set, and the names of those that it removed.
    """

    seq: int
    state: str
    status: RunStatus
    at: float
    changed: Mapping[str, Any] = _NOTHING
    removed: Sequence[str] = ()
    origin: tuple[str, int] | None = None
    own: Mapping[str, Any] = _NOTHING
    own_removed: Sequence[str] = ()


class ClaimedRun(NamedTuple):
    """A run that was claimed in a group.

    Attributes:
        run_id, token: the run, and its new fencing token.
        record: the run after the claim, with all its data and the engine's values; None if it is corrupt.
        signals: whether an unconsumed signal was there, of any name.
    """

    run_id: str
    token: int
    record: RunRecord | None
    signals: bool


class Standstill(Enum):
    """The reason why a run is not progressing. Exactly one applies."""

    RUNNING_HERE = "this kernel executes it"
    RUNNING_ELSEWHERE = "another holder executes it"
    QUEUED = "it was submitted, and waits for a worker; recover() or resume() begins it"
    DELAYED = "it was submitted, and begins after its delay"
    INTERRUPTED = "no process executes it; recover() or resume() takes it over"
    WAITING_FOR_SIGNAL = "it waits for a signal"
    WAITING_FOR_TIME = "it waits for a time"
    WAITING_FOR_CHILD = "it waits for the end of its child"
    WAITING_FOR_INPUTS = "no process feeds this batch; run it again with the same id and the same inputs"
    WAITING_FOR_LIMIT = "it waits for a slot of a limit"
    NO_SLOT = "it waits for a slot of a limit that holds for all processes"
    RATE = "it waits until its rate allows it to begin"
    READY = "its wait is over; recover() or resume() takes it over"
    FAILED = "it failed; resume() tries again from the state that failed"
    CHILD_FAILED = "it failed, and its parent has ended"
    CHILD_CANCELLED = "its child was cancelled; resume() fails again; fork() it before that step and resume() the fork"
    SUCCEEDED = "it has ended in success"
    CANCELLED = "it was cancelled"
    CHANGED = "its workflow has changed; finish it with the old program, define Workflow(migrate=…), or cancel it"
    UNREADABLE = "it cannot be read here; run a program that can read it, or cancel or delete it"


class Explanation(NamedTuple):
    """The reason why a run is not progressing, with details.

    Attributes:
        reason: the reason, out of a closed list.
        detail: the holder, the signal's name, the time, the child, the limit with its holders, or the error.
    """

    reason: Standstill
    detail: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class Finding(NamedTuple):
    """A problem in a store.

    Attributes:
        kind: "corrupt", "orphan", "stale lease", "killed processes" for a step that several did not survive, or
            "incomplete import" for a run whose import was cut off.
        run_id: the run's id.
        detail: the problem in words.
    """

    kind: str
    run_id: str
    detail: str


class AuditEntry(NamedTuple):
    """An action on a run from outside: not by the run's own steps, nor by a kernel that takes it over.

    Attributes:
        run_id: the run's id; None for an action on the store's audit itself.
        action: "signal", "cancel", "resume", "fork", "delete", "prune", "import", "reencrypt", "audit pruned", or,
            for a schedule, "pause", "resume", "reset", "trigger", "backfill", "event" or "remove".
        actor: the name that the caller gave; no store checks it.
        at: wall-clock seconds, by the clock of the caller's machine.
        detail: more about the action, such as a signal's name. No payload is in it.
    """

    run_id: str | None
    action: str
    actor: str
    at: float
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """A rule for how long finished runs are kept.

    Attributes:
        keep_last: number of finished runs to keep of each workflow, the newest ones; None keeps all.
        max_age: seconds, or a timedelta, to keep a finished run after its end; None keeps it for ever.
        on_terminal: "keep", or "delete" to delete every finished run at once.

    Raises:
        ConfigurationError: a value has the wrong type or is out of range.
    """

    keep_last: int | None = None
    max_age: Duration = None
    on_terminal: str = "keep"

    def __post_init__(self) -> None:
        whole_or_none("keep_last", self.keep_last, 0)
        time_limit("max_age", self.max_age)
        one_of("on_terminal", self.on_terminal, ("keep", "delete"))

    @property
    def max_seconds(self) -> float | None:
        """`max_age` in seconds."""
        return time_limit("max_age", self.max_age)

    def expired(self, newer: int, age: float) -> bool:
        """Return whether to delete a finished run.

        Args:
            newer: number of finished runs of the same workflow that are newer.
            age: seconds since the run ended.
        """
        if self.on_terminal == "delete" or (self.keep_last is not None and newer >= self.keep_last):
            return True
        return self.max_seconds is not None and age > self.max_seconds
