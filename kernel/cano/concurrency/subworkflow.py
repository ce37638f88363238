"""A workflow as a task of another workflow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cano.data.store import AnyKey, Key
from cano.engine.step import current_step
from cano.errors import ConfigurationError
from cano.model.task import StateT_co, Task
from cano.model.workflow import Workflow


class SubWorkflow(Task[StateT_co]):
    """Runs a workflow as a child run, with an id, a store and steps of its own.

    The child ends with its parent: it is cancelled with it, and its failure is the step's failure, with the
    child's error as the cause. Its id follows from the step's idempotency key.

    Args:
        flow: the child's workflow.
        inputs: the child's first data: parent's key to child's key.
        outputs: what comes back when it has ended: child's key to parent's key.
        then: the state that follows in the parent; or a mapping from the child's exit states to such states.
        config: retries and limits of the step: a retry runs the whole child again.

    Raises:
        ConfigurationError: an argument is of the wrong kind, or an exit state of the child is not mapped.
    """

    plugin = "concurrency"

    def __init__(
        self,
        flow: Workflow[Any],
        inputs: Mapping[Any, Any] | None = None,
        outputs: Mapping[Any, Any] | None = None,
        *,
        then: StateT_co | Mapping[Any, Any],
        config: Any = None,
    ) -> None:
        super().__init__(config)
        if not isinstance(flow, Workflow):
            raise ConfigurationError(f"flow must be a Workflow, not {flow!r}")
        self.flow = flow
        self.inputs = _keys("inputs", inputs or {})
        self.outputs = _keys("outputs", outputs or {})
        self.then = then
        self.targets = tuple(then.values()) if isinstance(then, Mapping) else (then,)  # type: ignore[misc]  # its own
        if isinstance(then, Mapping) and (missing := [state for state in flow.exit_states if state not in then]):
            raise ConfigurationError(
                f"then= of the sub-workflow {flow.name!r} does not say what follows {', '.join(map(str, missing))}"
            )

    async def run(self, store: Any) -> StateT_co:
        """Run the child to its end, and return the state that follows.

        Raises:
            WorkflowError: the child failed.
            KeyNotFoundError: an input or output key is missing.
        """
        step = current_step()
        data = {child: _read(store, parent) for parent, child in self.inputs.items()}
        result = await step.run.kernel.run_child(self.flow, data, step)
        for child, parent in self.outputs.items():
            _write(store, parent, _read(result.data, child))
        following: StateT_co = self.then[result.state] if isinstance(self.then, Mapping) else self.then
        return following

    @property
    def name(self) -> str:
        """The child workflow's name."""
        return f"workflow {self.flow.name}"


def _keys(name: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{name} must map keys to keys, not {given!r}")
    for key in (*given, *given.values()):
        if not isinstance(key, str | Key):
            raise ConfigurationError(f"{name} must map keys to keys; {key!r} is none")
    return {str(source): str(target) for source, target in given.items()}


def _read(store: Any, key: AnyKey) -> Any:
    if hasattr(store, "__getitem__"):
        try:
            return store[key]
        except KeyError as error:
            if not hasattr(error, "key"):
                raise ConfigurationError(f"the sub-workflow ended without its output key {key!r}") from None
            raise
    return getattr(store, str(key))


def _write(store: Any, key: str, value: Any) -> None:
    if hasattr(store, "__setitem__"):
        store[key] = value
    else:
        setattr(store, key, value)
