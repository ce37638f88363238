"""`MemoryBackend`: keeps runs in a dict. Read it as the shortest implementation of `StoreBackend`."""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from itertools import zip_longest
from operator import attrgetter
from typing import Any

from cano import (
    Appended,
    AuditEntry,
    Capabilities,
    ClaimedRun,
    Commit,
    ConflictError,
    HeldSlot,
    Lane,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    SignalKey,
    Signals,
    SlotRequest,
    StoreUnavailableError,
    StreamChunk,
    Transition,
    isolate,
)
from cano.options import switch, whole

from cano_memory.slots import Slots

CAPABILITIES = Capabilities(
    durable=False, encoded=False, pages=True, prune=True, claims=True, history_pages=True, namespaces=True,
    signal_limit=True, filters=True, attributes=True, ready_filters=True, streams=True, orders=True, outcomes=True,
    queues=True, slots=True,
)  # fmt: skip
"""The capabilities of a store that is not strict."""

LISTED = 100
"""The most runs of a definition and a queue that wait there and are listed as ready."""

_log = logging.getLogger("cano.memory")


@dataclass(slots=True)
class _Mailbox:
    """The signals sent to a run id, even before the run exists: the waiting ones, and the ids of all."""

    waiting: dict[SignalKey, Signal] = field(default_factory=dict)
    seen: set[SignalKey] = field(default_factory=set)


