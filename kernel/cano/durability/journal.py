"""A run's line in the store: one commit per transition, each all or nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from cano.engine.deadline import TEARDOWN_GRACE
from cano.engine.view import _IMMUTABLE, Changes, StoreView, isolate
from cano.errors import CanoError, ConflictError, RunCancelledError, SerializationError, StoreUnavailableError
from cano.model.split import HIDDEN
from cano.model.store import TypedStore
from cano.model.waiting import Parked
from cano.protocols import Clock, Codec, StoreBackend
from cano.records import Commit, RunRecord, RunStatus, Wait

if TYPE_CHECKING:
    from cano.engine.binding import BoundState
    from cano.engine.run import Run

R = TypeVar("R")

RETRY = HIDDEN + "retry"  # how many attempts of the present step have failed
ERROR = HIDDEN + "error"  # the error whose `on_exhausted` led to the present state
DEFINITION = HIDDEN + "definition"  # version and fingerprint that the run has migrated to; it stays
CARRIED = HIDDEN + "carried"  # what observers keep with the run; it stays
DEADLINE = HIDDEN + "deadline"  # the seconds that the run may take, and the wall-clock time of their end; it stays
_STAYING = (DEFINITION, CARRIED, DEADLINE)
PARK_AFTER = 60.0
"""Seconds: a retry that comes later than that is waited for in the store, without a task or a lease."""
_log = logging.getLogger("cano")


class Values:
    """How values reach one store: encoded, or as the objects they are."""

    def __init__(self, backend: StoreBackend, codec: Codec | None) -> None:
        self._codec = codec if backend.capabilities.encoded else None
        self.strict = backend.capabilities.strict

    def encode(self, key: str, value: Any) -> Any:
        """`value` as the store keeps it. Raises SerializationError naming `key`."""
        if self._codec is None:
            return isolate(value)
        try:
            return self._codec.encode(value)
        except SerializationError as error:
            raise _named(error, f"key {key!r}: {error}", key) from error

    def decode(self, key: str, value: Any, run_id: str) -> Any:
        """The value that the store has kept. Raises SerializationError naming run and key."""
        if self._codec is None:
            return isolate(value)
        try:
            return self._codec.decode(value)
        except SerializationError as error:
            raise _named(error, f"run {run_id}, key {key!r}: {error}", key, run_id) from error

    def isolate(self, value: Any) -> Any:
        """A copy of `value`; through the codec where the store is strict."""
        if self._codec is None or not self.strict:
            return isolate(value)
        return self._codec.decode(self._codec.encode(value))

    def register(self, *types: Any) -> None:
        """Let the codec build instances of these types."""
        if self._codec is not None:
            self._codec.register(*types)


class StrictView(StoreView):
    """A view whose values pass through the codec already when a task puts them; what is refused is named."""

    __slots__ = ()

    def put(self, key: Any, value: Any) -> None:
        """See `KeyValueStore.put`."""
        TypedStore.put(self, key, value)  # the short way for what needs no copy would pass by what a layer refuses

    def _set(self, key: str, value: Any) -> None:
        try:
            if value.__class__ in _IMMUTABLE:
                self._isolate(value)
            StoreView._set(self, key, value)
        except SerializationError as error:
            raise _named(error, f"key {key!r}: {error}", key) from error

    def _append(self, key: str, item: Any) -> None:
        try:
            StoreView._append(self, key, item)
        except SerializationError as error:
            raise _named(error, f"an item for key {key!r}: {error}", key) from error

    def detached(self) -> StrictView:
        """See `StoreView.detached`."""
        return StrictView(self._base, self._apply, self._isolate)


class Journal:
    """Commits what one run does.

    Attributes:
        seq, state: the last transition committed, and the state that it led to.
        token: the fencing token that the run is held under.
        leaving: whether a commit that frees the lease is under way, or was made.
        hidden: values of the engine's own, kept beside the data for the state that follows.
        carried: what observers keep with the run, until a commit has taken it.
        payload: what the signal carried that led to `state`, as it is stored; next_payload: the same, still to come.
        consumed: ids of the signals that the next commit takes.
    """

    __slots__ = (
        "_backend",
        "_clock",
        "_stored",
        "_unsaved",
        "carried",
        "consumed",
        "eager",
        "hidden",
        "leaving",
        "next_payload",
        "over",
        "payload",
        "run_id",
        "seq",
        "state",
        "token",
        "values",
    )  # fmt: skip

    def __init__(self, backend: StoreBackend, values: Values, clock: Clock, record: RunRecord, eager: bool) -> None:
        self._backend = backend
        self._clock = clock
        self.values = values
        self.eager = eager
        self.run_id = record.run_id
        self.seq = record.seq
        self.state = record.state
        self.token = record.token
        self.leaving = False
        self.over = False  # whether the run has reached its end in the store, whatever becomes of it here
        self.payload = record.payload
        self.next_payload: Any = None
        self.consumed: tuple[str, ...] = ()
        self.hidden: dict[str, Any] = {}
        self.carried: Mapping[str, str] | None = None
        self._stored = {key for key in record.data if key.startswith(HIDDEN) and key not in _STAYING}
        self._unsaved: set[str] = set()

    async def transition(self, run: Run, target: BoundState) -> None:
        """Commit what the step wrote, and that `target` follows. An exit state ends the run with it."""
        if not self.eager and not target.is_exit and not self.consumed:
            self._note(run.view)
        else:
            status = RunStatus.SUCCEEDED if target.is_exit else RunStatus.RUNNING
            await self.commit(run.view, target.name, status, run.step.seq, release=target.is_exit)

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
    ) -> None:
        """Commit what `view` holds, under `seq`. When it returns, that is as durable as the store is.

        Raises:
            ConflictError: the run was claimed by somebody else meanwhile.
            SerializationError: a value cannot be kept.
        """
        changes = view.changes()
        changed, removed = self._encoded(view, changes)
        moves = seq != self.seq
        if moves and (self._stored or self.hidden):
            removed.update(self._stored - self.hidden.keys())
            changed.update({key: self.values.encode(key, value) for key, value in self.hidden.items()})
        if (carried := self.carried) is not None:
            changed[CARRIED] = self.values.encode(CARRIED, dict(carried))
        payload = self.next_payload if moves else self.payload
        cut = await self._send(
            Commit(  # by position: by name it takes twice as long
                self.run_id, self.token, self.seq, seq, state, status, changed, sorted(removed), error, wait, payload,
                self.consumed, release, self._clock.time(),
            )
        )  # fmt: skip
        view.settle(changes)
        self._unsaved.clear()
        if self.carried is carried:
            self.carried = None
        if moves:
            if self._stored or self.hidden:
                self._stored = set(self.hidden)
                self.hidden = {}
            self.next_payload = None
        self.seq, self.state, self.payload, self.consumed = seq, state, payload, ()
        self.over = status.finished
        if cut is not None:
            raise cut

    async def keep(self, key: str, value: Any) -> None:
        """Commit a value of the engine's own, for as long as the run is in its present state."""
        encoded = self.values.encode(key, value)
        self._stored.add(key)
        cut = await self._send(
            Commit(
                run_id=self.run_id, token=self.token, expected_seq=self.seq, seq=self.seq, state=self.state,
                status=RunStatus.RUNNING, changed={key: encoded}, payload=self.payload, at=self._clock.time(),
            )
        )  # fmt: skip
        if cut is not None:
            raise cut

    async def _send(self, commit: Commit) -> asyncio.CancelledError | None:
        """Let the store do it. A cancellation that came too late for that is returned, to be raised in the end."""
        self.leaving = commit.release
        try:
            await self._backend.commit(commit)
        except asyncio.CancelledError as cut:
            if await self._landed(commit):  # what is in the store decides what the run goes on from
                return cut
            raise
        return None

    async def _landed(self, commit: Commit) -> bool:
        record = await within_grace(self._backend.load(self.run_id), self._clock)
        return record is not None and record.seq == commit.seq and record.token == commit.token

    def _encoded(self, view: StoreView, changes: Changes) -> tuple[dict[str, Any], set[str]]:
        """What a commit sets and removes."""
        encode = self.values.encode
        if not (changes.removed or changes.appended or changes.cleared or self._unsaved):  # as after most steps
            return {key: encode(key, value) for key, value in changes.changed.items()}, set()
        base = view.base
        removed = set(changes.removed)
        if changes.cleared:
            removed.update(base)
        values = dict(changes.changed)
        for key, items in changes.appended.items():
            values[key] = [*(() if key in removed else base.get(key, ())), *items]
        for key in self._unsaved - values.keys():
            if key in base and key not in removed:
                values[key] = base[key]
            else:
                removed.add(key)
        return {key: encode(key, value) for key, value in values.items()}, removed

    def _note(self, view: StoreView) -> None:
        """Make the step visible to the run alone, and remember what a later commit has to save."""
        changes = view.changes()
        self._unsaved.update(changes.removed, changes.changed, changes.appended, view.base if changes.cleared else ())
        view.settle(changes)

    async def wait_to_retry(self, run: Run, delay: float) -> None:
        """Park the run until its step's next attempt. Raises Parked."""
        name = run.step._bound.name
        await self.keep(RETRY, run.step.attempt)
        run.wait = Wait(then=name, until=run.before_due(self._clock.time() + delay))
        await self.commit(run.view, name, RunStatus.PARKED, self.seq, wait=run.wait, release=True)
        raise Parked

    async def end(self, run: Run) -> None:
        """Commit how a run ended that did not reach an exit state, and free its lease. Never raises."""
        if self.over:
            return
        try:
            await within_grace(self._end(run), self._clock)
        except Exception as problem:  # noqa: BLE001  # the run has ended; its lease will lapse by itself
            _log.warning("run %s ended with %r, which could not be stored: %r", self.run_id, run.error, problem)

    async def _end(self, run: Run) -> None:
        error, status = run.error, run.status
        cancelled = status is RunStatus.CANCELLED and isinstance(error, RunCancelledError)
        ours = isinstance(error, CanoError) and not isinstance(error, ConflictError | StoreUnavailableError)
        if not cancelled and not (status is RunStatus.FAILED and ours):
            self.leaving = True
            await self._backend.release(self.run_id, self.token)
            return
        said = None if cancelled else describe(run, error)
        # a commit may have been made although its step was cut short: what is there counts, not where the step was
        state, seq = self.state, self.seq
        if not self.eager and run.steps > seq:
            state, seq = run.step._bound.name, run.steps
        try:
            await self.commit(run.view, state, status, seq, error=said, release=True)
        except SerializationError:  # of a value that no commit has met before
            self._unsaved.clear()
            await self.commit(run.view, self.state, status, self.seq, error=said, release=True)


