"""`SubWorkflow`: a task that executes another workflow as a child run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cano.data.store import ReadKey, check_key, unpack_key
from cano.engine.step import current_step
from cano.errors import ConfigurationError
from cano.model.task import StateT_co, Task
from cano.model.workflow import Workflow


class SubWorkflow(Task[StateT_co]):
    """A task that executes a workflow as a child run, with its own id, store and steps.

    If the parent is cancelled, or the asyncio task that executes this, so is the child. If the child fails, the step
    fails with the child's error as its cause. If the child is cancelled by itself, the step fails, too, without a
    retry: no attempt resumes the child.

    If the child is parked in a durable store, so is a parent whose state has this as its whole task. A subclass with a
    `run` of its own, a branch, and a task that calls `run` wait in memory.

    The child's id is made from the step's idempotency key. From the second child of one workflow in one step on it also
    has a number, in the order in which they start: start them in the same order in every attempt.

    Args:
        flow: the child's workflow.
        inputs: the child's initial data: the child's key by the parent's key.
        outputs: the data to copy back after the child's end: the parent's key by the child's key.
        then: the parent's next state; or a mapping from the child's exit states to next states.
        config: retries and timeouts of the step. A retry resumes the child from its last commit; in memory, it executes
            the whole child again.

    Raises:
        ConfigurationError: an argument is of the wrong kind, or `then` lacks an exit state of the child.
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
                f"then= of the sub-workflow {flow.name!r} lacks the exit states {', '.join(map(str, missing))}"
            )

    async def run(self, store: Any) -> StateT_co:
        """Execute the child to its end, and return the next state.

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
        if not isinstance(key, str | ReadKey):
            raise ConfigurationError(f"{name} must map keys to keys; {key!r} is not a key")
        check_key(unpack_key(key, None)[0])
    return {unpack_key(source, None)[0]: unpack_key(target, None)[0] for source, target in given.items()}


def _read(store: Any, key: str) -> Any:
    if hasattr(store, "__getitem__"):
        try:
            return store[key]
        except KeyError as error:
            if not hasattr(error, "key"):
                message = f"the sub-workflow ended without its output key {key!r}"
                raise ConfigurationError(message, key=key) from None
            raise
    return getattr(store, key)


def _write(store: Any, key: str, value: Any) -> None:
    if hasattr(store, "__setitem__"):
        store[key] = value
    else:
        setattr(store, key, value)