class MemoryBackend:
    """A store that keeps runs in memory until it is closed.

    Safe to share between threads and event loops; a method waits at most for a short lock. Mutable values are copied
    when they are stored and when they are returned, so the store and its callers share none.

    Args:
        strict: whether to behave like a durable store, for tests. Every step is committed, values are bytes, a task
            cannot put a value that the codec cannot encode, and finished runs are never dropped.
        keep: number of finished runs to keep, unless `strict`. The run that finished first is dropped first, with a
            warning at the first one: its id is then unknown, and `kernel.run` with it executes the run again.

    Raises:
        ConfigurationError: `keep` is not a whole number, 0 or more.
    """

    def __init__(self, strict: bool = False, keep: int = 1000) -> None:
        whole("keep", keep)
        switch("strict", strict)
        self.capabilities = CAPABILITIES
        if strict:
            self.capabilities = CAPABILITIES._replace(durable=True, encoded=True, strict=True, audit=True, appends=True)
        self._strict = strict
        self._keep = keep
        self._make_empty()

    def _make_empty(self) -> None:
        self._dropped = False  # whether a finished run was dropped
        self._lock = threading.Lock()
        self._closed = False
        self._runs: dict[str, RunRecord] = {}
        self._history: dict[str, list[Transition]] = {}
        self._mail: dict[str, _Mailbox] = {}
        self._streams: dict[str, dict[str, list[StreamChunk]]] = {}  # by run id, then by channel
        self._finished: dict[str, None] = {}  # ids of finished runs, in the order in which they finished
        self._audit: list[AuditEntry] = []
        self._slots = Slots()
        self._parts: dict[str, MemoryBackend] = {}
        self._turns: dict[int, tuple[str, ...]] = {}  # the combination that had the last turn, by priority

    def __repr__(self) -> str:
        return f"<MemoryBackend of {len(self._runs)} run(s){', strict' if self._strict else ''}>"

    async def open(self) -> None:
        """Do nothing, since the store is ready. A closed store cannot be opened again."""
        with self._locked():
            pass

    async def close(self) -> None:
        """Delete everything."""
        with self._lock:
            self._closed = True
            for mapping in (self._runs, self._history, self._mail, self._streams, self._finished):
                mapping.clear()
            self._slots = Slots()
            self._audit.clear()

    def scoped(self, namespace: str) -> MemoryBackend:
        """Return the part of the store with this name, which has dicts of its own; a new one if it was closed."""
        with self._lock:
            part = self._parts.get(namespace)
            if part is None or part._closed:
                part = self._parts[namespace] = copy(self)
                part._make_empty()
            return part

    # runs

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """Store a new run, or return the existing run with this id unchanged."""
        with self._locked():
            if (existing := self._runs.get(run.run_id)) is not None:
                return _copy_of(existing)
            new = run._replace(
                data=self._stored_data(run.data), error=_isolated(run.error), payload=self._stored_value(run.payload),
                own=self._stored_data(run.own), attributes=dict(run.attributes),
            )  # fmt: skip
            entry = Transition(
                seq=run.seq, state=run.state, status=run.status, at=run.created, changed=new.data, own=new.own
            )
            self._save(new, entry)
            self._note(audit)
            return _copy_of(new)._replace(attributes=run.attributes)

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the run with all its data, or None."""
        with self._locked():
            run = self._runs.get(run_id)
            return None if run is None else _copy_of(run)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Return the matching runs in the order of the filter."""
        with self._locked():
            found = [run for run in self._runs.values() if filter.matches(run)]
            found.sort(key=filter.place_of, reverse=not filter.ascending)
            return [_listed(run) for run in found[: filter.limit]]

    async def count(self, filter: RunFilter) -> int:
        """Return the number of matching runs."""
        with self._locked():
            found = sum(filter.matches(run) for run in self._runs.values())
            return found if filter.limit is None else min(found, filter.limit)

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        """Return the names of all search attributes, and the kinds of their values."""
        with self._locked():
            return list({(name, value[:1]) for run in self._runs.values() for name, value in run.attributes.items()})

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Return the run's history, oldest entry first."""
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """Return the entries with a seq greater than `after`: the first `limit` of them."""
        with self._locked():
            entries = self._history.get(run_id, [])
            first = 0 if after is None else bisect_right(entries, after, key=attrgetter("seq"))
            page = entries[first : None if limit is None else first + limit]
            return [entry._replace(changed=_isolated(entry.changed), own=_isolated(entry.own)) for entry in page]

    async def discard_history(self, run_id: str, before: int) -> None:
        """Delete the entries with a seq less than `before`."""
        with self._locked():
            entries = self._history.get(run_id, [])
            del entries[: bisect_left(entries, before, key=attrgetter("seq"))]

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """Delete the run, even if it is held, and every signal sent to its id. Return whether the run existed."""
        with self._locked():
            existed = self._delete(run_id)
            if existed:
                self._note(audit)
            return existed

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        """Return finished runs that `retention` does not keep, oldest first, without data."""
        with self._locked():
            newer, found = dict[str, int](), list[RunRecord]()
            for run in sorted(map(self._runs.__getitem__, self._finished), key=lambda run: run.place, reverse=True):
                count = newer[run.workflow] = newer.get(run.workflow, -1) + 1
                if retention.expired(count, now - run.updated) and (after is None or run.place > after):
                    found.append(run)
            return [_listed(run) for run in found[::-1][:limit]]

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, audit: AuditEntry | None = None
    ) -> Sequence[str]:
        """Delete those of these runs that have finished and that no holder holds. Return their ids."""
        with self._locked():
            ended = [run_id for run_id in run_ids if run_id in self._finished and not _is_held(self._runs[run_id], now)]
            gone = [run_id for run_id in dict.fromkeys(ended) if self._delete(run_id)]
            for run_id in gone:
                self._note(None if audit is None else audit._replace(run_id=run_id))
            return gone

    # commits

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """Apply `commit` completely, or raise and change nothing."""
        with self._locked():
            self._commit(commit)
            self._note(audit)

    def _commit(self, commit: Commit) -> None:
        run = _check_current(self._runs.get(commit.run_id), commit)
        changed, own = self._stored_data(commit.changed), self._stored_data(commit.own)
        chunks = [self._stored_chunk(chunk) for chunk in commit.chunks]
        run = run._replace(
            state=commit.state, seq=commit.seq, status=commit.status, error=_isolated(commit.error),
            wait=commit.wait, payload=self._stored_value(commit.payload), updated=commit.at,
            data=_changed(run.data, changed, commit.removed), own=_changed(run.own, own, commit.own_removed),
        )  # fmt: skip
        if commit.attributes is not None:
            run = run._replace(attributes=dict(commit.attributes))
        if commit.release:
            run = run._replace(holder=None, expires=None)
        entry = Transition(
            seq=commit.seq, state=commit.state, status=commit.status, at=commit.at, changed=changed,
            removed=tuple(commit.removed), own=own, own_removed=tuple(commit.own_removed),
        )  # fmt: skip
        # nothing from here on can fail
        waiting = self._mail.get(commit.run_id, _NO_MAIL).waiting
        for key in commit.consumed_keys:
            waiting.pop(key, None)
        self._add_chunks(commit.run_id, chunks)
        self._save(run, entry if commit.seq != commit.expected_seq else None)

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        """Apply `commit`, and replace the values of these entries of the run's history."""
        with self._locked():
            values = [(self._stored_data(entry.changed), self._stored_data(entry.own)) for entry in entries]
            self._commit(commit)
            run = self._runs[commit.run_id]
            self._runs[commit.run_id] = run._replace(token=run.token + 1)
            history = self._history[commit.run_id]
            for entry, (changed, own) in zip(entries, values, strict=True):
                at = bisect_left(history, entry.seq, key=attrgetter("seq"))
                if at < len(history) and history[at].seq == entry.seq:
                    history[at] = history[at]._replace(changed=changed, own=own)

    # leases

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Claim the lease if it is free or expired before `now`. Return the new token, or None."""
        with self._locked():
            run = self._runs.get(run_id)
            if run is None or _is_held(run, now):
                return None
            self._runs[run_id] = run._replace(holder=holder, expires=expires, token=run.token + 1)
            return run.token + 1

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        queues: Collection[str] | None = None,
    ) -> Sequence[ClaimedRun]:
        """Claim up to `limit` runs of `definitions` that are ready and have no holder: first those that have begun."""
        with self._locked():
            begun, queued, claimed = list[RunRecord](), list[RunRecord](), list[ClaimedRun]()
            for run_id, run in self._runs.items():
                if run.holder is not None or run_id in skip or not self._is_ready(run, now):
                    continue
                if _definition(run) in definitions and (queues is None or run.queue in queues):
                    (queued if run.in_queue else begun).append(run)
            for run in [*begun, *self._in_turn(queued, limit - len(begun))][: max(limit, 0)]:
                run = self._runs[run.run_id] = run._replace(holder=holder, expires=expires, token=run.token + 1)
                waiting = self._mail.get(run.run_id, _NO_MAIL).waiting
                claimed.append(ClaimedRun(run.run_id, run.token, _copy_of(run), bool(waiting)))
            return claimed

    def _in_turn(self, queued: Sequence[RunRecord], limit: int) -> list[RunRecord]:
        """Return the runs in queues that begin now: by priority, and in it one of each combination in turn."""
        by_priority: dict[int, dict[tuple[str, ...], list[RunRecord]]] = {}
        for run in queued:
            queue, priority, key = run.lane or Lane()
            by_priority.setdefault(priority, {}).setdefault((*_definition(run), queue, key), []).append(run)
        found = list[RunRecord]()
        for priority in sorted(by_priority, reverse=True):
            runs, last = by_priority[priority], self._turns.get(priority, ())
            for turn in zip_longest(*(runs[each] for each in sorted(runs, key=lambda each: (each <= last, each)))):
                for run in turn:
                    if run is not None and len(found) < limit:
                        found.append(run)
                        self._turns[priority] = *_definition(run), run.queue, (run.lane or Lane()).key
        return found

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        """Return the number of runs of these definitions that wait in each queue, but for delayed ones."""
        with self._locked():
            waiting = [run for run in self._runs.values() if run.in_queue and run.status is RunStatus.RUNNING]
            found = Counter((run.queue, _definition(run)) for run in waiting if _definition(run) in definitions)
            sizes = Counter[str]()
            for (queue, _), number in found.items():
                sizes[queue] += min(number, most)
            return sizes

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        """Return how many runs that wait precede `run`: those with a larger priority, and older ones with its lane."""
        lane, older = run.lane or Lane(), True
        counts = Counter[bool]()  # by whether it is of the same lane
        with self._locked():
            for other in self._runs.values():
                older = older and other.run_id != run.run_id
                if other.in_queue and (_definition(other), other.queue) == (_definition(run), lane.queue):
                    its = other.lane or Lane()
                    if its.priority > lane.priority or (older and its == lane):
                        counts[its == lane] += 1
        return min(counts[False], most), min(counts[True], most)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Extend each lease that `holder` has under the given token. Return the ids of the other runs."""
        with self._locked():
            lost = []
            for run_id, token in tokens.items():
                run = self._runs.get(run_id)
                if run is not None and (run.holder, run.token) == (holder, token):
                    self._runs[run_id] = run._replace(expires=expires)
                else:
                    lost.append(run_id)
            return lost

    async def release(self, run_id: str, token: int) -> None:
        """Release the lease, if `token` is still its token."""
        with self._locked():
            run = self._runs.get(run_id)
            if run is not None and run.token == token:
                self._runs[run_id] = run._replace(holder=None, expires=None)

    # signals

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """Store a signal, unless one with its id was ever sent to this run id, consumed or not."""
        with self._locked():
            self._put_signal(run_id, signal, audit)

    def _put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None) -> None:
        payload = self._stored_value(signal.payload)
        mailbox = self._mail.setdefault(run_id, _Mailbox())
        if (key := signal.key) not in mailbox.seen:
            mailbox.seen.add(key)
            mailbox.waiting[key] = signal._replace(payload=payload)
            self._note(audit)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """Store a signal, unless too many of users wait. Return whether it is there."""
        with self._locked():
            mailbox = self._mail.get(run_id, _NO_MAIL)
            if signal.key in mailbox.seen:
                return True
            if sum(not own for own, *_ in mailbox.waiting) >= most:
                return False
            self._put_signal(run_id, signal, audit)
            return True

    async def rewrite_signals(self, run_id: str, signals: Sequence[Signal]) -> None:
        """Replace the payloads of those of these signals that wait."""
        with self._locked():
            waiting = self._mail.get(run_id, _NO_MAIL).waiting
            for signal in signals:
                if (key := signal.key) in waiting:
                    waiting[key] = waiting[key]._replace(payload=self._stored_value(signal.payload))

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """Return the oldest waiting signal of that name, without consuming it."""
        with self._locked():
            signal = self._oldest_signal(run_id, name, own)
            return None if signal is None else signal._replace(payload=isolate(signal.payload))

    async def signals(self, run_id: str) -> Signals:
        """Return all signals sent to this id, consumed or not."""
        with self._locked():
            mailbox = self._mail.get(run_id, _NO_MAIL)
            waiting = [signal._replace(payload=isolate(signal.payload)) for signal in mailbox.waiting.values()]
            return Signals.of(waiting, sorted(mailbox.seen - mailbox.waiting.keys(), key=repr))

    async def missing_recipients(self) -> Sequence[str]:
        """Return the ids with signals and no run."""
        with self._locked():
            return [run_id for run_id in self._mail if run_id not in self._runs]

    async def ready(self, now: float, workflows: Collection[str] | None = None) -> Sequence[RunRecord]:
        """Return the runs, of these workflows or of all, that a kernel can claim and resume now, with empty data."""
        with self._locked():
            wanted = [run for run in self._runs.values() if workflows is None or run.workflow in workflows]
            found, waiting = list[RunRecord](), Counter[tuple[str, ...]]()
            for run in wanted:
                if self._is_ready(run, now):
                    waiting[place := (*_definition(run), run.queue)] += run.in_queue
                    if not run.in_queue or waiting[place] <= LISTED:
                        found.append(_listed(run))
            return found

    # streams

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        """Add chunks to the run's streams, if `token` is still its token."""
        with self._locked():
            _check_token(self._runs.get(run_id), run_id, token)
            self._add_chunks(run_id, [self._stored_chunk(chunk) for chunk in chunks])

    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        """Replace the values of those of these chunks that the run has."""
        with self._locked():
            for chunk in chunks:
                known = self._streams.get(run_id, {}).get(chunk.channel, [])
                at = bisect_left(known, chunk.last, key=attrgetter("last"))
                if at < len(known) and known[at].last == chunk.last:
                    known[at] = known[at]._replace(value=self._stored_value(chunk.value))

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """Return the first `limit` chunks of a channel whose last item comes after the offset `after`."""
        with self._locked():
            chunks = self._streams.get(run_id, {}).get(channel, [])
            first = bisect_right(chunks, after, key=attrgetter("last"))
            return [chunk._replace(value=isolate(chunk.value)) for chunk in chunks[first : first + limit]]

    async def channels(self, run_id: str) -> Sequence[str]:
        """Return the names of the run's channels."""
        with self._locked():
            return list(self._streams.get(run_id, ()))

    # slots

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        """Take all slots that are wanted, or none. Return 0.0, or the seconds after which to ask again."""
        with self._locked():
            _check_token(self._runs.get(request.run_id), request.run_id, request.token)
            return self._slots.take(request, self._runs, now, time.time() if at is None else at)

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        """Give back a run's slots of these limits, if it has them with this token."""
        with self._locked():
            self._slots.give(run_id, token, names)

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        """Return the slots and requests of these limits, or of all."""
        with self._locked():
            return self._slots.listed(names, self._runs)

    # audit

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries."""
        with self._locked():
            self._audit.extend(entries)

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        """Return the newest `limit` entries of a run, or of all, oldest first."""
        with self._locked():
            found = [entry for entry in self._audit if run_id in (None, entry.run_id)]
            found.sort(key=lambda entry: entry.at)
            return found if limit is None else found[max(len(found) - limit, 0) :]

    async def prune_audit(self, before: float, audit: AuditEntry) -> int:
        """Delete the entries before `before`, add one, and return how many were deleted."""
        with self._locked():
            kept = [entry for entry in self._audit if entry.at >= before]
            deleted = len(self._audit) - len(kept)
            self._audit = [*kept, audit]
            return deleted

    # private methods; all but `_locked` are called with the lock held

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreUnavailableError("this store was closed; open a new one")
            yield

    def _save(self, run: RunRecord, entry: Transition | None) -> None:
        """Store `run` and, if there is one, a new history entry. Drop the earliest of too many finished runs."""
        run_id = run.run_id
        self._runs[run_id] = run
        if entry is not None:
            self._history.setdefault(run_id, []).append(entry)
        if not run.status.finished:
            self._finished.pop(run_id, None)  # a failed run was resumed
        else:
            self._finished.setdefault(run_id)
        if not self._strict:
            while len(self._finished) > self._keep:
                self._delete(next(iter(self._finished)))
                if not self._dropped:
                    self._dropped = True
                    _log.warning(
                        "the memory store has more than %d finished runs and drops the earliest; the run id of a "
                        "dropped run can run again; raise keep=, or use a durable store",
                        self._keep,
                    )

    def _note(self, audit: AuditEntry | None) -> None:
        if audit is not None:
            self._audit.append(audit)

    def _delete(self, run_id: str) -> bool:
        existed = self._runs.pop(run_id, None) is not None
        for mapping in (self._history, self._mail, self._streams, self._finished):
            mapping.pop(run_id, None)
        return existed

    def _oldest_signal(self, run_id: str, name: str, own: bool) -> Signal | None:
        waiting = self._mail.get(run_id, _NO_MAIL).waiting.values()
        return next((signal for signal in waiting if (signal.name, signal.own) == (name, own)), None)

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
        return wait.signal is not None and self._oldest_signal(run.run_id, wait.signal, wait.own) is not None

    def _stored_chunk(self, chunk: StreamChunk) -> StreamChunk:
        return chunk._replace(value=self._stored_value(chunk.value, chunk.channel))

    def _add_chunks(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        """Add copied chunks to the run's streams. One that is there already is ignored."""
        for chunk in chunks:
            known = self._streams.setdefault(run_id, {}).setdefault(chunk.channel, [])
            place = bisect_left(known, chunk.last, key=attrgetter("last"))
            if place == len(known) or known[place].last != chunk.last:
                known.insert(place, chunk)

    def _stored_data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {key: self._stored_value(value, key) for key, value in data.items()}

    def _stored_value(self, value: Any, key: str | None = None) -> Any:
        """Return a copy of a value to store under `key` or, without a key, of a payload. A payload may be None."""
        if self._strict and key is not None and isinstance(value, Appended):
            return Appended(self._stored_value(part, key) for part in value)
        if self._strict and not isinstance(value, bytes) and (value is not None or key is not None):
            what = "a payload" if key is None else f"key {key!r}"
            raise SerializationError(
                f"a strict store keeps bytes, but {what} is a {type(value).__name__}; encode it first",
                key=key, actual=type(value),
            )  # fmt: skip
        return isolate(value)


