"""Copying one run from store to store: resumed where it was broken off, and compared in the end."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import NamedTuple

from cano import Clock, Commit, ConflictError, RunRecord, SerializationError, Signal, Transition, is_held

from cano_cli.contents import CHANGING, Contents, Place, differences, obstacle, reshaping, signals_obstacle
from cano_cli.records import holder_of

HOLDER = "cano migrate-store "
"""What the name of every holder of an unfinished copy begins with."""
UNTIL_WHOLE = 10 * 365 * 86_400.0
"""Seconds for which an unfinished copy is held: nobody is to drive it, also when its copying was killed."""
ATTEMPTS = 5


class Kind(Enum):
    """What became of one run."""

    COPIED = "copied"
    UPDATED = "updated"
    UP_TO_DATE = "up to date"
    HELD = "held"
    BUSY = "being copied"
    GONE = "gone"
    REMOVED = "removed"
    DAMAGED = "damaged"
    REFUSED = "refused"
    DIFFERENT = "different"


class Outcome(NamedTuple):
    """What became of one run.

    Attributes:
        run_id: the run.
        kind: what became of it.
        detail: why, where it was not copied.
        transitions: how many lines of its history were written, or would be.
    """

    run_id: str
    kind: Kind
    detail: str = ""
    transitions: int = 0


def is_half(record: RunRecord) -> bool:
    """Whether it is a copy that was begun, and has not been compared yet."""
    return (record.holder or "").startswith(HOLDER)


class Copier:
    """Copies runs, one at a time.

    An unfinished copy is held, so that nobody drives it. Its lease ends in years, and tells by that when its holder
    was last seen at work: one that has been silent for long is taken over.

    Args:
        source, target: the stores.
        clock: tells the time.
        silence: seconds after which whoever holds an unfinished copy is taken for dead.
        dry: whether to find out only what would be done.
    """

    def __init__(self, source: Place, target: Place, clock: Clock, *, silence: float, dry: bool = False) -> None:
        self._source = source
        self._target = target
        self._clock = clock
        self._silence = silence
        self._dry = dry
        # not a name of which a kernel would see that its process is dead: nobody but this command takes half a copy
        self._holder = f"{HOLDER}{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"
        self._renewed = 0.0

    async def copy(self, run_id: str) -> Outcome:
        """Make the target's run what the source's is, unless that cannot be.

        Raises:
            StoreError: one of the stores fails.
        """
        for _ in range(ATTEMPTS):
            try:
                return await self._copy(run_id)
            except (ConflictError, _ChangedError):
                continue  # somebody else was at work here or there: look again
        return Outcome(run_id, Kind.HELD, "it was changed again and again while it was copied")

    async def remove_half(self, run_id: str) -> Outcome:
        """Delete an unfinished copy of a run that the source has no longer: nobody else would ever free it.

        Raises:
            StoreError: one of the stores fails.
        """
        nothing = Outcome(run_id, Kind.GONE)
        try:
            there = await self._target.backend.load(run_id)
            if there is None or not is_half(there) or await self._source.backend.load(run_id) is not None:
                return nothing
        except SerializationError:
            return nothing  # it is damaged here or there, but there it is
        if there.holder != self._holder and self._is_at_work(there):
            return Outcome(run_id, Kind.BUSY, there.holder or "")  # it may be of another source
        if not self._target.backend.capabilities.retention:
            return Outcome(run_id, Kind.REFUSED, "half a copy stays held: its run is gone, and DST keeps everything")
        if not self._dry:
            try:
                await self._take(there, there.token)
            except ConflictError:
                return nothing
            await self._target.backend.delete(run_id)
        return Outcome(run_id, Kind.REMOVED)

    async def _copy(self, run_id: str) -> Outcome:
        try:
            source = await self._read_source(run_id)
        except SerializationError as error:
            return Outcome(run_id, Kind.DAMAGED, str(error))
        if source is None:
            return Outcome(run_id, Kind.GONE)
        if is_held(source.record, self._clock.time()):
            return Outcome(run_id, Kind.HELD, holder_of(source.record, self._clock.time()))
        try:
            there = await self._target.read(run_id)
            signals = await self._target.signals(run_id) if there is None else there.signals
        except SerializationError as error:
            return Outcome(run_id, Kind.REFUSED, f"it is damaged there: {error}")
        if there is None:
            problem, kind = signals_obstacle(source.signals, signals), Kind.COPIED
        else:
            holder, unfinished = there.record.holder or "", is_half(there.record)
            problem = obstacle(source, there, unfinished=unfinished)
            kind = Kind.COPIED if unfinished else Kind.UPDATED
            if problem is None and not unfinished:
                same = not differences(source, there) and there.record.token >= source.record.token
                if same:
                    return Outcome(run_id, Kind.UP_TO_DATE)
                if is_held(there.record, self._clock.time()):
                    problem = f"it is driven there by {holder_of(there.record, self._clock.time())}"
            elif problem is None and holder != self._holder and self._is_at_work(there.record):
                return Outcome(run_id, Kind.BUSY, holder)
        if problem is not None:
            return Outcome(run_id, Kind.REFUSED, problem)
        return await self._make(source, there, kind)

    async def _read_source(self, run_id: str) -> Contents | None:
        for _ in range(ATTEMPTS):
            source = await self._source.read(run_id)
            if source is None or not self._source.history:
                return source
            ends = source.history[-1].seq if source.history else None
            if ends == source.record.seq:
                return source
            again = await self._source.record(run_id)  # it may have moved while it was read
            if again is not None and again.seq == source.record.seq:
                raise SerializationError(f"it is at seq {again.seq}, but its history ends at {ends}")
        raise _ChangedError

    def _is_at_work(self, record: RunRecord) -> bool:
        """Whether whoever holds an unfinished copy has lately said that he lives."""
        seen = (record.expires or 0.0) - UNTIL_WHOLE
        return self._clock.time() - seen < self._silence

    # writing

    async def _make(self, source: Contents, there: Contents | None, kind: Kind) -> Outcome:
        run_id, rest = source.record.run_id, list(source.history)
        if there is not None:
            del rest[: len(there.history)]
        count = max(0, len(rest) - (there is None))  # the first line is the creation
        if self._dry:
            return Outcome(run_id, kind, transitions=count)
        try:  # all of it, before anything is written
            lines = [line._replace(changed=self._target.wrapped(line.changed)) for line in rest]
            signals = [self._wrapped(signal) for signal in source.signals.waiting]
            first = self._first(source.record, lines) if there is None else None
        except SerializationError as error:
            return Outcome(run_id, Kind.REFUSED, f"it cannot be kept there: {error}")
        if first is not None:
            token, seq = await self._create(first), first.seq
            del lines[:1]
        else:
            assert there is not None
            token, seq = await self._take(there.record, source.record.token), there.record.seq
        for line in lines:
            await self._append(run_id, token, seq, line)
            seq = line.seq
        await self._put_signals(source, signals)
        try:
            await self._settle(source, token)
            found = await self._target.read(run_id)
        except SerializationError as error:
            return Outcome(run_id, Kind.DIFFERENT, f"the copy cannot be kept or read: {error}; it stays held")
        if found is None:
            raise ConflictError("the copy was deleted", run_id=run_id)
        await self._check_source(source)
        if different := differences(source, found):
            return Outcome(run_id, Kind.DIFFERENT, f"{different[0]}; the copy stays held")
        await self._target.backend.release(run_id, token)
        return Outcome(run_id, kind, transitions=count)

    def _first(self, record: RunRecord, lines: Sequence[Transition]) -> RunRecord:
        """The run as it is created: as its first line has it, or, without a history, as it is now."""
        if not lines:
            payload = self._target.closed("the payload", record.payload)
            return record._replace(data=self._target.wrapped(record.data), payload=payload)
        line = lines[0]
        return record._replace(
            state=line.state, seq=line.seq, status=line.status, data=line.changed, updated=line.at, error=None,
            wait=None, payload=None,
        )  # fmt: skip

    async def _create(self, first: RunRecord) -> int:
        """Make the copy, held from the beginning; its token."""
        self._renewed = now = self._clock.time()
        held = first._replace(holder=self._holder, expires=now + UNTIL_WHOLE)
        if (await self._target.backend.create(held)).holder != self._holder:
            raise ConflictError("somebody else has made it", run_id=first.run_id)
        return first.token

    async def _take(self, there: RunRecord, least: int) -> int:
        """Have the copy that is there under a lease of ours: its token, which is `least` or more.

        With a smaller one than in the source, what is asked for once for each token might seem to be asked for again.
        """
        backend, token, expires = self._target.backend, there.token, there.expires or 0.0
        mine = there.holder == self._holder
        while not mine or token < least:
            self._renewed = now = self._clock.time()
            late = max(now, expires + 1)  # the lease of an unfinished copy lasts for years
            claimed = await backend.claim(there.run_id, self._holder, late, now + UNTIL_WHOLE)
            if claimed != token + 1:
                if claimed is not None:  # somebody has finished it, and somebody else begun to drive it
                    await backend.release(there.run_id, claimed)
                raise ConflictError("somebody else has taken it", run_id=there.run_id)
            mine, token, expires = True, claimed, now + UNTIL_WHOLE
        return token

    async def _append(self, run_id: str, token: int, seq: int, line: Transition) -> None:
        await self._stay(run_id, token)
        await self._target.backend.commit(
            Commit(
                run_id=run_id, token=token, expected_seq=seq, seq=line.seq, state=line.state, status=line.status,
                changed=line.changed, removed=line.removed, at=line.at,
            )
        )  # fmt: skip

    async def _stay(self, run_id: str, token: int) -> None:
        """Say now and then that this one lives."""
        now = self._clock.time()
        if now - self._renewed >= self._silence / 3:
            self._renewed = now
            await self._target.backend.renew(self._holder, {run_id: token}, now + UNTIL_WHOLE)

    async def _put_signals(self, source: Contents, waiting: Iterable[Signal]) -> None:
        """Put what is missing, in its order. What is to be known as consumed is put, too, and then consumed."""
        run_id, backend = source.record.run_id, self._target.backend
        there = await backend.signals(run_id)
        known = {*there.consumed, *(signal.id for signal in there.waiting)}
        for signal in (*waiting, *(Signal(id, "") for id in source.signals.consumed)):
            if signal.id not in known:
                await backend.put_signal(run_id, signal)

    async def _settle(self, source: Contents, token: int) -> None:
        """Commit what no line of the history has: what was changed between two lines, or after the last one."""
        record, place = source.record, self._target
        there, signals = await place.record(record.run_id), await place.signals(record.run_id)
        if there is None:
            raise ConflictError("the copy was deleted", run_id=record.run_id)
        changed, removed = reshaping(there.data, record.data)
        consumed = [signal.id for signal in signals.waiting if signal.id in set(source.signals.consumed)]
        if not (changed or removed or consumed or any(getattr(record, name) != getattr(there, name)
                                                      for name in CHANGING)):  # fmt: skip
            return
        await self._target.backend.commit(
            Commit(
                run_id=record.run_id, token=token, expected_seq=there.seq, seq=record.seq, state=record.state,
                status=record.status, changed=place.wrapped(changed), removed=removed, error=record.error,
                wait=record.wait, payload=place.closed("the payload", record.payload), consumed=consumed,
                at=record.updated,
            )
        )  # fmt: skip

    async def _check_source(self, source: Contents) -> None:
        """See that the source is still what was copied. Raises _ChangedError."""
        run_id = source.record.run_id
        now, signals = await self._source.backend.load(run_id), await self._source.backend.signals(run_id)
        before = source.record
        if (
            now is None
            or now._replace(data={}, payload=None) != before._replace(data={}, payload=None)
            or [signal.id for signal in signals.waiting] != [signal.id for signal in source.signals.waiting]
            or set(signals.consumed) != set(source.signals.consumed)
        ):
            raise _ChangedError

    def _wrapped(self, signal: Signal) -> Signal:
        payload = self._target.closed(f"the payload of the signal {signal.id!r}", signal.payload)
        return signal._replace(payload=payload)


class _ChangedError(Exception):
    """The source has moved while it was copied."""
