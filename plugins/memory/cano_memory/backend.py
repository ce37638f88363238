"""`MemoryBackend`: the runs of one process, in a dict. The readable specification of `StoreBackend`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cano import (
    Capabilities,
    Commit,
    ConfigurationError,
    ConflictError,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    StoreUnavailableError,
    Transition,
    isolate,
)


@dataclass(slots=True)
class _Mailbox:
    """The signals sent to one id, whether or not there is a run: those that wait, and the ids of all that ever came."""

    waiting: dict[str, Signal] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class MemoryBackend:
    """Keeps runs in memory, for one process and as long as it lives.

    It may be shared between threads and event loops: no method waits for anything but a short lock. What changes
    hands is copied as far as it could be changed, so that the store and its callers share nothing.

    Args:
        strict: whether to be what a durable store is to its callers: every step is committed, values must be bytes
            (those that no codec can keep are refused already when a task puts them), and no run is ever dropped.
            For tests: it forgets everything all the same.
        keep: how many finished runs to keep, unless `strict`. The one that finished first is dropped first.

    Raises:
        ConfigurationError: `keep` is not a number of runs.
    """

    def __init__(self, strict: bool = False, keep: int = 1000) -> None:
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 0:
            raise ConfigurationError(f"keep must be a number of runs, 0 or more, not {keep!r}")
        self.capabilities = Capabilities(durable=strict, encoded=strict, strict=strict)
        self._strict = strict
        self._keep = keep
        self._lock = threading.Lock()
        self._closed = False
        self._runs: dict[str, RunRecord] = {}
        self._history: dict[str, list[Transition]] = {}
        self._mail: dict[str, _Mailbox] = {}
        self._finished: dict[str, None] = {}  # ids of finished runs, in the order in which they finished

    def __repr__(self) -> str:
        return f"<MemoryBackend of {len(self._runs)} run(s){', strict' if self._strict else ''}>"

    async def open(self) -> None:
        """Do nothing: it is ready. A closed one stays closed."""
        with self._use():
            pass

    async def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            for kept in (self._runs, self._history, self._mail, self._finished):
                kept.clear()

    # runs

    async def create(self, run: RunRecord) -> RunRecord:
        """Keep a new run, or return the one that has this id already."""
        with self._use():
            if (there := self._runs.get(run.run_id)) is not None:
                return _handed_out(there)
            new = run._replace(data=self._taken(run.data), error=_copy(run.error), payload=self._value(run.payload))
            self._note(
                new, Transition(seq=run.seq, state=run.state, status=run.status, at=run.created, changed=new.data)
            )
            return _handed_out(new)

    async def load(self, run_id: str) -> RunRecord | None:
        """The run with all its data, or None."""
        with self._use():
            run = self._runs.get(run_id)
            return None if run is None else _handed_out(run)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """The runs that match, the one created last first; of those created together, the one stored last."""
        with self._use():
            found = [
                run
                for run in reversed(self._runs.values())
                if filter.workflow in (None, run.workflow)
                and filter.status in (None, run.status)
                and filter.parent in (None, run.parent)
            ]
            found.sort(key=lambda run: run.created, reverse=True)
            return [_handed_out(run._replace(data={})) for run in found[: filter.limit]]

    async def history(self, run_id: str) -> Sequence[Transition]:
        """The run's transitions, oldest first."""
        with self._use():
            return [line._replace(changed=_copy(line.changed)) for line in self._history.get(run_id, ())]

    async def delete(self, run_id: str) -> bool:
        """Forget the run, held or not, and every signal that was sent to its id."""
        with self._use():
            return self._forget(run_id)

    # commits

    async def commit(self, commit: Commit) -> None:
        """Make all of `commit` so, or raise and change nothing."""
        with self._use():
            run = _fresh(self._runs.get(commit.run_id), commit)
            changed, data = self._taken(commit.changed), dict(run.data)
            for key in commit.removed:
                data.pop(key, None)
            data.update(changed)
            run = run._replace(
                state=commit.state, seq=commit.seq, status=commit.status, data=data, error=_copy(commit.error),
                wait=commit.wait, payload=self._value(commit.payload), updated=commit.at,
            )  # fmt: skip
            if commit.release:
                run = run._replace(holder=None, expires=None)
            line = Transition(
                seq=commit.seq, state=commit.state, status=commit.status, at=commit.at, changed=changed,
                removed=tuple(commit.removed),
            )  # fmt: skip
            # nothing from here on can fail
            for signal_id in commit.consumed:
                self._mail.get(commit.run_id, _NO_MAIL).waiting.pop(signal_id, None)
            self._note(run, line if commit.seq != commit.expected_seq else None)

    # leases

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Take the lease, if nobody has it or it ended before `now`; the new token, or None."""
        with self._use():
            run = self._runs.get(run_id)
            if run is None or _is_held(run, now):
                return None
            self._runs[run_id] = run._replace(holder=holder, expires=expires, token=run.token + 1)
            return run.token + 1

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Extend each lease that `holder` still has with its token; the ids of the others."""
        with self._use():
            lost = []
            for run_id, token in tokens.items():
                run = self._runs.get(run_id)
                if run is not None and (run.holder, run.token) == (holder, token):
                    self._runs[run_id] = run._replace(expires=expires)
                else:
                    lost.append(run_id)
            return lost

    async def release(self, run_id: str, token: int) -> None:
        """Free the lease, if it is still that of `token`."""
        with self._use():
            run = self._runs.get(run_id)
            if run is not None and run.token == token:
                self._runs[run_id] = run._replace(holder=None, expires=None)

    # signals

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Keep a signal, unless one of its id was sent to this run before, consumed or not."""
        with self._use():
            payload = self._value(signal.payload)
            mail = self._mail.setdefault(run_id, _Mailbox())
            if signal.id not in mail.seen:
                mail.seen.add(signal.id)
                mail.waiting[signal.id] = signal._replace(payload=payload)

    async def next_signal(self, run_id: str, name: str) -> Signal | None:
        """The oldest signal of that name, which stays."""
        with self._use():
            signal = self._signal(run_id, name)
            return None if signal is None else signal._replace(payload=isolate(signal.payload))

    async def signals(self, run_id: str) -> Signals:
        """All that was sent to this id."""
        with self._use():
            mail = self._mail.get(run_id, _NO_MAIL)
            waiting = [signal._replace(payload=isolate(signal.payload)) for signal in mail.waiting.values()]
            return Signals(waiting, sorted(mail.seen - mail.waiting.keys()))

    async def missing_recipients(self) -> Sequence[str]:
        """The ids with mail and no run."""
        with self._use():
            return [run_id for run_id in self._mail if run_id not in self._runs]

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """The runs that could go on, and that nobody holds."""
        with self._use():
            return [_handed_out(run._replace(data={})) for run in self._runs.values() if self._is_ready(run, now)]

    # how it is done; called with the lock held

    @contextmanager
    def _use(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("this store was closed; open a new one")
            yield

    def _note(self, run: RunRecord, line: Transition | None) -> None:
        """Keep `run` as it is now, with a new line of its history; drop finished runs that are too many."""
        run_id = run.run_id
        self._runs[run_id] = run
        if line is not None:
            self._history.setdefault(run_id, []).append(line)
        if not run.status.finished:
            self._finished.pop(run_id, None)  # somebody resumed it
        else:
            self._finished.setdefault(run_id)
        if not self._strict:
            while len(self._finished) > self._keep:
                self._forget(next(iter(self._finished)))

    def _forget(self, run_id: str) -> bool:
        there = self._runs.pop(run_id, None) is not None
        for kept in (self._history, self._mail, self._finished):
            kept.pop(run_id, None)
        return there

    def _signal(self, run_id: str, name: str) -> Signal | None:
        mail = self._mail.get(run_id, _NO_MAIL)
        return next((signal for signal in mail.waiting.values() if signal.name == name), None)

    def _is_ready(self, run: RunRecord, now: float) -> bool:
        if _is_held(run, now):
            return False
        if run.status is RunStatus.RUNNING:
            return True
        wait = run.wait
        if run.status is not RunStatus.PARKED or wait is None:
            return False
        if wait.until is not None and wait.until <= now:
            return True
        return wait.signal is not None and self._signal(run.run_id, wait.signal) is not None

    def _taken(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._value(value, key) for key, value in data.items()}

    def _value(self, value: Any, key: str | None = None) -> Any:
        """A copy of what is stored under `key`, or, without one, of a payload, which may be None."""
        if self._strict and not isinstance(value, bytes) and (value is not None or key is not None):
            what = "a payload" if key is None else f"key {key!r}"
            raise SerializationError(
                f"a strict store keeps bytes, but {what} is a {type(value).__name__}; is a codec installed?",
                key=key, actual=type(value),
            )  # fmt: skip
        return isolate(value)


_NO_MAIL = _Mailbox()


def _fresh(run: RunRecord | None, commit: Commit) -> RunRecord:
    """The run that `commit` is for, unless the commit is stale."""
    if run is None:
        stale = "it is gone"
    elif run.token != commit.token:
        stale = f"it was claimed anew: its token is {run.token}, not {commit.token}"
    elif run.seq != commit.expected_seq:
        stale = f"it has made {run.seq} transitions, not {commit.expected_seq}"
    else:
        return run
    raise ConflictError(f"a commit to the run {commit.run_id!r} is stale: {stale}", run_id=commit.run_id)


def _is_held(run: RunRecord, now: float) -> bool:
    """Whether somebody has the lease at `now`: its last moment is `expires` itself."""
    return run.expires is not None and run.expires >= now


def _handed_out(run: RunRecord) -> RunRecord:
    """A copy of a stored run that shares nothing changeable with it."""
    return run._replace(data=_copy(run.data), error=_copy(run.error), payload=isolate(run.payload))


def _copy(mapping: Any) -> Any:
    return None if mapping is None else {key: isolate(value) for key, value in mapping.items()}
