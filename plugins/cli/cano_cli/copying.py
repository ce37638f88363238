"""Copying one run from store to store. An interrupted copy is resumed; a complete copy is compared with its source."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, cast

from cano import (
    AuditingStore,
    Clock,
    Commit,
    ConflictError,
    Lane,
    RunRecord,
    SerializationError,
    Signal,
    Signals,
    StreamingStore,
    Transition,
    is_held,
)

from cano_cli.contents import (
    CHANGING,
    Contents,
    LayeredStore,
    appended_key,
    conflict_in,
    data_changes,
    differences,
    reserved_key,
    shared_history,
    signal_conflict,
)
from cano_cli.copied_attributes import Reader, no_attributes
from cano_cli.copied_audit import Importer
from cano_cli.records import holder_of

HOLDER = "cano migrate-store "
"""Prefix of the holder's name of every incomplete copy."""
IMPORTED = "cano imported"
"""The holder of a run that `cano import` has made, and that no process executes before it is resumed."""
COPY_LEASE = 10 * 365 * 86_400.0
"""Seconds of the lease on an incomplete copy, so that no worker executes it even if the copying process was killed."""
ATTEMPTS = 5
CHUNKS = 64
"""Chunks of streams that are copied together."""


class Kind(Enum):
    """The result of copying one run."""

    COPIED = "copied"
    UPDATED = "updated"
    UP_TO_DATE = "up to date"
    HELD = "held"
    BUSY = "being copied"
    GONE = "gone"
    REMOVED = "removed"
    CORRUPT = "corrupt"
    REFUSED = "refused"
    DIFFERENT = "different"


class Outcome(NamedTuple):
    """The result of copying one run, with its details.

    Attributes:
        run_id: the run.
        kind: the result.
        detail: why the run was not copied.
        transitions: the number of history entries written; in a dry run, of those to write.
        cut: whether only the present state was copied, since the source has discarded the oldest history entries.
    """

    run_id: str
    kind: Kind
    detail: str = ""
    transitions: int = 0
    cut: bool = False


def is_incomplete(record: RunRecord) -> bool:
    """Return whether the run is an incomplete copy."""
    return (record.holder or "").startswith(HOLDER)


