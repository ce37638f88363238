"""Finds the state in which a stored run continues under its workflow's present definition."""

from __future__ import annotations

from typing import Any

from cano import RunRecord, VersionMismatchError, Workflow, state_name
from cano.engine.ports import BoundWorkflow
from cano.safe_text import escaped


def landing_state(plan: BoundWorkflow, record: RunRecord, state: str | None = None) -> str:
    """Return the name, under `plan`, of the state that the run is in (or of `state`, a name that its record holds).

    Raises:
        VersionMismatchError: the definitions differ, and the workflow's `migrate` does not say how to continue.
    """
    state = record.state if state is None else state
    flow = plan.flow
    differences = _differences(plan, record)
    if not differences and state in plan.by_name:
        return state  # even if `migrate` names it: that applies to runs of older definitions only
    uncovered = None if flow.migrate is None else _uncovered(flow, record, plan.fingerprint)
    if flow.migrate is not None and not uncovered:
        if state in flow.migrate:
            return state_name(flow.migrate[state])
        if state in plan.by_name:
            return state
    if state not in plan.by_name:
        differences.append(f"the run is in state {state}, which no longer exists")
    old, versions = flow.migrate or {}, [*(flow.migrate_from or ()), record.version]
    shown = ", ".join(f"{name!r}: …" for name in (old if state in old or state in plan.by_name else (*old, state)))
    accepts = f"migrate_from={versions!r}"
    sure = record.version != plan.version or uncovered
    raise VersionMismatchError(
        f"run {escaped(record.run_id)} was begun under another definition of workflow {plan.name!r}:"
        + "".join(f"\n  - {escaped(difference)}" for difference in differences)
        + (f"\nThe workflow's migrate= is refused, since it does not cover {', '.join(uncovered)}" if uncovered else "")
        + f"\nFinish it with the old program, or define Workflow(migrate={{{shown}}}"
        + (f", {accepts})" if sure else f"); if that is refused, add {accepts}")
        + ", which accepts all differences; or give this workflow another name, if the run belongs to another workflow",
        differences=differences,
        run_id=record.run_id,
        workflow=plan.name,
        state=state,
    )


def _uncovered(flow: Workflow[Any], record: RunRecord, fingerprint: str) -> list[str]:
    """Return what keeps `migrate` from being meant for the run's definition; [] if it is.

    It is by the run's version, if `migrate_from` is given; otherwise if it names all differences, which are removed and
    renamed states, and transitions to them.
    """
    version = [f"its version {record.version!r}"]
    if flow.migrate_from is not None:
        return [] if record.version in flow.migrate_from else version
    uncovered = [] if record.version == flow.version else version
    gone, come = set(flow.migrate or ()), set(map(state_name, (flow.migrate or {}).values()))
    old, new = (dict(map(_parts, text.split("; "))) for text in (record.fingerprint, fingerprint))
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name), new.get(name)
        if before is None or after is None:
            same = name in (come if before is None else gone)
        elif name == START:
            same = before == after or before[1] <= gone
        else:
            same = before[0] == after[0] and before[1] - gone - come == after[1] - gone - come
        if not same:
            how = "new" if before is None else "removed" if after is None else "changed"
            uncovered.append(f"the {how} " + ("start" if name == START else f"state {name}"))
    return uncovered


START = "\0start"  # no state has this name


def states_of(fingerprint: str) -> list[str]:
    """Return the names of the states with tasks that a definition has."""
    return [_parts(line)[0] for line in fingerprint.split("; ") if line.startswith("state ")]


def _parts(line: str) -> tuple[str, tuple[str, frozenset[str]]]:
    """Return the name of the state that a line of a fingerprint is about, the rest of the line, and the targets."""
    kind, _, rest = line.partition(" ")
    if kind == "start":
        return START, ("", frozenset((rest,)))
    name, _, task = rest.partition(" does ")
    what, _, targets = task.partition(" -> ")
    return name, (f"{kind} {what}", frozenset(filter(None, targets.split(", "))))


def _differences(plan: BoundWorkflow, record: RunRecord) -> list[str]:
    found = []
    if record.workflow != plan.name:
        found.append(f"its workflow was named {record.workflow!r}, this one is {plan.name!r}")
    if record.version != plan.version:
        found.append(f"its version was {record.version!r}, this one is {plan.version!r}")
    if record.fingerprint != plan.fingerprint:
        from difflib import ndiff  # late: rarely needed

        old, new = record.fingerprint.split("; "), plan.fingerprint.split("; ")
        titles = {"- ": "it had", "+ ": "there is now"}
        found += [f"{titles[line[:2]]}: {line[2:]}" for line in ndiff(old, new) if line[:2] in titles]
    return found
