"""A process that executes a run with webhooks, and is killed between what it stores and what it sends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from cano import Commit, Expect, Kernel, RunStatus, TaskConfig, Workflow, wait_for
from cano_webhooks import Webhooks, webhooks
from cano_webhooks.sending import Answer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def flow_of(kind: str) -> Workflow[str]:
    """A workflow whose run fails, waits or is late."""
    late = Expect(within=0.05) if kind == "late" else None
    flow = Workflow("PAY", name="order", default_config=TaskConfig.minimal(), expect=late)

    async def pay(store: Any) -> str:
        if kind == "failed":
            raise LookupError("no such card")
        if kind == "parked":
            return wait_for("paid", then="DONE")
        await asyncio.Event().wait()
        return "DONE"

    return flow.register("PAY", pay).add_exit_state("DONE")


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def dying_before(commit: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Return a commit that kills this process in place of the commit that the message is about."""

    async def dying(change: Commit, *audit: Any) -> None:
        about = {"failed": change.status is RunStatus.FAILED, "parked": change.status is RunStatus.PARKED}
        if change.run_id == "o-1" and about.get(kind, "late" in change.own):
            kill()
        await commit(change, *audit)

    return dying


async def dying_post(*args: Any) -> Answer:
    """Die in place of a request."""
    kill()
    raise AssertionError


async def main(url: str, receiver: str, kind: str, when: str) -> None:
    """Execute the run until this process dies."""
    async with Kernel(store=url, plugins=[Webhooks(receiver, secret=SECRET)]) as kernel:
        backend: Any = kernel.backend
        if when == "before":
            backend.commit = dying_before(backend.commit, kind)
        else:
            setattr(webhooks, "post", dying_post)  # noqa: B010  # a type checker would refuse it
        await kernel.start(flow_of(kind), {}, run_id="o-1")
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
