"""Steps in other processes than that of their run: what a task there sees of both."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cano import ConfigurationError, Step
from cano.engine.ports import Detail, enter_step

_REMEDY = "use it in a task, or in a phase of a node, that is executed with the run"


def enter(call: Mapping[str, Any], reporter: Any, flow: Any) -> Detail:
    """Let `current_step()` return the step that made a call, in the process that executes the call. Return its detail.

    Args:
        call: the values of `described`.
        reporter: gets what the step emits, as `cano.engine.ports.Emitter` does; and `report_progress(run)` after each
            report of progress, which is then in `run.detail`.
        flow: what `known_flow` returns.
    """
    known, parent = dict(call), None
    for run_id in reversed(known.pop("parents")):
        parent = _Elsewhere(run_id=run_id, parent=parent)
    detail = Detail(known.pop("error"), known.pop("payload"), known.pop("outcome"), call["attempt"])
    detail.phase = call["phase"]
    run: Any = _Elsewhere(
        **known, parent=parent, emitter=reporter, journal=reporter, detail=detail, caller=None, parent_id=None, held=(),
        plan=_Elsewhere(name=call["workflow"], version=call["version"], flow=flow), kernel=_KERNEL,
    )  # fmt: skip
    enter_step(Step(run, run, call["branch"], call["seq"]), detail)
    return detail


def known_flow(attributes: Mapping[str, type | None]) -> Any:
    """Return what a step elsewhere knows of its workflow: the types of its search attributes."""
    return _Elsewhere(attributes=attributes)


def _refuse(need: str) -> Any:
    where = "the task is executed in another process than its run, which alone can have"
    raise ConfigurationError(f"{where} {need}; {_REMEDY}")


class _Elsewhere:
    """The run, the workflow and the state of a step, as far as another process knows them."""

    def __init__(self, **known: Any) -> None:
        vars(self).update(known)

    @property
    def step(self) -> _Elsewhere:
        """The run's step: of it, only its number is asked for."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise ConfigurationError(
            f"the task is executed in another process, which has no {name!r} of its run; {_REMEDY}"
        )


_KERNEL = _Elsewhere(active={}, required_keeper=_refuse)


def described(step: Step) -> dict[str, Any]:
    """Return what `enter` needs of a step; the deadline is in seconds from now."""
    deadline, parents, run = step.deadline, [], step.run.parent
    while run is not None:
        parents.append(run.run_id)
        run = run.parent
    return {
        "run_id": step.run_id, "workflow": step.workflow, "version": step.version, "state": step.state,
        "task_name": step.task, "branch": step.branch, "seq": step.seq, "attempt": step.attempt, "phase": step.phase,
        "payload": step.payload, "outcome": step.outcome, "error": step.error, "parents": parents,
        "deadline": None if deadline is None else deadline - step.run.kernel.clock.monotonic(),
    }  # fmt: skip