class Copier:
    """A copier of runs, one at a time.

    It holds an incomplete copy under a lease of years, so that no worker executes it. The lease's expiry shows when
    the holder last renewed it. After `dead_after` seconds without a renewal, another copier takes over.

    Args:
        source, target: the stores.
        clock: the time source.
        dead_after: seconds of inactivity after which another copier counts as dead.
        importer: makes the entries for the target's audit.
        attributes: reads the search attributes of a run from the engine's own values.
        dry: whether only to report what would be done.
    """

    def __init__(
        self,
        source: LayeredStore,
        target: LayeredStore,
        clock: Clock,
        *,
        dead_after: float,
        importer: Importer,
        attributes: Reader = no_attributes,
        dry: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._dead_after = dead_after
        self._importer = importer
        self._attributes = attributes
        self._dry = dry
        # not a kernel's holder name: a kernel would notice the dead process and claim the incomplete copy
        self._holder = f"{HOLDER}{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._renewed = 0.0

    async def copy(self, run_id: str) -> Outcome:
        """Make the run in the target equal to the run in the source, or report why that is not possible.

        Raises:
            StoreError: one of the stores failed.
        """
        for _ in range(ATTEMPTS):
            try:
                return await self._copy(run_id)
            except (ConflictError, _ChangedError):
                continue  # another process changed the run in one of the stores: retry
        return Outcome(run_id, Kind.HELD, f"it was changed during each of {ATTEMPTS} attempts to copy it")

    async def remove_incomplete(self, run_id: str) -> Outcome:
        """Delete an incomplete copy whose run the source no longer has. Otherwise it would stay leased.

        Raises:
            StoreError: one of the stores failed.
        """
        gone = Outcome(run_id, Kind.GONE)
        try:
            copy = await self._target.backend.load(run_id)
            if copy is None or not is_incomplete(copy) or await self._source.backend.load(run_id) is not None:
                return gone
        except SerializationError:
            return gone  # the run or the copy is corrupt, so neither is missing
        if copy.holder != self._holder and self._is_active(copy):
            return Outcome(run_id, Kind.BUSY, copy.holder or "")  # it may come from a different source
        if not self._target.backend.capabilities.retention:
            return Outcome(
                run_id, Kind.REFUSED, "SRC no longer has this run, but DST cannot delete its incomplete copy"
            )
        if not self._dry:
            try:
                await self._claim(copy, copy.token)
            except ConflictError:
                return gone
            audit = self._importer.entry(run_id, self._clock.time(), "delete")
            await self._target.backend.delete(run_id, *audit)
        return Outcome(run_id, Kind.REMOVED)

    async def _copy(self, run_id: str) -> Outcome:
        try:
            source = await self._read_source(run_id)
        except SerializationError as error:
            return Outcome(run_id, Kind.CORRUPT, str(error))
        if source is None:
            return Outcome(run_id, Kind.GONE)
        if (key := appended_key(source)) is not None and not self._target.backend.capabilities.appends:
            why = f"SRC keeps the list of its key {key!r} in parts, and DST cannot; name a store with `appends`"
            return Outcome(run_id, Kind.REFUSED, why)
        if await self._has_streams(run_id) and not self._target.backend.capabilities.streams:
            return Outcome(run_id, Kind.REFUSED, "its steps have emitted items, and DST keeps no streams")
        if source.record.lane not in (None, Lane()) and not self._target.backend.capabilities.queues:
            return Outcome(run_id, Kind.REFUSED, f"it is in the queue {source.record.queue!r}, and DST has no `queues`")
        if (key := reserved_key(source)) is not None:
            why = f"its data has the key {key!r}, which begins with NUL: an earlier version or another program wrote it"
            return Outcome(run_id, Kind.REFUSED, why)
        if is_held(source.record, self._clock.time()) and source.record.holder != IMPORTED:
            return Outcome(run_id, Kind.HELD, holder_of(source.record, self._clock.time()))
        try:
            copy = await self._target.read(run_id)
            signals = await self._target.signals(run_id) if copy is None else copy.signals
        except SerializationError as error:
            return Outcome(run_id, Kind.REFUSED, f"it is corrupt in DST: {error}")
        if copy is None:
            problem, kind = signal_conflict(source.signals, signals), Kind.COPIED
        else:
            holder, unfinished = copy.record.holder or "", is_incomplete(copy.record)
            problem = conflict_in(source, copy, unfinished=unfinished)
            kind = Kind.COPIED if unfinished else Kind.UPDATED
            if problem is None and not unfinished:
                same = not differences(source, copy) and copy.record.token >= source.record.token
                if same:
                    return Outcome(run_id, Kind.UP_TO_DATE)
                if is_held(copy.record, self._clock.time()):
                    problem = f"it is held in DST by {holder_of(copy.record, self._clock.time())}"
            elif problem is None and holder != self._holder and self._is_active(copy.record):
                return Outcome(run_id, Kind.BUSY, holder)
        if problem is not None:
            return Outcome(run_id, Kind.REFUSED, problem)
        return await self._write(source, copy, kind)

    async def _read_source(self, run_id: str) -> Contents | None:
        for _ in range(ATTEMPTS):
            source = await self._source.read(run_id)
            if source is None or not self._source.history:
                return source
            last = source.history[-1].seq if source.history else None
            if last == source.record.seq:
                return source
            record = await self._source.record(run_id)  # a commit may have come between the two reads
            if record is not None and record.seq == source.record.seq:
                raise SerializationError(f"it is at seq {record.seq}, but its history ends at seq {last}")
        raise _ChangedError

    def _is_active(self, record: RunRecord) -> bool:
        """Return whether the holder of an incomplete copy renewed its lease within the last `dead_after` seconds."""
        renewed = (record.expires or 0.0) - COPY_LEASE
        return self._clock.time() - renewed < self._dead_after

    # writing

    async def _write(self, source: Contents, copy: Contents | None, kind: Kind) -> Outcome:
        run_id, rest = source.record.run_id, list[Transition]()
        if copy is not None:
            history, its_history = shared_history(source, copy)
            rest += history[len(its_history) :]
        elif not source.cut:  # without the first entries, the data at the others is not known
            rest += source.history
        cut = copy is None and source.cut
        count = max(0, len(rest) - (copy is None))  # the first entry is the creation
        if self._dry:
            return Outcome(run_id, kind, transitions=count, cut=cut)
        try:  # wrap everything before the first write
            wrap = self._target.wrap_values
            entries = [entry._replace(changed=wrap(entry.changed), own=wrap(entry.own)) for entry in rest]
            signals = [self._wrapped(signal) for signal in source.signals.waiting]
            given = [self._attributes(entry.own) for entry in rest]
            first = self._first(source.record, entries) if copy is None else None
            if first is not None:
                first = first._replace(attributes=(given[0] if given else self._attributes(source.record.own)) or {})
        except SerializationError as error:
            return Outcome(run_id, Kind.REFUSED, f"DST's layers refuse it: {error}")
        if first is not None:
            token, seq = await self._create(first), first.seq
            del entries[:1], given[:1]
        else:
            assert copy is not None
            token, seq = await self._claim(copy.record, source.record.token), copy.record.seq
            if kind is Kind.UPDATED and (audit := self._importer.entry(run_id, self._clock.time())):
                await cast(AuditingStore, self._target.backend).add_audit(audit)
        for entry, attributes in zip(entries, given, strict=True):
            await self._append(run_id, token, seq, entry, attributes)
            seq = entry.seq
        await self._put_signals(source, signals)
        try:
            await self._copy_streams(run_id, token)
            await self._commit_rest(source, token)
            found = await self._target.read(run_id)
        except SerializationError as error:
            return Outcome(run_id, Kind.DIFFERENT, f"the copy cannot be written or read: {error}; it stays leased")
        if found is None:
            raise ConflictError("the copy was deleted", run_id=run_id)
        await self._check_source(source)
        if different := differences(source, found):
            return Outcome(run_id, Kind.DIFFERENT, f"the copy differs: {different[0]}; it stays leased")
        if source.record.holder == IMPORTED:  # no worker of the target is to execute it, either
            expires = self._renewed + COPY_LEASE
            await self._target.backend.claim(run_id, IMPORTED, expires + 1, expires + COPY_LEASE)
        else:
            await self._target.backend.release(run_id, token)
        return Outcome(run_id, kind, transitions=count, cut=cut)

    def _first(self, record: RunRecord, entries: Sequence[Transition]) -> RunRecord:
        """Return the run as it is created: as in its first history entry, or as it is now if no history is copied."""
        if not entries:
            payload = self._target.wrap_value("the payload", record.payload)
            wrap = self._target.wrap_values
            return record._replace(data=wrap(record.data), payload=payload, own=wrap(record.own))
        entry = entries[0]
        return record._replace(
            state=entry.state, seq=entry.seq, status=entry.status, data=entry.changed, own=entry.own, updated=entry.at,
            error=None, wait=None, payload=None,
        )  # fmt: skip

    async def _create(self, first: RunRecord) -> int:
        """Create the copy under a lease and return its fencing token."""
        self._renewed = now = self._clock.time()
        lane = first.lane if self._target.backend.capabilities.queues else None
        held = first._replace(holder=self._holder, expires=now + COPY_LEASE, lane=lane)
        audit = self._importer.entry(first.run_id, now)
        if (await self._target.backend.create(held, *audit)).holder != self._holder:
            raise ConflictError("another process created the copy", run_id=first.run_id)
        return first.token

    async def _claim(self, copy: RunRecord, least: int) -> int:
        """Claim the existing copy and return its fencing token, which is at least `least`.

        A token below the source's could repeat the id of a consumed cancellation signal, which contains the token.
        """
        backend, token, expires = self._target.backend, copy.token, copy.expires or 0.0
        mine = copy.holder == self._holder
        while not mine or token < least:
            self._renewed = now = self._clock.time()
            after = max(now, expires + 1)  # to the store, the years of an incomplete copy's lease have passed
            claimed = await backend.claim(copy.run_id, self._holder, after, now + COPY_LEASE)
            if claimed != token + 1:
                if claimed is not None:  # another process completed the copy, and a worker has executed it since
                    await backend.release(copy.run_id, claimed)
                raise ConflictError("another process claimed the copy", run_id=copy.run_id)
            mine, token, expires = True, claimed, now + COPY_LEASE
        return token

    async def _append(
        self, run_id: str, token: int, seq: int, entry: Transition, attributes: Mapping[str, bytes] | None
    ) -> None:
        await self._renew(run_id, token)
        await self._target.backend.commit(
            Commit(
                run_id=run_id, token=token, expected_seq=seq, seq=entry.seq, state=entry.state, status=entry.status,
                changed=entry.changed, removed=entry.removed, own=entry.own, own_removed=entry.own_removed,
                attributes=attributes, at=entry.at,
            )
        )  # fmt: skip

    async def _renew(self, run_id: str, token: int) -> None:
        """Renew the lease if a third of `dead_after` has passed since the last renewal."""
        now = self._clock.time()
        if now - self._renewed >= self._dead_after / 3:
            self._renewed = now
            await self._target.backend.renew(self._holder, {run_id: token}, now + COPY_LEASE)

    async def _put_signals(self, source: Contents, waiting: Iterable[Signal]) -> None:
        """Put the missing signals in order, including those that `_commit_rest` will consume."""
        run_id, backend = source.record.run_id, self._target.backend
        present = await backend.signals(run_id)
        known = {*present.consumed_keys, *(signal.key for signal in present.waiting)}
        for signal in (*waiting, *(Signal(id, "", own=own, to=to) for own, to, id in source.signals.consumed_keys)):
            if signal.key not in known:
                await backend.put_signal(run_id, signal)

    async def _commit_rest(self, source: Contents, token: int) -> None:
        """Commit the changes that no history entry contains: those between entries or after the last one."""
        record, target = source.record, self._target
        copy, signals = await target.record(record.run_id), await target.signals(record.run_id)
        if copy is None:
            raise ConflictError("the copy was deleted", run_id=record.run_id)
        changed, removed = data_changes(copy.data, record.data)
        own, own_removed = data_changes(copy.own, record.own)
        gone = {*source.signals.consumed_keys}
        consumed = [signal.key for signal in signals.waiting if signal.key in gone]
        _, ids, own_ids, answered = Signals.of((), consumed)
        same = all(getattr(record, name) == getattr(copy, name) for name in CHANGING)
        if same and not (changed or removed or own or own_removed or consumed):
            return
        await self._target.backend.commit(
            Commit(
                run_id=record.run_id, token=token, expected_seq=copy.seq, seq=record.seq, state=record.state,
                status=record.status, changed=target.wrap_values(changed), removed=removed, error=record.error,
                wait=record.wait, payload=target.wrap_value("the payload", record.payload),
                consumed=ids, answered=answered,
                own=target.wrap_values(own), own_removed=own_removed,
                own_consumed=own_ids, attributes=self._attributes(own),
                at=record.updated,
            )
        )  # fmt: skip

    async def _has_streams(self, run_id: str) -> bool:
        """Return whether the source has items that the run's steps have emitted."""
        backend = self._source.backend
        return backend.capabilities.streams and bool(await cast(StreamingStore, backend).channels(run_id))

    async def _copy_streams(self, run_id: str, token: int) -> None:
        """Copy the chunks of the run's streams that the copy does not have. Raises SerializationError."""
        source, target = self._source.backend, self._target.backend
        if not (source.capabilities.streams and target.capabilities.streams):
            return
        read, write = cast(StreamingStore, source), cast(StreamingStore, target)
        for channel in await read.channels(run_id):
            last = 0
            while chunks := await read.read_stream(run_id, channel, last, CHUNKS):
                await self._renew(run_id, token)
                label, last = f"the channel {channel!r}", chunks[-1].last
                plain = [chunk._replace(value=self._source.unwrap_value(label, chunk.value)) for chunk in chunks]
                await write.write_stream(
                    run_id, token, [each._replace(value=self._target.wrap_value(label, each.value)) for each in plain]
                )

    async def _check_source(self, source: Contents) -> None:
        """Check that the run in the source is unchanged. Raises _ChangedError."""
        run_id = source.record.run_id
        now, signals = await self._source.backend.load(run_id), await self._source.backend.signals(run_id)
        before = source.record
        if (
            now is None
            or now._replace(data={}, own={}, payload=None) != before._replace(data={}, own={}, payload=None)
            or [each.key for each in signals.waiting] != [each.key for each in source.signals.waiting]
            or {*signals.consumed_keys} != {*source.signals.consumed_keys}
        ):
            raise _ChangedError

    def _wrapped(self, signal: Signal) -> Signal:
        payload = self._target.wrap_value(f"the payload of the signal {signal.id!r}", signal.payload)
        return signal._replace(payload=payload)


class _ChangedError(Exception):
    """The run in the source changed while it was copied."""
