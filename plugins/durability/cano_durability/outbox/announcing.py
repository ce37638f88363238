"""Stores notices of runs, as runs that send them, before the commits that they are about."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cano import LateRun, RunRecord, RunStatus, SerializationError, Wait
from cano.engine.ports import Announcer, BoundWorkflow, Host, Notice
from cano.safe_text import escaped, safe_str

from cano_durability.keys import NOTICES
from cano_durability.outbox.known import read_notices
from cano_durability.stored_runs import StoredRuns

KEPT = 16
"""The number of a run's last notices whose ids its record keeps."""
_log = logging.getLogger("cano")


class Outbox:
    """Makes the runs that send notices, for one kernel.

    The run of a notice is stored before the commit that the notice is about, and that commit stores the notice's id
    with the run. So a crash between the two loses no notice, and `is_committed` tells a notice whose commit was never
    made. A run that sends has no holder at first: any kernel that recovers its workflow executes it.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, refill: Callable[[], None]) -> None:
        self._kernel = kernel
        self._stored = stored
        self._refill = refill  # takes over what is ready
        self._announcers: list[tuple[Announcer, BoundWorkflow]] = []

    def add(self, announcer: Announcer) -> None:
        """See `RunKeeper.announce`."""
        plan = self._kernel.bind(announcer.flow)
        self._stored.register(plan)
        self._announcers.append((announcer, plan))
        self._stored.announce = self.announce

    async def announce(
        self,
        kind: str,
        record: RunRecord,
        known: Sequence[str],
        *,
        error: Mapping[str, Any] | None = None,
        wait: Wait | None = None,
        late: LateRun | None = None,
    ) -> dict[str, Any]:
        """Store the notices of a commit that is about to be made. Return the value that the commit is to store.

        A store that fails here does not keep the run from its end: that is logged.

        Args:
            kind: "failed", "parked" or "late".
            record: the run as the commit leaves it.
            known: the ids of the run's notices so far.
            error, wait, late: see `Notice`.
        """
        notice = Notice(
            _id_of(kind, record, late), kind, record.run_id, record.workflow, record.state, record.seq,
            self._stored.now(), record.created, record.token, error, wait, late,
        )  # fmt: skip
        announced = False
        for announcer, plan in self._announcers:
            try:
                made = announcer.message(notice) if kind in announcer.kinds else None
                if made is not None:
                    await self._store(plan, *made)
                    announced = True
            except Exception as problem:  # noqa: BLE001  # a notice must not change the run
                texts = map(escaped, (kind, record.run_id, safe_str(problem)))
                _log.warning("the notice %r of run %s could not be stored: %s", *texts)
        if not announced:
            return {}
        return {NOTICES: [*(each for each in known if each != notice.id), notice.id][-KEPT:]}

    async def _store(self, plan: BoundWorkflow, run_id: str, data: dict[str, Any]) -> None:
        view = self._stored.register(plan).view(data)
        record = await self._stored.new_record(plan, view, run_id, None, None)
        await self._stored.create(record._replace(holder=None, expires=None, token=0))

    def committed(self) -> None:
        """Send the notices of a commit that was made."""
        if not self._kernel.closed:
            self._refill()

    async def is_committed(self, id: str, run_id: str, created: float, token: int) -> bool | None:
        """See `RunKeeper.is_committed`."""
        record = await self._stored.backend.load(run_id)
        if record is None or record.created != created:
            return True  # it was deleted since, and nothing tells any more
        try:
            known = read_notices(self._stored.values, record)
        except SerializationError:
            return True
        if id in known:
            return True
        if record.token == token and (record.holder is not None or record.status is RunStatus.RUNNING):
            return None
        return len(known) >= KEPT


def _id_of(kind: str, record: RunRecord, late: LateRun | None) -> str:
    """Return the id of a notice: the same for the same event, whichever process finds it."""
    from hashlib import blake2b  # late: importing it takes 1 ms

    parts = [record.run_id, record.created.hex(), kind]
    if kind == "failed":
        parts += [str(record.seq), str(record.token)]  # a run that is resumed can fail in the same place again
    elif late is None or late.step:
        parts.append(str(record.seq))
    return blake2b("\0".join(parts).encode(errors="surrogatepass"), digest_size=16).hexdigest()
