"""One run's entries in the store: each transition is one commit, applied completely or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from cano import (
    Appended,
    AuditEntry,
    Changes,
    Commit,
    ConflictError,
    Run,
    RunCancelledError,
    RunRecord,
    RunStatus,
    SerializationError,
    SizeLimitError,
    StoreView,
    StreamChunk,
    StreamingStore,
    TypeMismatchError,
    Wait,
    state_name,
)
from cano.engine.ports import BoundState, Parked, lease_lost
from cano.safe_text import escaped, safe_repr, safe_str

from cano_durability.bounds import MANY, off_loop
from cano_durability.failures import described, traced
from cano_durability.families.lineage import announce_end, may_be_awaited
from cano_durability.keys import (
    ATTRIBUTES,
    AWAITED,
    CARRIED,
    ERROR,
    LASTING,
    NOTICES,
    PAYLOAD,
    PROGRESS,
    TAKEOVERS,
    TRACEBACK,
    WAIT,
)
from cano_durability.outbox.known import read_notices
from cano_durability.patience import despite_cancellation
from cano_durability.waits import KeptWait

if TYPE_CHECKING:
    from cano_durability.searching.attributes import Attributes
    from cano_durability.stored_runs import StoredRuns
    from cano_durability.streaming.emitting import Emitter
    from cano_durability.transacting.step_transaction import StepTransaction
    from cano_durability.values import Values

PARK_AFTER = 60.0
"""Delay in seconds above which a run is parked until its next attempt, and needs no task and no lease."""
_NOTHING: Mapping[str, Any] = {}
_NO_ANSWERS: Sequence[Sequence[Any]] = (), (), ()
RUNNING, SUCCEEDED = RunStatus.RUNNING, RunStatus.SUCCEEDED  # Python code reads a member of an enum
new_commit = partial(tuple.__new__, Commit)  # and is a named tuple's constructor
_log = logging.getLogger("cano")


class Journal:
    """Commits the steps of one run.

    Attributes:
        run_id: the run.
        commits_steps: whether each step is committed by itself.
        seq, state: number of the last committed transition, and the state that it led to.
        token: the fencing token of the run's lease.
        safe_until: the time, by `StoredRuns.elapsed`, until which the lease is certain not to have expired.
        releasing: whether a commit that releases the lease is in progress, or was made.
        ended: whether the run has ended in the store.
        requested: whether another process has requested the run's cancellation, by a signal.
        refused: whether the store refused the commit of its end, since another process has claimed the run.
        payload: the payload that led to `state`, as the store keeps it; next_payload: that of the next state.
        own_consumed: ids of the engine's own signals that the next commit consumes.
        answers: the signals that the next transition consumes, as the last three fields of an `Answer`.
        report_progress: notes that a run's step has reported progress, to be stored soon.
        child: id of the child that the run was parked for, until its step asks for that child again; or None.
        parent: id of the parent, which may be parked until this run's end; or None.
        created: when the run was created.
        emitter: writes what the run's steps emit; None before they emit anything.
        transaction: the open transaction of the present attempt, with which its transition is committed; or None.
    """

    is_local = False

    __slots__ = (
        "_announce", "_attributes", "_audit", "_audited", "_backend", "_carried", "_clock", "_elapsed", "_followed",
        "_notices", "_parking", "_remembered", "_stored", "_unsaved", "_values", "_writing", "answers", "child",
        "commits_steps", "created", "emitter", "ended", "next_payload", "own_consumed", "parent", "payload",
        "refused", "releasing", "report_progress", "requested", "run_id", "safe_until", "seq", "state", "token",
        "transaction",
    )  # fmt: skip

    def __init__(
        self,
        stored: StoredRuns,
        values: Values,
        record: RunRecord,
        *,
        commits_steps: bool,
        safe_until: float,
        attributes: Attributes | None = None,
    ) -> None:
        self._backend = stored.backend
        self._clock = stored.clock
        self._elapsed = stored.elapsed
        self._values = values
        self.commits_steps = commits_steps
        self.safe_until = safe_until
        self.run_id = record.run_id
        self.created = record.created
        self.seq = record.seq
        self.state = record.state
        self.token = record.token
        self.releasing = self.ended = record.status is SUCCEEDED  # a new run that starts in an exit state
        self.refused = False
        self.requested = False
        self._attributes = attributes
        self._audited = stored.audited
        self.report_progress = stored.report_progress
        self._parking = stored.parking
        self._announce = stored.announce
        self._followed = stored.followed
        self._notices: Sequence[str] = () if self._announce is None else read_notices(values, record)
        self._writing: asyncio.Future[None] | None = None  # of the progress
        self._audit: tuple[AuditEntry, ...] = ()  # for the commit that ends the run
        self.payload = record.payload
        self.next_payload: Any = None
        self.own_consumed: tuple[str, ...] = ()
        self.answers: Sequence[Sequence[Any]] = _NO_ANSWERS
        self.child: str | None = None
        self.emitter: Emitter | None = None
        self.transaction: StepTransaction | None = None
        self.parent = record.parent if AWAITED in record.own else None
        self._remembered: dict[str, Any] = {}  # values for the next state
        self._carried: Mapping[str, str] | None = None  # texts of observers that no commit has stored yet
        self._stored = record.own.keys() - LASTING
        self._unsaved: set[str] = set()  # keys whose changes a later commit has to store

    async def transition(self, run: Run, target: BoundState) -> None:
        """Commit the step's changes and the transition to `target`. An exit state also ends the run."""
        if self._attributes is not None:
            self._attributes.given.update(run.step.attributes.given)
        signals = self.own_consumed or (self.answers is not _NO_ANSWERS and any(self.answers))
        if not self.commits_steps and not target.is_exit and not signals:
            self._settle_uncommitted(run.view)
        else:
            status = SUCCEEDED if target.is_exit else RUNNING
            await self.commit(run.view, target.name, status, run.step.seq, release=target.is_exit)
            if not target.is_exit:
                self.check_lease()

    async def commit(
        self,
        view: StoreView,
        state: str,
        status: RunStatus,
        seq: int,
        *,
        wait: Wait | None = None,
        error: Mapping[str, Any] | None = None,
        release: bool = False,
        values: Mapping[str, Any] = _NOTHING,
    ) -> None:
        """Commit the changes in `view`, and `values` of the plugin, as durably as the store promises.

        Raises:
            ConflictError: another holder has claimed the run.
            SerializationError: a value cannot be stored.
        """
        changes, moves = view.changes(), seq != self.seq
        if self.transaction is not None and not (moves and self.transaction.counts):
            await self.transaction.rollback()
        if self.parent is not None and status.finished:
            await announce_end(self.transaction or self._backend, self.parent, self.run_id, self.token)
        encoded = partial(self._encoded, view, changes, moves)
        changed, removed = encoded() if len(changes.changed) < MANY else await off_loop(MANY, encoded, self._clock)
        own: dict[str, Any] = {}
        gone: Sequence[str] = ()
        if moves and (self._stored or self._remembered):
            gone = sorted(self._stored - self._remembered.keys())
            own = self._values.encode_own(self._remembered, self.run_id)
        if values:
            own |= self._values.encode_own(values, self.run_id)
        if (carried := self._carried) is not None:
            own |= self._values.encode_own({CARRIED: dict(carried)}, self.run_id)
        kept = found = None
        if self._attributes is not None and (kept := self._attributes.next(partial(_after, view, changes))) is not None:
            own |= self._values.encode_own({ATTRIBUTES: kept.packed()}, self.run_id)
            found = kept.encoded()
        payload = self.next_payload if moves else self.payload
        consumed, own_consumed, answered = self.answers if moves else _NO_ANSWERS
        cut = await self._send(
            new_commit((
                self.run_id, self.token, self.seq, seq, state, status, changed, sorted(removed), error, wait, payload,
                consumed, release, own, gone, (*self.own_consumed, *own_consumed), answered, found, (),
                self._clock.time(),
            ))
        )  # fmt: skip
        view.settle(changes)
        if self._attributes is not None:
            self._attributes.settle(kept)
        self._unsaved.clear()
        if not moves:  # then the history has no entry of it
            self._unsaved.update(changed, removed)
        if self._carried is carried:
            self._carried = None
        if moves:
            if self._stored or self._remembered:
                self._stored = self._remembered.keys() - LASTING
                self._remembered = {}
            self.next_payload, self.answers = None, _NO_ANSWERS
        self.seq, self.state, self.payload, self.own_consumed = seq, state, payload, ()
        self.ended = status.finished
        if values:
            self.holds(values, ())
            self._notices = values.get(NOTICES, self._notices)
        if self.run_id in self._followed:
            self._followed[self.run_id]()
        if cut is not None:
            raise cut

    async def park(self, run: Run, wait: Wait, seq: int, values: Mapping[str, Any] = _NOTHING) -> None:
        """Commit that the run is parked until the end of `wait`, or until its deadline, and release its lease."""
        run.wait = KeptWait(wait).before(run.due)  # one time for stores and alarms; `Claimer` finds out which it was
        if self._attributes is not None and seq != self.seq:
            self._attributes.given.update(run.step.attributes.given)
        if wait.child is not None and self.emitter is not None:
            self.emitter.discard(run.step, run.step.phase)  # the attempt begins again after the child's end
        if may_be_awaited(run):
            values, self.parent = {**values, AWAITED: True}, run.parent_id
        stored = run.wait
        if run.plan.flow.expect is not None:
            stored, late = self._parking(run, stored, seq)
            values = {**values, **late}
        if seq != self.seq and wait.child is None and self._announce is not None:
            if self.transaction is not None:
                self.transaction.refuse_notices()
            values = {**values, **await self.announced("parked", run, wait.then, seq, wait=run.wait)}
        await self.commit(run.view, wait.then, RunStatus.PARKED, seq, wait=stored, release=True, values=values)

    async def announced(self, kind: str, run: Run, state: str, seq: int, **about: Any) -> dict[str, Any]:
        """Store the notices of a commit that is about to be made. Return the values that it has to store."""
        if self._announce is None:
            return {}
        record = RunRecord(
            self.run_id, run.workflow, run.version, "", state, seq, created=self.created, token=self.token
        )  # fmt: skip
        return await self._announce(kind, record, self._notices, **about)

    @property
    def blamed(self) -> bool:
        """Whether processes did not survive the present step, and it has not ended."""
        return TAKEOVERS in self._stored

    def check_lease(self) -> None:
        """Raise ConflictError if the lease was not renewed in time, for example because the process was stopped."""
        if self._elapsed() > self.safe_until:
            raise lease_lost(self.run_id, "it could not be renewed in time")

    def remember(self, name: str, value: Any) -> None:
        """Store a value of the engine with the next transition, for the next state."""
        self._remembered[name] = value

    def remember_error(self, run: Run, error: BaseException) -> None:
        """Store the error that leads to an `on_exhausted` state with the next transition."""
        if self.emitter is not None:
            self.emitter.supersede(lambda unit: unit.seq == run.step.seq)  # finished branches do not count either
        if self.transaction is not None:
            self.transaction.counts = False
        if self.commits_steps:
            self._remembered[ERROR] = {**described(run, error), TRACEBACK: traced(run, error)}

    def carry(self, texts: Mapping[str, str]) -> None:
        """Store texts of observers with the next commit, for the life of the run."""
        self._carried = texts or None

    def holds(self, set: Iterable[str], removed: Iterable[str]) -> None:
        """Note which of the plugin's values a commit without a transition has set and removed."""
        self._stored.update(name for name in set if name not in LASTING)
        self._stored.difference_update(removed)

    async def save(self, values: Mapping[str, Any]) -> None:
        """Commit values of the engine now; they are kept until the next transition. It ends the count of takeovers."""
        if self.transaction is not None:
            await self.transaction.rollback()
        own = self._values.encode_own(values, self.run_id)
        removed = (TAKEOVERS,) if TAKEOVERS in self._stored else ()
        cut = await self._send(self._beside(own, removed))
        self.holds(own, () if cut is not None else removed)  # a commit that was cut may not have been applied
        if self.run_id in self._followed:
            self._followed[self.run_id]()
        if cut is not None:
            raise cut

    async def save_progress(self, packed: Sequence[Any]) -> None:
        """Commit the progress of the present step, unless the lease is about to be released. Never beside an end.

        It leaves the count of takeovers: a step that kills its process may have reported progress before.
        """
        if self._writing is None:
            await self.save_beside({PROGRESS: packed})

    async def save_beside(self, values: Mapping[str, Any]) -> bool:
        """Commit values of the engine beside the present step.

        Return False, with nothing committed, if the run's lease is about to be released, or while the step has an open
        transaction, beside which nothing of the run can be written.

        Raises:
            ConflictError: a transition was committed at the same time, or another holder has claimed the run.
        """
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self.releasing or self.ended or self.transaction is not None:
            return False
        own = self._values.encode_own(values, self.run_id)
        written = self._writing = asyncio.get_running_loop().create_future()
        try:
            await self._backend.commit(self._beside(own))
            self.holds(own, ())
            self._notices = values.get(NOTICES, self._notices)
        finally:
            self._writing = None
            written.set_result(None)
        return True

    def _beside(self, own: Mapping[str, Any], removed: Sequence[str] = ()) -> Commit:
        """Return a commit of values of the engine, without a transition."""
        return Commit(
            run_id=self.run_id, token=self.token, expected_seq=self.seq, seq=self.seq, state=self.state,
            status=RUNNING, own=own, own_removed=removed, payload=self.payload, at=self._clock.time(),
        )  # fmt: skip

    async def quiet(self) -> None:
        """Wait until nothing of the run is being written beside its step."""
        while self._writing is not None:
            await asyncio.wait([self._writing])
        if self.emitter is not None:
            await self.emitter.quiet()

    # streams

    def saved(self, name: str) -> bool:
        """Return whether the store has a value of this name for the present step."""
        return name in self._stored

    async def write_first(self, own: Mapping[str, Any], chunks: Sequence[StreamChunk]) -> None:
        """Commit the first chunks of a channel, with a value of the engine's own, without a transition."""
        await self._backend.commit(self._beside(own)._replace(chunks=tuple(chunks)))

    async def write_stream(self, chunks: Sequence[StreamChunk]) -> None:
        """Add chunks to the run's streams."""
        await cast(StreamingStore, self._backend).write_stream(self.run_id, self.token, chunks)

    async def _send(self, commit: Commit) -> asyncio.CancelledError | None:
        """Commit, with what the run's steps have emitted. See `_commit`."""
        if self.emitter is not None:
            return await self.emitter.send(commit, self._commit)
        return await self._commit(commit)

    async def _commit(self, commit: Commit) -> asyncio.CancelledError | None:
        """Commit. A cancellation that comes too late to stop the commit is returned, for the caller to raise it."""
        while self._writing is not None:  # after an end at the same transition, it would undo that
            await asyncio.wait([self._writing])
        self.releasing = commit.release
        try:
            await (self._backend if self.transaction is None else self.transaction).commit(commit, *self._audit)
        except asyncio.CancelledError as cut:
            if await self._was_applied(commit):  # then the run continues after it
                return cut
            raise
        return None

    async def _was_applied(self, commit: Commit) -> bool:
        """Return whether the store has applied `commit`."""
        record = await despite_cancellation(self._backend.load(self.run_id), self._clock)
        return record is not None and record.seq == commit.seq and record.token == commit.token

    def _encoded(self, view: StoreView, changes: Changes, moves: bool) -> tuple[dict[str, Any], set[str]]:
        """Return the values that a commit sets, encoded, and the keys that it removes.

        Of a list that the store and the history have, only the new items are encoded.
        """
        encode, run_id = self._values.encode, self.run_id
        if not (changes.removed or changes.appended or changes.cleared or self._unsaved):  # the usual case
            return {key: encode(key, value, run_id) for key, value in changes.changed.items()}, set()
        base = view.base
        removed = set(changes.removed)
        if changes.cleared:
            removed.update(base)
        values = dict(changes.changed)
        appended = {}
        for key, items in changes.appended.items():
            if self._values.appends and moves and key in base and key not in removed and key not in self._unsaved:
                appended[key] = Appended((encode(key, items, run_id),))
            else:
                values[key] = [*(() if key in removed else base.get(key, ())), *items]
        for key in self._unsaved - values.keys():
            if key in base and key not in removed:
                values[key] = base[key]
            else:
                removed.add(key)
        return {key: encode(key, value, run_id) for key, value in values.items()} | appended, removed

    def _settle_uncommitted(self, view: StoreView) -> None:
        """Apply the step's changes to the run's data only; a later commit stores them."""
        changes = view.changes()
        self._unsaved.update(changes.removed, changes.changed, changes.appended, view.base if changes.cleared else ())
        view.settle(changes)

    async def wait_to_retry(self, run: Run, delay: float) -> None:
        """Park the run until its step's next attempt, if `delay` is longer than `PARK_AFTER`. Raises Parked."""
        if self.transaction is not None:
            await self.transaction.rollback()
        if delay <= PARK_AFTER or not self.commits_steps:
            return
        name = state_name(run.step.state)
        await self.park(run, Wait(then=name, until=self._clock.time() + delay), self.seq)
        raise Parked

    async def end(self, run: Run) -> None:
        """Commit how a run ended that did not reach an exit state, and release its lease. Never raises."""
        if self.ended:
            return
        try:
            await despite_cancellation(self._end(run), self._clock)
        except Exception as problem:  # noqa: BLE001  # the run has ended; its lease expires by itself
            self.refused = isinstance(problem, ConflictError)
            if self.emitter is not None:
                self.emitter.close()  # otherwise it would retry for ever
            texts = map(escaped, (self.run_id, safe_repr(run.error), safe_str(problem)))
            _log.warning("run %s ended with %s, which could not be stored: %s", *texts)

    async def _end(self, run: Run) -> None:
        if self.transaction is not None:
            await self.transaction.rollback()
        error, status = run.error, run.status
        cancelled = status is RunStatus.CANCELLED and isinstance(error, RunCancelledError)
        if not cancelled and status is not RunStatus.FAILED:
            self.releasing = True
            if self.emitter is not None:
                await self.emitter.stop()
            await self._backend.release(self.run_id, self.token)
            return
        alone = isinstance(error, RunCancelledError) and not error.with_parent
        by_itself = alone and run.parent_id is not None
        if cancelled and alone and not self.requested:  # a request is in the store's audit
            self._audit = self._audited(self.run_id, "cancel")
        # a child that was cancelled by itself keeps the error, see `has_ended`
        failure = None if error is None or (cancelled and not by_itself) else described(run, error)
        values: dict[str, Any] = {} if error is None or cancelled else {TRACEBACK: traced(run, error)}
        # a cancelled step may have been committed all the same, so the journal's state counts, not the step's
        state, seq = self.state, self.seq
        if not self.commits_steps and run.steps > seq:
            state, seq = state_name(run.step.state), run.steps
        self.next_payload, self.answers = None, _NO_ANSWERS  # of a transition that was not committed
        if self._attributes is not None and self.commits_steps:
            self._attributes.given.clear()
        for key in (WAIT, PAYLOAD):
            self._remembered.pop(key, None)
        if self.emitter is not None:
            self.emitter.discard(run.step, None)
        if not cancelled:
            values |= await self.announced("failed", run, state, seq, error=failure)
        try:
            await self.commit(run.view, state, status, seq, error=failure, release=True, values=values)
        except (SerializationError, SizeLimitError, TypeMismatchError):  # of a value not committed step by step
            self._unsaved.clear()
            self._attributes = None
            await self.commit(run.view, self.state, status, self.seq, error=failure, release=True, values=values)


def _after(view: StoreView, changes: Changes, key: str) -> Any:
    """Return the value that a key of `view` has after these changes, or None."""
    if key in changes.changed:
        return changes.changed[key]
    return None if changes.cleared or key in changes.removed else view.base.get(key)
