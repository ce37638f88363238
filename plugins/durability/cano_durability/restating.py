"""Commits that change the values of a run beside its place: its state, wait, payload and error stay as they are."""

from __future__ import annotations

from cano import Commit, RunRecord


def restated(record: RunRecord, token: int, at: float) -> Commit:
    """Return a commit that leaves a run as `record` says, to be completed with the changes. It makes no transition."""
    return Commit(
        run_id=record.run_id, token=token, expected_seq=record.seq, seq=record.seq, state=record.state,
        status=record.status, error=record.error, wait=record.wait, payload=record.payload, at=at,
    )  # fmt: skip