_NO_MAIL = _Mailbox()
_NO_ATTRIBUTES: Mapping[str, bytes] = {}


def _check_token(run: RunRecord | None, run_id: str, token: int) -> RunRecord:
    """Return the run. Raise ConflictError if another holder has claimed it, or there is none."""
    if run is not None and run.token == token:
        return run
    stale = "it does not exist" if run is None else f"another holder claimed it: its token is {run.token}, not {token}"
    raise ConflictError(f"a commit to the run {run_id!r} is stale: {stale}", run_id=run_id)


def _check_current(run: RunRecord | None, commit: Commit) -> RunRecord:
    """Return the run of `commit`. Raise ConflictError if the commit is stale."""
    run = _check_token(run, commit.run_id, commit.token)
    if run.seq == commit.expected_seq:
        return run
    stale = f"it has made {run.seq} transitions, not {commit.expected_seq}"
    raise ConflictError(f"a commit to the run {commit.run_id!r} is stale: {stale}", run_id=commit.run_id)


def _is_held(run: RunRecord, now: float) -> bool:
    """Return whether the run's lease is held at `now`. At `expires` itself it still is."""
    return run.holder is not None and run.expires is not None and run.expires >= now


def _definition(run: RunRecord) -> tuple[str, str, str]:
    return run.workflow, run.version, run.fingerprint


def _listed(run: RunRecord) -> RunRecord:
    """Return a copy of a run for a list, which has no data."""
    return _copy_of(run._replace(data={}, own={}))


def _copy_of(run: RunRecord) -> RunRecord:
    """Return a copy of a stored run that shares no mutable value with it, without its search attributes."""
    data, own = _isolated(Appended.gathered(run.data)), _isolated(run.own)
    return run._replace(
        data=data, error=_isolated(run.error), payload=isolate(run.payload), own=own, attributes=_NO_ATTRIBUTES
    )


def _changed(data: Mapping[str, Any], changed: Mapping[str, Any], removed: Sequence[str]) -> dict[str, Any]:
    """Return `data` without the keys in `removed`, and with `changed`."""
    rest = dict(data)
    Appended.gather(rest, changed, removed)
    return rest


def _isolated(mapping: Any) -> Any:
    return None if mapping is None else {key: isolate(value) for key, value in mapping.items()}
