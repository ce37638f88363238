"""Runs of other versions of a workflow, beside whose workers this kernel executes those that it can."""

from __future__ import annotations

from collections.abc import Collection

from cano import RunRecord, VersionMismatchError, is_queued
from cano.engine.ports import BoundWorkflow

from cano_durability.migration import landing_state, states_of


class OtherVersions:
    """Decisions of one kernel about runs of other definitions than its own, made once for each of these.

    A run that may have migrated is asked for once, and then again only after it has changed.
    """

    def __init__(self) -> None:
        self._covered: dict[tuple[str, ...], bool] = {}
        self._mismatches: dict[tuple[str, ...], VersionMismatchError | None] = {}
        self._refused: dict[str, tuple[int, int]] = {}

    def covers(self, plan: BoundWorkflow, record: RunRecord) -> bool:
        """Return whether runs of the record's definition continue under `plan`, in whatever state they are."""
        definition = record.version, record.fingerprint
        if definition == (plan.version, plan.fingerprint):
            return True
        key = (plan.name, plan.version, plan.fingerprint, *definition)
        if key not in self._covered:
            states = states_of(record.fingerprint)
            self._covered[key] = not any(self.mismatch(plan, record._replace(state=state)) for state in states)
        return self._covered[key]

    def mismatch(self, plan: BoundWorkflow, record: RunRecord) -> VersionMismatchError | None:
        """Return the error if runs of the record's definition, in its state, do not continue under `plan`."""
        key = (plan.name, plan.version, plan.fingerprint, record.version, record.fingerprint, record.state)
        if key not in self._mismatches:
            self._mismatches[key] = None
            try:
                landing_state(plan, record)
            except VersionMismatchError as error:
                self._mismatches[key] = error
        return self._mismatches[key]

    def refusal(self, plan: BoundWorkflow, record: RunRecord) -> VersionMismatchError | None:
        """Return the error with which a run that has not begun is left to workers of its own version; otherwise None.

        Its record has all that decides, since it cannot have migrated.
        """
        return self.mismatch(plan, record) if is_queued(record) else None

    def refuse(self, record: RunRecord) -> None:
        """Note that a run cannot continue here, by the definition that it has migrated to."""
        self._refused[record.run_id] = record.seq, record.token

    def is_refused(self, record: RunRecord) -> bool:
        """Return whether a run has not changed since it was refused."""
        return self._refused.get(record.run_id) == (record.seq, record.token)

    def keep(self, ready: Collection[str]) -> None:
        """Drop the refused runs that are not among these."""
        self._refused = {run_id: place for run_id, place in self._refused.items() if run_id in ready}