def describe(run: Run, error: BaseException | None) -> dict[str, Any]:
    """An error as a run's record keeps it."""
    cause = None if error is None else error.__cause__
    limit = {"timeout": error.timeout} if error is not None and hasattr(error, "timeout") else {}
    return {
        "type": type(error).__name__,
        "message": str(error),
        "cause": None if cause is None else f"{type(cause).__name__}: {cause}",
        "state": run.step._bound.name,
        "attempt": run.step.attempt,
        **limit,
    }


async def within_grace(work: Coroutine[Any, Any, R], clock: Clock) -> R | None:
    """Await `work` even while this is being cancelled; a store that hangs is given up after a moment."""
    task = asyncio.ensure_future(work)
    patience = asyncio.ensure_future(clock.sleep(TEARDOWN_GRACE))
    cancelled: asyncio.CancelledError | None = None
    try:
        while not task.done() and not patience.done():
            try:
                await asyncio.wait({task, patience}, return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError as error:
                cancelled = error
        task.cancel()
        await asyncio.wait({task}, timeout=0)
        if cancelled is not None:
            raise cancelled
        return task.result() if task.done() and not task.cancelled() else None
    finally:
        patience.cancel()
        if task.done() and not task.cancelled():
            task.exception()


def _named(error: SerializationError, message: str, key: str, run_id: str | None = None) -> SerializationError:
    named = SerializationError(message, key=key, expected=error.expected, actual=error.actual)
    named.run_id = run_id
    return named
