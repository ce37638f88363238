"""An action from outside and its line in the audit: both survive SIGKILL, or neither does."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys

import pytest
from cano import AuditEntry, Kernel, RunFilter, RunStatus, StoreBackend
from cano_durability.keys import CANCEL

from tests.acceptance.durability import acting


async def begin(kernel: Kernel) -> None:
    """Park the runs."""
    for run_id in ("target", *(f"run {number}" for number in range(acting.RUNS))):
        handle = await kernel.start(acting.flow, {}, run_id=run_id)
        await handle._run.ended()


async def effects(store: StoreBackend, kind: str, *, first: int = 0, count: int = acting.RUNS) -> set[str]:
    """Return the actions of a kind whose effect is in the store; of cancellations, those of these runs."""
    if kind == "signal":
        return {f"signal {each.id}" for each in (await store.signals("target")).waiting}
    runs = await store.runs(RunFilter())
    if kind == "fork":
        return {run.run_id for run in runs if run.run_id.startswith("fork ")}
    cancelled = {run.run_id for run in runs if run.status is RunStatus.CANCELLED}
    for run_id in (f"run {number}" for number in range(first, first + count)):
        if any(each.name == CANCEL for each in (await store.signals(run_id)).waiting):
            cancelled.add(run_id)
    return {f"cancel {run_id.split()[-1]}" for run_id in cancelled}


async def killed_at(url: str, store: StoreBackend, kind: str, first: int) -> set[str]:
    """Let a process act, and kill it as soon as the effect of an action can be seen. Return what it printed.

    If an effect and its line were two transactions, the process would be killed between them.
    """
    command = [sys.executable, acting.__file__, url, str(first)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    before = await effects(store, kind, first=first, count=1)
    while await effects(store, kind, first=first, count=1) == before:
        pass
    process.send_signal(signal.SIGKILL)
    said = (await process.stdout.read()).splitlines(keepends=True)
    assert await process.wait() == -signal.SIGKILL
    return {line.decode().strip() for line in said if line.endswith(b"\n")}


def line(entry: AuditEntry) -> str:
    """Return an entry as the process prints its action."""
    text = entry.detail if entry.action == "signal" else entry.run_id or ""
    return f"{entry.action} {text.split()[-1]}"


@pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)
async def test_both_or_neither(url: str) -> None:
    """A process that signals, forks and cancels many runs at once is killed; the store has each line's action."""
    said = set[str]()
    async with Kernel(store=url) as kernel:
        store = kernel.backend
        assert store is not None
        await begin(kernel)
        for number, kind in enumerate(("signal", "fork", "cancel")):
            said |= await killed_at(url, store, kind, number * 20)
        done = set[str]().union(*[await effects(store, kind) for kind in ("signal", "fork", "cancel")])
        noted = [line(entry) for entry in await kernel.audit()]

    assert said <= done
    assert sorted(noted) == sorted(done)
    assert {each.split()[0] for each in done} == {"signal", "fork", "cancel"}
