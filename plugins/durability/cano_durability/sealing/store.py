"""`SealedStore`: encrypts the values of a store for their place, and verifies runs whenever they are read."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar, cast

from cano import (
    Appended,
    AuditEntry,
    ClaimedRun,
    Commit,
    ConfigurationError,
    ConflictError,
    ContextLayer,
    LayerContext,
    RewritingStore,
    RunFilter,
    RunRecord,
    SerializationError,
    Signal,
    SignalKey,
    Signals,
    StoreBackend,
    StoreError,
    StoreUnavailableError,
    StreamChunk,
    Transition,
)

from cano_durability.bounds import count_of, off_loop
from cano_durability.inspection.reencrypting import Reencrypted, reencrypted
from cano_durability.keys import MARK
from cano_durability.sealing.marks import Mark, mark_place, marked
from cano_durability.sealing.sealed_transaction import SealedTransaction
from cano_durability.sealing.seals import NO_LINK, SEAL, Seal, SealedRun, sealed_id

R = TypeVar("R")

PREFIX = "\0"
"""The first character of the names, in contexts of layers, of what is stored beside the data. No key begins with it."""
PAYLOAD, ERROR = PREFIX + "payload", PREFIX + "error of the run"
ATTEMPTS = 5
"""How often a run is read again that other processes change meanwhile."""
_SEALED = "sealed"
_HIDDEN = {
    "history_page",
    "discard_history",
    "rewrite",
    "rewrite_signals",
    "rewrite_stream",
}  # they need whole histories, and its seals


class Unwrapped(Mapping[str, Any]):
    """The values of a run, unwrapped when they are looked up. Errors name run and key.

    Attributes:
        stored: the values as the store keeps them.
    """

    __slots__ = ("_context", "_layer", "_own", "stored")

    def __init__(
        self, layer: ContextLayer, context: LayerContext, values: Mapping[str, Any], *, own: bool = False
    ) -> None:
        self._layer, self._context, self._own = layer, context, own
        self.stored = {key: value for key, value in values.items() if not (own and key == SEAL)}

    def __getitem__(self, key: str) -> Any:
        context = self._context._replace(key=_key(key, own=self._own))
        return Appended.mapped(self.stored[key], lambda value: unwrapped(self._layer, value, context))

    def __repr__(self) -> str:
        return f"<values of {', '.join(map(repr, self.stored))}>"

    def __contains__(self, key: object) -> bool:
        return key in self.stored

    def __iter__(self) -> Iterator[str]:
        return iter(self.stored)

    def __len__(self) -> int:
        return len(self.stored)


class _Held:
    """A run that this process may commit to.

    Attributes:
        run: the run as it is stored; None if that is not known.
        commits: number of commits begun; a record that was read before one of them ended may be outdated.
        lock: held during a commit, since each seal continues the one before.
    """

    __slots__ = ("commits", "lock", "run")

    def __init__(self, run: SealedRun | None = None) -> None:
        self.run = run
        self.commits = 0
        self.lock = asyncio.Lock()


class SealedStore:
    """A store around another one. It unwraps what it reads, and verifies that commits of this program wrote it.

    A run that another program changed is refused with SerializationError: a value, its state, number, definition, wait
    or error; or values from another run, key, transition or store. A list is not verified; a run is when it is loaded.

    Args:
        store: the store that keeps the runs.
        layer: wraps and unwraps values.
        names: the names of the layers, for the message to a process that does not name them.
        namespace: the part of a store that `store` is; see `LayerContext`.

    Attributes:
        inner: the store that keeps the runs.
        layer: wraps and unwraps values.
        names: the names of the layers.
        place: the place of its mark.
        is_new: whether `open` has made its mark.
    """

    is_sealed = True

    def __init__(self, store: StoreBackend, layer: ContextLayer, names: Sequence[str], namespace: str = "") -> None:
        self.inner = store
        self._seals_errors = getattr(layer, "seals_errors", False)
        promised = store.capabilities.outcomes and not self._seals_errors  # the store does not see causes
        self.capabilities = store.capabilities._replace(history_pages=False, outcomes=promised)
        self.layer = layer
        self.names = names
        self.place = mark_place(namespace)
        self._mark = Mark("", False)
        self.is_new = False
        self._held: dict[str, _Held] = {}  # the runs whose lease was claimed through this object

    def __getattr__(self, name: str) -> Any:
        if name in _HIDDEN:
            raise AttributeError(name)
        return getattr(self.inner, name)  # what stores have beyond the protocol, such as `exists`

    def __repr__(self) -> str:
        return f"<sealed {self.inner!r}>"

    async def open(self) -> None:
        """See `StoreBackend.open`. Also raises SerializationError if the keys are not those of the store."""
        await self.inner.open()
        try:
            self._mark, self.is_new = await marked(self.inner, self.layer, self.names, self.place)
        except BaseException:
            await self.inner.close()
            raise

    async def close(self) -> None:
        """See `StoreBackend.close`."""
        self._held.clear()
        await self.inner.close()

    # runs

    async def create(self, run: RunRecord, *audit: AuditEntry) -> RunRecord:
        """See `AuditingStore.create`. The audit is neither encrypted nor authenticated."""
        if run.run_id == MARK:
            raise ConfigurationError(f"the run id {MARK!r} is the store's own; choose another")
        stored = run._replace(
            data=self.wrapped_values(run.run_id, run.data, run.seq),
            own=self.wrapped_values(run.run_id, run.own, run.seq, own=True),
            error=self._wrapped_error(run.run_id, run.error, run.seq),
            payload=self._wrapped(run.payload, run.run_id, PAYLOAD, run.seq),
        )  # fmt: skip
        first = Transition(run.seq, run.state, run.status, run.created, stored.data, own=stored.own)
        sealed = SealedRun.new(stored, [first], ())
        seal = self.wrapped_seal(sealed.seal, run.run_id, run.seq)
        found = await self.inner.create(stored._replace(own={**stored.own, SEAL: seal}), *audit)
        if found.own.get(SEAL) != seal or found.token != run.token:
            return self._opened(found, _bound(await self.verified(found)))
        if run.holder is not None:
            self._held[run.run_id] = _Held(sealed)
        return run

    async def load(self, run_id: str) -> RunRecord | None:
        """See `StoreBackend.load`. Raises SerializationError if the run is not as the last commit left it."""
        held = self._held.get(run_id)
        commits = -1 if held is None or held.lock.locked() else held.commits
        record = await self.inner.load(run_id)
        if record is None or run_id == MARK:
            return None
        run = await self.verified(record)
        if held is not None and held.run is None and held.commits == commits:
            held.run = run
        return self._opened(record, _bound(run))

    def _opened(self, record: RunRecord, bound: bool | None) -> RunRecord:
        """Return a stored record with its values unwrapped. See `LayerContext.bound`."""
        run_id = record.run_id
        context = self._context(run_id, "", None, bound)
        data, own = Unwrapped(self.layer, context, record.data), Unwrapped(self.layer, context, record.own, own=True)
        payload = record.payload
        if payload is not None:
            payload = unwrapped(self.layer, payload, self._context(run_id, PAYLOAD, record.seq, bound))
        error = self._unwrapped_error(run_id, record.error)
        return record._replace(data=data, own=own, error=error, payload=payload)

    async def verified(self, record: RunRecord) -> SealedRun | None:
        """Return the run of a stored record; None if it has no seal, since an earlier version wrote it.

        Raises:
            SerializationError: it is not as its last commit left it.
        """
        if (stored := record.own.get(SEAL)) is None:
            if not self._mark.old:
                raise _changed(record.run_id, "it has no seal")
            return None
        run_id = record.run_id
        seal = self.seal(run_id, stored, record.seq)
        run = await off_loop(count_of(record.data), lambda: SealedRun(record, seal))
        if not hmac.compare_digest(run.head(record), seal.head):
            context = self._context(run_id, "", None, None)
            for own, values in ((False, record.data), (True, record.own)):  # name the value, if it shows which it is
                dict(Unwrapped(self.layer, context, values, own=own))
            raise _changed(run_id, "its last commit did not leave it so")
        return run

    def seal(self, run_id: str, stored: bytes, seq: int) -> Seal:
        """Return a stored seal. Raises SerializationError."""
        try:
            return Seal.unpacked(unwrapped(self.layer, stored, self._context(run_id, PREFIX + SEAL, seq)))
        except ValueError as error:
            raise _changed(run_id, str(error)) from error

    def wrapped_seal(self, seal: Seal, run_id: str, seq: int) -> bytes:
        """Return a seal for the store."""
        return self.layer.wrap_in(seal.packed(), self._context(run_id, PREFIX + SEAL, seq))

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """See `StoreBackend.runs`. A list is not verified; a run is when it is loaded."""
        found = await self.inner.runs(filter)
        if len(found) == filter.limit and any(record.run_id == MARK for record in found):
            found = await self.inner.runs(filter._replace(limit=filter.limit + 1))  # a short page would be the last
        return [self._listed(record) for record in found if record.run_id != MARK]

    async def ready(self, now: float, *workflows: Collection[str]) -> Sequence[RunRecord]:
        """See `StoreBackend.ready`, and `Capabilities.ready_filters`."""
        return [self._listed(each) for each in await self.inner.ready(now, *workflows) if each.run_id != MARK]

    def _listed(self, record: RunRecord) -> RunRecord:
        """Return a record of a list. If it cannot be unwrapped, it has the problem as its error."""
        if record.payload is None and record.error is None:
            return record
        try:
            return self._opened(record, None)._replace(data={}, own={})
        except (SerializationError, StoreUnavailableError) as problem:
            return record._replace(error={"type": "SerializationError", "message": str(problem)}, payload=None)

    async def history(self, run_id: str) -> Sequence[Transition]:
        """See `StoreBackend.history`. Raises SerializationError if entries were changed, moved or removed."""
        heads = set[bytes]()
        while True:
            record = await self.inner.load(run_id)
            entries = await self.inner.history(run_id)
            if not entries:
                record = await self.inner.load(run_id)  # it may have just been deleted
            if record is None or run_id == MARK or not self.capabilities.history:
                return [] if run_id == MARK else entries
            run = await self.verified(record)
            try:
                if run is not None:
                    await off_loop(len(entries), lambda: self.check_chain(run, run_id, entries))  # noqa: B023
            except SerializationError:
                if run is None or run.seal.head in heads or len(heads) == ATTEMPTS:
                    raise
                heads.add(run.seal.head)  # `cano reencrypt` may just have changed both
                continue
            return [self.opened_entry(run_id, each, _bound(run)) for each in entries]

    def opened_entry(self, run_id: str, entry: Transition, bound: bool | None) -> Transition:
        """Return an entry of a history with its values unwrapped."""
        context = self._context(run_id, "", entry.seq, bound)
        own = Unwrapped(self.layer, context, entry.own, own=True)
        return entry._replace(changed=Unwrapped(self.layer, context, entry.changed), own=own)

    def check_chain(self, run: SealedRun, run_id: str, entries: Sequence[Transition]) -> None:
        """Raise SerializationError unless the entries are the links of the run's chain, up to the newest one."""
        link, links = NO_LINK, set()
        for entry in entries:
            link = run.link(link, entry)
            links.add(link)
        if run.seal.link not in links:
            raise _changed(run_id, "its history does not lead to its present state")
        if link != run.seal.link:  # another process has committed since the run was read
            last = entries[-1]
            stored = last.own.get(SEAL)
            if stored is None or self.seal(run_id, stored, last.seq).link != link:
                raise _changed(run_id, f"its history was changed after transition {run.seq}")

    async def delete(self, run_id: str, *audit: AuditEntry) -> bool:
        """See `AuditingStore.delete`."""
        if run_id == MARK:
            return False
        self._held.pop(run_id, None)
        return await self.inner.delete(run_id, *audit)

    # commits

    async def commit(
        self, commit: Commit, *audit: AuditEntry, write: Callable[[Commit], Awaitable[None]] | None = None
    ) -> None:
        """See `AuditingStore.commit`. Raises SerializationError if the run is not as its last commit left it.

        Args:
            commit, audit: see there.
            write: writes the sealed commit, in place of the store; the seal is then read before the next commit.
        """
        held = self._held.get(commit.run_id)
        if held is None:  # of a record that no kernel executes, such as a schedule's
            await self._commit(commit, _Held(), *audit, write=write)
            return
        async with held.lock:
            held.commits += 1
            await self._commit(commit, held, *audit, write=write)
            if commit.release:
                self._held.pop(commit.run_id, None)

    async def _commit(
        self, commit: Commit, held: _Held, *audit: AuditEntry, write: Callable[[Commit], Awaitable[None]] | None = None
    ) -> None:
        run_id, run = commit.run_id, held.run
        held.run = None  # unless the commit succeeds, it may have been applied
        if run is None or (run.token, run.seq) != (commit.token, commit.expected_seq):
            run = await self._before(commit)
        stored = commit._replace(
            changed=self.wrapped_values(run_id, commit.changed, commit.seq),
            own=self.wrapped_values(run_id, commit.own, commit.seq, own=True),
            error=self._wrapped_error(run_id, commit.error, commit.seq),
            payload=self._wrapped(commit.payload, run_id, PAYLOAD, commit.seq),
            chunks=self.wrapped_chunks(run_id, commit.chunks),
        )
        consumed: set[SignalKey] = set()
        if keys := commit.consumed_keys:  # the store ignores those of signals that do not wait
            consumed = {each.key for each in (await self.inner.signals(run_id)).waiting} & {*keys}
        after = run.after(stored, consumed)
        seal = self.wrapped_seal(after.seal, run_id, commit.seq)
        stored = stored._replace(own={**stored.own, SEAL: seal})
        if write is not None:
            await write(stored)
            return
        await self.inner.commit(stored, *audit)
        run.moved(after)
        held.run = run

    async def rewrite_present(self, commit: Commit) -> None:
        """Apply a commit as `RewritingStore.rewrite` does: no commit that was sealed before is applied afterwards."""
        self._held.pop(commit.run_id, None)
        await self._commit(commit, _Held(), write=lambda stored: cast(RewritingStore, self.inner).rewrite(stored, []))

    async def _before(self, commit: Commit) -> SealedRun:
        """Return the run as it is before `commit`. Raises ConflictError if the commit is stale."""
        record = await self.inner.load(commit.run_id)
        if record is None or (record.token, record.seq) != (commit.token, commit.expected_seq):
            problem = "it does not exist" if record is None else "another process has changed or claimed it"
            raise ConflictError(f"a commit to the run {commit.run_id!r} is stale: {problem}", run_id=commit.run_id)
        run = await self.verified(record)
        if run is not None:
            return run
        history = await self.inner.history(commit.run_id)
        consumed = (await self.inner.signals(commit.run_id)).consumed_keys
        return await off_loop(len(history), lambda: SealedRun.new(record, history, consumed))

    # leases

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """See `StoreBackend.claim`."""
        token = await self.inner.claim(run_id, holder, now, expires)
        if token is not None:
            self._held[run_id] = _Held()
        return token

    async def _claimed(self, claimed: ClaimedRun) -> ClaimedRun:
        """Return a run of `claim_ready` with its values unwrapped."""
        self._held[claimed.run_id] = held = _Held()
        if claimed.record is None:
            return claimed
        try:
            held.run = await self.verified(claimed.record)
            return claimed._replace(record=self._opened(claimed.record, _bound(held.run)))
        except SerializationError:  # who claims the run alone gets the error
            return claimed._replace(record=None)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """See `StoreBackend.renew`."""
        lost = await self.inner.renew(holder, tokens, expires)
        for run_id in lost:
            self._held.pop(run_id, None)
        return lost

    async def release(self, run_id: str, token: int) -> None:
        """See `StoreBackend.release`."""
        self._held.pop(run_id, None)
        await self.inner.release(run_id, token)

    # signals

    async def put_signal(self, run_id: str, signal: Signal, *audit: AuditEntry) -> None:
        """See `AuditingStore.put_signal`."""
        await self.inner.put_signal(run_id, self.wrapped_signal(run_id, signal), *audit)

    def wrapped_signal(self, run_id: str, signal: Signal) -> Signal:
        plain = b"\0" if signal.payload is None else b"\1" + signal.payload
        return signal._replace(payload=self.layer.wrap_in(plain, self._context(run_id, _signal_key(signal))))

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """See `StoreBackend.next_signal`. Raises SerializationError if another program made, changed or repeated it."""
        signal = await self.inner.next_signal(run_id, name, own)
        if signal is None:
            return None
        await self._check_consumed(run_id)
        return self.unwrapped_signal(run_id, signal)

    async def signals(self, run_id: str) -> Signals:
        """See `StoreBackend.signals`. Raises SerializationError if another program made, changed or repeated one."""
        signals = await self._check_consumed(run_id)
        return signals._replace(waiting=[self.unwrapped_signal(run_id, each) for each in signals.waiting])

    async def _check_consumed(self, run_id: str) -> Signals:
        """Return a run's signals, as they are stored. Raises SerializationError if a consumed one waits again."""
        held = self._held.get(run_id)
        run, before = None if held is None else held.run, None
        for _ in range(ATTEMPTS):
            if run is None:
                record = await self.inner.load(run_id)
                run = None if record is None else await self.verified(record)
                if run is None:  # it does not exist yet, or has no seal
                    break
            expected, head = run.seal.consumed, run.seal.head
            signals = await self.inner.signals(run_id)
            if hmac.compare_digest(run.signals(signals.consumed_keys), expected):
                return signals
            if head == before:  # the run did not change meanwhile
                raise _changed(run_id, "its consumed signals are not those that it consumed")
            run, before = None, head
        return await self.inner.signals(run_id)

    def unwrapped_signal(self, run_id: str, signal: Signal) -> Signal:
        """Return a signal as its sender put it."""
        key, payload = _signal_key(signal), signal.payload
        if payload is None:
            if self._mark.old:
                return signal
            raise _changed(run_id, f"its signal {signal.id!r} is not sealed")
        try:
            plain = unwrapped(self.layer, payload, self._context(run_id, key))
        except SerializationError:
            if not self._mark.old:
                raise
            return signal._replace(payload=unwrapped(self.layer, payload, self._context(run_id, key, None, False)))
        return signal._replace(payload=None if plain[:1] == b"\0" else plain[1:])

    def is_bound(self, run_id: str, signal: Signal) -> bool:
        """Return whether a stored signal was sealed when it was sent."""
        try:
            unwrapped(self.layer, signal.payload or b"", self._context(run_id, _signal_key(signal)))
        except SerializationError:
            return False
        return True

    def reencrypted(
        self, holder: str, now: Callable[[], float], actor: str | None = None
    ) -> AsyncIterator[Reencrypted]:
        """Encrypt the values of all runs again. See `cano_durability.inspection.reencrypting`."""
        return reencrypted(self, holder, now, actor)

    async def missing_recipients(self) -> Sequence[str]:
        """See `StoreBackend.missing_recipients`."""
        return await self.inner.missing_recipients()

    # values

    def _context(self, run_id: str, key: str, seq: int | None = None, bound: bool | None = True) -> LayerContext:
        return LayerContext(self._mark.store, run_id, key, seq, bound, self.place.namespace)

    def _wrapped(self, value: Any, run_id: str, key: str, seq: int) -> Any:
        if value is None:
            return None
        try:
            context = self._context(run_id, key, seq)
            return Appended.mapped(value, lambda part: self.layer.wrap_in(part, context))
        except (SerializationError, StoreUnavailableError) as error:
            raise named(error, run_id, key) from error

    def wrapped_values(self, run_id: str, values: Mapping[str, Any], seq: int, *, own: bool = False) -> dict[str, Any]:
        return {key: self._wrapped(value, run_id, _key(key, own=own), seq) or b"" for key, value in values.items()}

    def wrapped_chunks(self, run_id: str, chunks: Sequence[StreamChunk]) -> Sequence[StreamChunk]:
        """Return chunks of streams as the store keeps them: bound to the run, the channel and their offsets."""
        if not chunks:
            return chunks
        try:
            return [
                chunk._replace(value=self.layer.wrap_in(chunk.value, self.place_of(run_id, chunk))) for chunk in chunks
            ]
        except (SerializationError, StoreUnavailableError) as error:
            raise named(error, run_id, f"{PREFIX}channel {chunks[0].channel}") from error

    def place_of(self, run_id: str, chunk: StreamChunk) -> LayerContext:
        """Return the place of a chunk."""
        return self._context(run_id, f"{PREFIX}channel {chunk.first} {chunk.channel}", chunk.last)

    def _wrapped_error(self, run_id: str, error: Mapping[str, Any] | None, seq: int) -> Mapping[str, Any] | None:
        """Return an error as the store keeps it: with its texts encrypted, if the layer asks for that."""
        if error is None or not self._seals_errors:
            return error
        text = self._wrapped(json.dumps(error, default=repr).encode(), run_id, ERROR, seq) or b""
        shown = {name: error.get(name) for name in ("type", "state", "attempt")}
        return {**shown, "message": "(encrypted)", "cause": None, _SEALED: base64.b64encode(text).decode()}

    def _unwrapped_error(self, run_id: str, error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        if error is None or _SEALED not in error:
            return error
        try:
            text = base64.b64decode(str(error[_SEALED]), validate=True)
            found = json.loads(unwrapped(self.layer, text, self._context(run_id, ERROR)))
        except ValueError as problem:
            raise _changed(run_id, f"its error cannot be read: {problem}") from problem
        return found if isinstance(found, dict) else {"message": found}


async def _count(self: Any, filter: RunFilter) -> int:
    """See `AttributeStore.count`. The store's own record does not count."""
    found: int = await self.inner.count(filter._replace(limit=None))
    if filter.workflow in (None, MARK):
        found -= await self.inner.count(filter._replace(workflow=MARK, limit=None))
    return found if filter.limit is None else min(found, filter.limit)


async def _expired(self: Any, *arguments: Any) -> Sequence[RunRecord]:
    """See `PruningStore.expired`."""
    return [self._listed(record) for record in await self.inner.expired(*arguments)]


async def _claim_ready(self: Any, *arguments: Any) -> Sequence[ClaimedRun]:
    """See `ClaimingStore.claim_ready`. A run that is not as its last commit left it has no record."""
    claimed = await self.inner.claim_ready(*arguments)
    try:
        return [await self._claimed(each) for each in claimed]
    except BaseException:  # such as a layer's StoreUnavailableError: the caller does not learn what was claimed
        for each in claimed:
            with suppress(StoreError):
                await self.release(each.run_id, each.token)
        raise


async def _put_within(self: Any, run_id: str, signal: Signal, most: int, *audit: AuditEntry) -> bool:
    """See `LimitingStore.put_signal_within`."""
    stored: bool = await self.inner.put_signal_within(run_id, self.wrapped_signal(run_id, signal), most, *audit)
    return stored


async def _write_stream(self: Any, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
    """See `StreamingStore.write_stream`."""
    await self.inner.write_stream(run_id, token, self.wrapped_chunks(run_id, chunks))


async def _read_stream(self: Any, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
    """See `StreamingStore.read_stream`. Raises SerializationError for what another program wrote or moved."""
    chunks = await self.inner.read_stream(run_id, channel, after, limit)
    return [
        chunk._replace(value=unwrapped(self.layer, chunk.value, self.place_of(run_id, StreamChunk(*chunk))))
        for chunk in chunks
    ]


def _delegated(name: str) -> Callable[..., Any]:
    return lambda self, *arguments: getattr(self.inner, name)(*arguments)


def _scoped(self: Any, namespace: str) -> SealedStore:
    """See `ScopedStore.scoped`."""
    path = f"{self.place.namespace}\0{namespace}" if self.place.namespace else namespace
    return sealed(self.inner.scoped(namespace), self.layer, self.names, path)


async def _begin(self: Any, run_id: str, token: int, seq: int, timeout: float) -> SealedTransaction:
    """See `TransactionalStore.begin`."""
    return SealedTransaction(await self.inner.begin(run_id, token, seq, timeout), self.wrapped_signal, self.commit)


async def _joined(self: Any, connection: Any) -> SealedStore:
    """See `JoiningStore.joined`."""
    made = sealed(await self.inner.joined(connection), self.layer, self.names, self.place.namespace)
    made._mark = self._mark
    return made


OPTIONAL = {
    "expired": _expired, "claim_ready": _claim_ready, "scoped": _scoped, "put_signal_within": _put_within,
    "begin": _begin, "joined": _joined, "count": _count, "write_stream": _write_stream, "read_stream": _read_stream,
} | {
    name: _delegated(name)
    for name in (
        "watch", "watch_streams", "channels", "delete_finished", "add_audit", "audit", "prune_audit", "attribute_names",
        "take_slots", "give_slots", "slots", "queue_sizes", "queued_before",
    )
}  # fmt: skip
"""The methods of stores that not all have. A sealed store has those of the store that it seals."""


def sealed(store: StoreBackend, layer: ContextLayer, names: Sequence[str], namespace: str = "") -> SealedStore:
    """Return a sealed store around `store`."""
    kind = type("SealedStore", (SealedStore,), {name: OPTIONAL[name] for name in OPTIONAL if hasattr(store, name)})
    made: SealedStore = kind(store, layer, names, namespace)
    return made


def unwrapped(layer: ContextLayer, value: bytes, context: LayerContext) -> bytes:
    """Return a value that `layer` wrapped. Errors name run and key."""
    try:
        return layer.unwrap_in(value, context)
    except (SerializationError, StoreUnavailableError) as error:
        raise named(error, context.run_id, context.key) from error


def named(error: SerializationError | StoreUnavailableError, run_id: str, key: str) -> StoreError:
    """Return `error` with run and key in its message and attributes."""
    what = key.removeprefix(PREFIX) if key.startswith(PREFIX) else f"key {key!r}"
    return type(error)(f"run {run_id}, {what}: {error}", key=key, run_id=run_id)


def _bound(run: SealedRun | None) -> bool | None:
    """Return what the values of a verified run must be: see `LayerContext.bound`."""
    return False if run is None else None


def _signal_key(signal: Signal) -> str:
    kind = "own signal" if signal.own else "signal"
    return f"{PREFIX}{kind} {len(signal.name)} {signal.name} {sealed_id(signal.key)}"


def _key(name: str, *, own: bool) -> str:
    """Return what the context of a layer has for a key of the data, or for the name of one of the engine's values."""
    return f"{PREFIX}{name}" if own else name


def _changed(run_id: str, problem: str) -> SerializationError:
    return SerializationError(
        f"run {run_id} is corrupt: {problem}; another program changed it in the store; restore it from a backup, or "
        "delete it",
        run_id=run_id,
    )
