"""A repository in a durable store, which any number of processes share without a leader.

Each schedule is a run record of the reserved workflow `cano.schedule`, parked for a signal that never comes. A commit
changes its state and expects the sequence number that was read. So if several processes decide a nominal time, the
store accepts one commit, and the other processes read its decision. The commits are the history of the schedule.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cano import (
    Codec,
    Commit,
    ConflictError,
    Kernel,
    PermanentStoreError,
    RunExistsError,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    StoreBackend,
    StoreError,
    Wait,
)
from cano.safe_text import escaped

from cano_scheduler._decide import Decision, is_current
from cano_scheduler._lifecycle import adopt, begin
from cano_scheduler._repository import Change
from cano_scheduler._schedule import Schedule
from cano_scheduler._state import State
from cano_scheduler._times import SECOND, datetime_of
from cano_scheduler.tick import Tick

WORKFLOW = "cano.schedule"
_PREFIX = "schedule:"
PAGE = 500
"""The most schedules that a poll looks at."""

ENTRIES = 3
"""The most entries that a tick has in its schedule's history: that it is queued, started, and has ended."""

_log = logging.getLogger("cano.scheduler")
_WAIT = Wait(then="active", signal="cano.schedule")  # always parked, so that no kernel executes the record as a run


class StoredRepository:
    """A repository in a store.

    Args:
        backend: the store.
        kernel: has the codec, which encodes values if the store keeps bytes.
        keep_ticks: the newest ticks of each schedule to keep, if the store can discard others; None for all.
    """

    shared = True

    def __init__(self, backend: StoreBackend, kernel: Kernel, keep_ticks: int | None = None) -> None:
        self._backend = backend
        self._kernel = kernel
        self._keep_ticks = keep_ticks
        self._discard: Any = getattr(backend, "discard_history", None)
        self._codec = kernel.codec if backend.capabilities.encoded else None
        self._cached: dict[str, tuple[RunRecord, State]] = {}
        self._busy: set[str] = set()
        self._created = 0.0
        self._seen: tuple[float, str] | None = None  # the place of the schedule that `refresh` looked at last
        self._keys: dict[str, str] = {}
        self._ids: dict[str, str] = {}  # of schedules by those of their records
        self._empty = False  # whether the store had no schedule, so that none need be looked for
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def prepare(self) -> None:
        """Find out whether the store has any schedule."""
        self._empty = not await self._backend.runs(RunFilter(workflow=WORKFLOW, limit=1))

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Load or create the state of a schedule. If its trigger has changed, it begins at `now`."""
        state = begin(schedule, now)
        # unique: a page of a list costs as much as all runs of its times
        self._created = created = max(now / SECOND, math.nextafter(self._created, math.inf))
        own = key_of(schedule.id, schedule.flow.name)
        new = RunRecord(
            run_id=_PREFIX + schedule.id, workflow=WORKFLOW, version="1", fingerprint=schedule.flow.name,
            state=state.status, status=RunStatus.PARKED, data={"state": self._encode(state.packed())}, wait=_WAIT,
            created=created, updated=created,
        )  # fmt: skip
        for run_id in () if self._empty else (new.run_id, _PREFIX + own):
            record = await self._backend.load(run_id)
            if record is not None and _is_of(record, schedule.flow.name):
                break
        else:
            record = await self._create(schedule, new, own)
        self._name(schedule.id, record.run_id.removeprefix(_PREFIX))
        if record is new:
            state.key = schedule.id
            self._keep(schedule.id, _record_after(record), state)
        elif not is_current(schedule, self._cache(schedule.id, record)):
            await self.update(schedule.id, lambda state: adopt(schedule, state, now))

    async def _create(self, schedule: Schedule, new: RunRecord, own: str) -> RunRecord:
        """Store the record of a schedule, or return the existing one."""
        record = await self._backend.create(new)
        if not _is_of(record, schedule.flow.name):  # another workflow's schedule, or an ordinary run, has the id
            record = await self._backend.create(new._replace(run_id=_PREFIX + own))
            if not _is_of(record, schedule.flow.name):
                raise RunExistsError(
                    f"schedule {schedule.id!r} cannot keep its state: ordinary runs have the ids {new.run_id!r} and "
                    f"{record.run_id!r}; give the schedule another id", run_id=record.run_id, workflow=record.workflow,
                )  # fmt: skip
        return record

    def key(self, id: str) -> str:
        """Return how the ids of a schedule's runs begin: with its id, unless another workflow's schedule has that."""
        return self._keys.get(id, id)

    def state(self, id: str) -> State | None:
        """Return the state as this process last read or wrote it; None if there is none."""
        cached = self._cached.get(id)
        return None if cached is None else cached[1]

    async def resolve(self, schedule: Schedule) -> None:
        """Find out the key of a schedule that this process may only look at."""
        if schedule.id not in self._keys:
            record = await self._backend.load(_PREFIX + schedule.id)
            if record is not None:
                ours = _is_of(record, schedule.flow.name)
                self._name(schedule.id, schedule.id if ours else key_of(schedule.id, schedule.flow.name))

    def _name(self, id: str, key: str) -> None:
        self._keys[id], self._ids[_PREFIX + key] = key, id

    async def load(self, id: str) -> State | None:
        """Return the state in the store; None if there is none."""
        record = await self._backend.load(_PREFIX + self.key(id))
        return None if record is None else self._cache(id, record)

    async def update(self, id: str, change: Change, action: str | None = None) -> Decision | None:
        """Apply `change` to the stored state by compare-and-set, and retry if another process changed it first."""
        async with self._locks[id]:  # avoids conflicts between changes of this process
            while True:
                if id not in self._cached and await self.load(id) is None:
                    return None
                record, state = self._cached[id]
                state = state.copy()
                decision = change(state)
                if decision is None:
                    return None
                try:
                    await self._commit(id, record, state, decision.ticks, None if decision.more else action)
                except ConflictError:
                    self._cached.pop(id, None)
                except BaseException:
                    self._cached.pop(id, None)  # the commit may have been applied
                    raise
                else:
                    return decision

    async def _commit(self, id: str, record: RunRecord, state: State, ticks: list[Tick], action: str | None) -> None:
        changed = {"state": self._encode(state.packed())}
        if ticks:
            changed["ticks"] = self._encode([tick.packed() for tick in ticks])
        commit = Commit(
            run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq + 1,
            state=state.status, status=RunStatus.PARKED, changed=changed, wait=_WAIT,
            at=(ticks[-1].decided_us / SECOND if ticks else record.updated),
        )  # fmt: skip
        audit = () if action is None else self._kernel.audited(record.run_id, action)
        await self._backend.commit(commit, *audit)
        self._keep(id, _record_after(record, commit), state)
        if self._keep_ticks is not None and self._discard is not None:
            most = self._keep_ticks * ENTRIES
            if commit.seq > most and commit.seq % max(most // 10, 1) == 0:
                with suppress(StoreError):  # the next one discards more
                    await self._discard(record.run_id, commit.seq - most)

    def _cache(self, id: str, record: RunRecord) -> State:
        try:
            state = State.unpacked(self._decode(record.data["state"]))
            for at in (state.anchor, state.cursor, state.blocked_until, state.last_run):
                datetime_of(at or 0)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise SerializationError(
                f"the state of schedule {id!r} cannot be read: {error!r}; restore a backup, or delete the run "
                f"{record.run_id!r}, so that the schedule begins again",
                run_id=record.run_id,
            ) from error
        state.key = self.key(id)
        self._keep(id, _record_after(record), state)
        return state

    def _keep(self, id: str, record: RunRecord, state: State) -> None:
        self._cached[id] = record, state
        (self._busy.add if state.active or state.queue else self._busy.discard)(id)

    def busy(self) -> list[str]:
        """Return the ids of the schedules with active or queued runs, as this process knows them."""
        return list(self._busy)

    async def refresh(self) -> list[str]:
        """Reload the states that other processes have changed, and return the ids of their schedules.

        Of more than `PAGE` schedules, each call looks at the next ones, so that a call takes no longer for more.
        """
        changed = []
        most = PAGE if self._backend.capabilities.pages else None
        page = await self._backend.runs(RunFilter(workflow=WORKFLOW, limit=most, after=self._seen))
        self._seen = page[-1].place if len(page) == most else None
        for record in page:
            id = self._ids.get(record.run_id, "")
            cached = self._cached.get(id)
            if cached is not None and (cached[0].seq, cached[0].token) != (record.seq, record.token):
                try:
                    async with self._locks[id]:
                        await self.load(id)
                except PermanentStoreError as error:  # the other schedules continue
                    _log.error("schedule %s: its state cannot be read: %s", escaped(id), escaped(str(error)))
                else:
                    changed.append(id)
        return changed

    async def history(self, id: str) -> list[Tick]:
        """Return all ticks since the schedule was first added, oldest first."""
        ticks: list[Tick] = []
        for entry in await self._backend.history(_PREFIX + self.key(id)):
            if "ticks" in entry.changed:
                ticks += [Tick.unpacked(id, values) for values in self._decode(entry.changed["ticks"])]
        return ticks

    def pack(self, data: Mapping[str, Any] | None, schedule: Schedule) -> Any:
        """Encode the data as one value, so that the state can be read without the classes in the data."""
        if data is None or self._codec is None:
            return None if data is None else dict(data)
        return self._part_codec(schedule).encode(dict(data))

    def unpack(self, packed: Any, schedule: Schedule) -> dict[str, Any]:
        """Return the data from the result of `pack`."""
        if packed is None or self._codec is None:
            return packed or {}
        data: dict[str, Any] = self._part_codec(schedule).decode(packed)
        return data

    def _part_codec(self, schedule: Schedule) -> Codec:
        """Return the codec for data of a schedule's runs without layers, because these wrap the state as a whole."""
        codec: Any = self._kernel.codec_for(self._kernel.bind(schedule.flow))
        plain: Codec = getattr(codec, "plain", codec)
        return plain

    def _encode(self, value: Any) -> Any:
        return value if self._codec is None else self._codec.encode(value)

    def _decode(self, value: Any) -> Any:
        return value if self._codec is None else self._codec.decode(value)


def key_of(id: str, workflow: str) -> str:
    """Return the key of a schedule whose id is in use. No id of a schedule contains an @."""
    return f"{id}@{workflow}"


def _is_of(record: RunRecord, workflow: str) -> bool:
    """Return whether a record is the state of a schedule of that workflow. An earlier version did not keep which."""
    return record.workflow == WORKFLOW and record.fingerprint in (workflow, "")


def _record_after(record: RunRecord, commit: Commit | None = None) -> RunRecord:
    """Return `record` without its data, as it is after `commit`."""
    return RunRecord(
        run_id=record.run_id, workflow=record.workflow, version=record.version, fingerprint=record.fingerprint,
        state=record.state, seq=record.seq if commit is None else commit.seq, status=record.status, token=record.token,
        updated=record.updated if commit is None else commit.at,
    )  # fmt: skip
