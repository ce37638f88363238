"""The reason why a run is not progressing, with the commands that help."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cano import Explanation, Kernel, RunRecord, RunStatus, Standstill

from cano_cli.hints import MODULE_FLOW
from cano_cli.stores import backend_of, record_of


class Reason(NamedTuple):
    """The reason why a run is not progressing. Its text names commands where that of the explanation names methods."""

    explanation: Explanation
    text: str


async def reason_of(kernel: Kernel, run: str, command: Callable[..., str], flows: tuple[str, ...] = ()) -> Reason:
    """Explain why a run is not progressing.

    Args:
        kernel: the kernel on its store.
        run: the run's id.
        command: returns the line of another command, see `cano_cli.hints.command`.
        flows: the workflows that the user named.

    Raises:
        RunNotFoundError: there is no such run.
    """
    found, target = await kernel.explain(run), flows[0] if len(flows) == 1 else MODULE_FLOW
    take_over = f"to continue it: {command('resume', target, run)}"
    if found.reason in (Standstill.INTERRUPTED, Standstill.READY) and (await record_of(kernel, run)).parent is not None:
        take_over = f"to continue it, and its parent: {command('recover', target)}"
    if found.reason is Standstill.QUEUED:
        texts = "it waits for a worker", f"to begin it: {command('worker', target)}"
    elif found.reason is Standstill.INTERRUPTED:
        texts = "no process executes it", take_over
    elif found.reason is Standstill.READY:
        texts = "its wait is over", take_over
    elif found.reason is Standstill.FAILED:
        texts = "it failed", f"to retry from that state: {command('resume', target, run)}"
    elif found.reason is Standstill.CHILD_CANCELLED:
        fork = command("fork", run, str((await record_of(kernel, run)).seq), "NEW")
        again = f"to try that step again in a fork: {fork}; then: {command('resume', target, 'NEW')}"
        texts = "its child was cancelled, so that resuming it fails again", again
    elif found.reason is Standstill.CHILD_FAILED:
        first: RunRecord | None = await record_of(kernel, run)
        while first is not None and first.status is RunStatus.FAILED and first.parent is not None:
            first = await backend_of(kernel).load(first.parent)
        if first is None or first.status is not RunStatus.FAILED:
            return Reason(found, str(found))
        texts = found.reason.value, f"to resume both: {command('resume', MODULE_FLOW, first.run_id)}"
    else:
        return Reason(found, str(found))
    return Reason(found, f"{texts[0]}: {found.detail}; {texts[1]}")
