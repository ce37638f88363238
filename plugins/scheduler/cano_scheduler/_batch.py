"""Several runs per tick: a workflow whose only step is a `ConcurrentWorkflow`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from cano import (
    ConcurrentWorkflow,
    Failed,
    Kernel,
    KeyValueStore,
    RunResult,
    TaskConfig,
    TaskError,
    WaitStrategy,
    Workflow,
    isolate,
)

from cano_scheduler._settle import Ending, describe
from cano_scheduler.nominal import keep_nominal_time

OUTCOME = "batch"
"""The key of a batch's data under which its outcome is."""


def batch_of(
    id: str, flow: Workflow[Any], instances: Sequence[Mapping[str, Any]], wait: WaitStrategy, kernel: Kernel
) -> Workflow[str]:
    """A workflow that runs `flow` once for each of `instances`, all at once.

    Each run gets the batch's data, and those of its instance. The batch itself does not fail: its outcome, under the
    key "batch", says how many runs did.
    """
    batch: Workflow[str] = Workflow("run", name=f"{flow.name}.batch:{id}").add_exit_state("done")

    async def run(store: KeyValueStore) -> Literal["done"]:
        keep_nominal_time()
        shared = {key: store[key] for key in store.keys()}  # noqa: SIM118  # a store is no mapping
        stores = [{key: isolate(value) for key, value in {**shared, **own}.items()} for own in instances]
        results, status = await ConcurrentWorkflow(flow, kernel=kernel).execute_concurrent(stores, wait)
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

    batch.register("run", run, config=TaskConfig.minimal())
    return batch


def ending_of(result: RunResult) -> Ending:
    """How a batch ended: it failed if a run of it did, unless it met its quota all the same."""
    outcome = result.data[OUTCOME]
    failures = outcome["failed"]
    if not failures:
        return Ending()
    error = TaskError(outcome["errors"][0], run_id=result.run_id)
    return Ending(outcome["ended_by"] != "quota", False, failures, error)
