"""Batches: several runs for each tick, as a workflow whose only step is a `ConcurrentWorkflow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cano import (
    ConcurrentWorkflow,
    Failed,
    Kernel,
    KeyValueStore,
    RunResult,
    Task,
    TaskConfig,
    TaskError,
    WaitStrategy,
    Workflow,
    isolate,
)

from cano_scheduler._run_end import RunEnd, describe
from cano_scheduler.nominal import inherit_nominal_time

OUTCOME = "batch"
"""The key of a batch's outcome in its data."""


def batch_of(
    id: str, flow: Workflow[Any], instances: Sequence[Mapping[str, Any]], wait: WaitStrategy, kernel: Kernel
) -> Workflow[str]:
    """Create a workflow that runs `flow` concurrently, once for each of `instances`.

    Each run gets the data of the batch and of its instance. The batch itself never fails: its outcome, under the key
    "batch", contains the number of failed runs.
    """
    batch: Workflow[str] = Workflow("run", name=f"{flow.name}.batch:{id}").add_exit_state("done")
    return batch.register("run", _Batch(flow, instances, wait, kernel), config=TaskConfig.minimal())


class _Batch(Task[str]):
    """The only task of a batch. Its attribute `flow` tells the kernel which types the data may consist of."""

    def __init__(
        self, flow: Workflow[Any], instances: Sequence[Mapping[str, Any]], wait: WaitStrategy, kernel: Kernel
    ) -> None:
        super().__init__()
        self.flow = flow
        self._instances = instances
        self._wait = wait
        self._kernel = kernel

    @property
    def name(self) -> str:
        """The task's name, which is a part of the definition of stored runs."""
        return "run"

    async def run(self, store: KeyValueStore) -> Literal["done"]:
        """Run the batch, and store its outcome."""
        inherit_nominal_time()
        shared = {key: store[key] for key in store.keys()}  # noqa: SIM118  # a store is not a mapping
        stores = [{key: isolate(value) for key, value in {**shared, **own}.items()} for own in self._instances]
        batch = ConcurrentWorkflow(self.flow, kernel=self._kernel)
        results, status = await batch.execute_concurrent(stores, self._wait)
        errors = [result.error for result in results if isinstance(result, Failed)]
        store[OUTCOME] = {
            "total": status.total_workflows,
            "completed": status.completed,
            "failed": status.failed,
            "cancelled": status.cancelled,
            "ended_by": status.ended_by,
            "errors": [describe(error) for error in errors[:10]],
        }
        return "done"


def batch_end(result: RunResult) -> RunEnd:
    """Return the end of a batch. It counts as failed if one of its runs failed, unless the batch met its quota."""
    outcome = result.data[OUTCOME]
    failures = outcome["failed"]
    if not failures:
        return RunEnd()
    error = TaskError(outcome["errors"][0], run_id=result.run_id)
    return RunEnd(outcome["ended_by"] != "quota", False, failures, error)
