"""The search attributes that a step sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cano.checks import similar
from cano.errors import ConfigurationError


class StepAttributes:
    """Sets search attributes of the run, with the step's commit. See `Step.attributes`."""

    __slots__ = ("_step",)

    def __init__(self, step: Any) -> None:  # a `Step`, whose module imports this one
        self._step = step

    @property
    def given(self) -> Mapping[str, tuple[bool, Any]]:
        """Whether the step has set each attribute, or let it follow its key; and the values. For plugins."""
        given: Mapping[str, tuple[bool, Any]] = self._step._detail_or_default.attributes
        return given

    def __setitem__(self, name: str, value: Any) -> None:
        """Set an attribute, which from now on does not follow the key of its name. With None, the run has no value.

        Raises:
            ConfigurationError: the workflow does not declare it, or the step is a branch of a split.
            TypeMismatchError: the value is not of the declared type.
        """
        kind = self._declared(name)
        if value is not None:
            from cano.search_attributes import checked  # late: few workflows have attributes

            value = checked(name, kind, value, self._step.run_id, self._step.workflow)
        self._give(name, set=True, value=value)

    def __delitem__(self, name: str) -> None:
        """Let an attribute follow the key of its name again. Raises ConfigurationError as setting it does."""
        self._declared(name)
        self._give(name, set=False, value=None)

    def _declared(self, name: str) -> type:
        step = self._step
        declared: dict[str, type] = step.run.plan.flow.attributes
        problem = None
        if name not in declared:
            problem = f"workflow {step.workflow!r} declares no attribute {name!r}{similar(str(name), declared)}"
            problem += "; declare it: Workflow(attributes={…})"
        elif step.branch is not None:
            problem = (
                f"attribute {name!r} was set in branch {step.branch} of a split; set it in the state after the join"
            )
        if problem is not None:
            raise ConfigurationError(problem, run_id=step.run_id, state=step.state, key=name)
        return declared[name]

    def _give(self, name: str, *, set: bool, value: Any) -> None:
        detail = self._step._ensure_detail()
        if self._step.attempt == detail.attempt:  # otherwise an earlier attempt, which was abandoned
            detail.attributes = {**detail.attributes, name: (set, value)}
