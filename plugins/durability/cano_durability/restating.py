"""Commits that change the values of a run beside its place: its state, wait, payload and error stay as they are."""

from __future__ import annotations

import math

from cano import Commit, RunRecord, RunStatus


def restated(record: RunRecord, token: int, at: float) -> Commit:
    """Return a commit that leaves a run as `record` says, to be completed with the changes. It makes no transition."""
    return Commit(
        run_id=record.run_id, token=token, expected_seq=record.seq, seq=record.seq, state=record.state,
        status=record.status, error=record.error, wait=record.wait, payload=record.payload, at=at,
    )  # fmt: skip


def put_back(record: RunRecord) -> Commit:
    """Return a commit that releases a run that was just claimed. One that had not begun is queued or delayed again."""
    queues = record.status is RunStatus.RUNNING or (record.lane is not None and not record.status.finished)
    at = math.nextafter(record.created, -math.inf) if queues and is_unbegun(record) else record.updated
    return restated(record, record.token, at)._replace(release=True)


def is_unbegun(record: RunRecord) -> bool:
    """Return whether a run that was just claimed has never begun. See `RunRecord.updated`."""
    return record.seq == 0 and (record.token == 1 or record.updated < record.created)
