"""States of schedules in a durable store, shared by any number of processes without a leader.

Each schedule is a run record of the reserved workflow `cano.schedule`, parked for a signal that never comes. A state
is changed by a commit that expects the sequence number it was read at: of all the processes that decide a nominal
time, one has its commit accepted; the others read what it decided. The commits are the schedule's history.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from cano import Codec, Commit, ConflictError, RunFilter, RunRecord, RunStatus, StoreBackend, Wait

from cano_scheduler._decide import Decision
from cano_scheduler._ledger import Change
from cano_scheduler._schedule import Schedule
from cano_scheduler._standing import adopt, begin
from cano_scheduler._state import State
from cano_scheduler._times import SECOND
from cano_scheduler.tick import Tick

WORKFLOW = "cano.schedule"
_PREFIX = "schedule:"
_WAIT = Wait(then="active", signal="cano.schedule")  # parked for ever: nothing is to take such a record for a run


class StoredLedger:
    """States in a store.

    Args:
        backend: the store.
        codec: how values become bytes, where the store keeps bytes.
    """

    shared = True

    def __init__(self, backend: StoreBackend, codec: Codec | None) -> None:
        self._backend = backend
        self._codec = codec if backend.capabilities.encoded else None
        # what becomes a part of the state is not compressed or encrypted by itself: the state is, as a whole
        self._part = getattr(self._codec, "plain", self._codec)
        self._seen: dict[str, tuple[RunRecord, State]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def attach(self, schedule: Schedule, now: int) -> None:
        """Find or make the state of a schedule; one whose trigger has changed begins anew."""
        state = begin(schedule, now)
        record = RunRecord(
            run_id=_PREFIX + schedule.id, workflow=WORKFLOW, version="1", fingerprint="", state=state.standing,
            status=RunStatus.PARKED, data={"state": self._encode(state.packed())}, wait=_WAIT,
            created=now / SECOND, updated=now / SECOND,
        )  # fmt: skip
        self._note(schedule.id, await self._backend.create(record))
        await self.update(schedule.id, lambda state: adopt(schedule, state, now))

    def state(self, id: str) -> State | None:
        """The state as last seen here."""
        seen = self._seen.get(id)
        return None if seen is None else seen[1]

    async def look(self, id: str) -> State | None:
        """The state as it is in the store."""
        record = await self._backend.load(_PREFIX + id)
        return None if record is None else self._note(id, record)

    async def update(self, id: str, change: Change) -> Decision | None:
        """Apply `change` to what the store has, by compare-and-set."""
        async with self._locks[id]:  # two changes of one process need not get into each other's way
            while True:
                if id not in self._seen and await self.look(id) is None:
                    return None
                record, state = self._seen[id]
                state = state.copy()
                decision = change(state)
                if decision is None:
                    return None
                try:
                    await self._commit(id, record, state, decision.ticks)
                except ConflictError:
                    self._seen.pop(id, None)
                except BaseException:
                    self._seen.pop(id, None)  # whether it was done is not known
                    raise
                else:
                    return decision

    async def _commit(self, id: str, record: RunRecord, state: State, ticks: list[Tick]) -> None:
        changed = {"state": self._encode(state.packed())}
        if ticks:
            changed["ticks"] = self._encode([tick.packed() for tick in ticks])
        commit = Commit(
            run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq + 1,
            state=state.standing, status=RunStatus.PARKED, changed=changed, wait=_WAIT,
            at=(ticks[-1].decided_us / SECOND if ticks else record.updated),
        )  # fmt: skip
        await self._backend.commit(commit)
        self._seen[id] = (_moved(record, commit), state)

    def _note(self, id: str, record: RunRecord) -> State:
        state = State.unpacked(self._decode(record.data["state"]))
        self._seen[id] = (_moved(record), state)
        return state

    async def refresh(self) -> list[str]:
        """Read what has changed in the store since it was seen here."""
        changed = []
        for record in await self._backend.runs(RunFilter(workflow=WORKFLOW)):
            id = record.run_id.removeprefix(_PREFIX)
            seen = self._seen.get(id)
            if seen is not None and (seen[0].seq, seen[0].token) != (record.seq, record.token):
                async with self._locks[id]:
                    await self.look(id)
                changed.append(id)
        return changed

    async def history(self, id: str) -> list[Tick]:
        """What became of the schedule's times since it was first added, oldest first."""
        ticks: list[Tick] = []
        for line in await self._backend.history(_PREFIX + id):
            if "ticks" in line.changed:
                ticks += [Tick.unpacked(id, values) for values in self._decode(line.changed["ticks"])]
        return ticks

    def pack(self, data: Mapping[str, Any] | None) -> Any:
        """The data as one encoded value, so that a state can be read without knowing the classes in them."""
        if data is None or self._part is None:
            return None if data is None else dict(data)
        return self._part.encode(dict(data))

    def unpack(self, packed: Any) -> dict[str, Any]:
        """The data that `pack` was given."""
        data: dict[str, Any] = packed if packed is None or self._part is None else self._part.decode(packed)
        return {} if data is None else data

    def _encode(self, value: Any) -> Any:
        return value if self._codec is None else self._codec.encode(value)

    def _decode(self, value: Any) -> Any:
        return value if self._codec is None else self._codec.decode(value)


def _moved(record: RunRecord, commit: Commit | None = None) -> RunRecord:
    """`record` without its data, as `commit` leaves it."""
    return RunRecord(
        run_id=record.run_id, workflow=record.workflow, version=record.version, fingerprint=record.fingerprint,
        state=record.state, seq=record.seq if commit is None else commit.seq, status=record.status, token=record.token,
        updated=record.updated if commit is None else commit.at,
    )  # fmt: skip
