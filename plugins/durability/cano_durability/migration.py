"""Finds the state in which a stored run continues under its workflow's present definition."""

from __future__ import annotations

import difflib

from cano import RunRecord, VersionMismatchError, state_name
from cano.engine.ports import BoundWorkflow


def landing_state(plan: BoundWorkflow, record: RunRecord, state: str | None = None) -> str:
    """Return the name, under `plan`, of the state that the run is in (or of `state`, a name that its record holds).

    Raises:
        VersionMismatchError: the definitions differ, and the workflow's `migrate` does not say how to continue.
    """
    state = record.state if state is None else state
    migrate = plan.flow.migrate
    differences = _differences(plan, record)
    if not differences and state in plan.by_name:
        return state  # even if `migrate` names it: that applies to runs of older definitions only
    if migrate is not None:
        if state in migrate:
            return state_name(migrate[state])
        if state in plan.by_name:
            return state
    if state not in plan.by_name:
        differences.append(f"the run is in state {state}, which no longer exists")
    raise VersionMismatchError(
        f"run {record.run_id} was begun under another definition of workflow {plan.name!r}:"
        + "".join(f"\n  - {difference}" for difference in differences)
        + f"\nFinish it with the old program, or define Workflow(migrate={{{state!r}: …}})",
        differences=differences,
        run_id=record.run_id,
        workflow=plan.name,
        state=state,
    )


def _differences(plan: BoundWorkflow, record: RunRecord) -> list[str]:
    found = []
    if record.workflow != plan.name:
        found.append(f"its workflow was named {record.workflow!r}, this one is {plan.name!r}")
    if record.version != plan.version:
        found.append(f"its version was {record.version!r}, this one is {plan.version!r}")
    if record.fingerprint != plan.fingerprint:
        old, new = record.fingerprint.split("; "), plan.fingerprint.split("; ")
        for line in difflib.ndiff(old, new):
            if line.startswith("- "):
                found.append(f"it had: {line[2:]}")
            elif line.startswith("+ "):
                found.append(f"there is now: {line[2:]}")
    return found
