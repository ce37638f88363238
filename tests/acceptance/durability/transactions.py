"""Executes runs that pay three times, each killed once, and compares payments with runs: `python transactions.py URL`.

Each process is a fork of this one, since to start Python takes long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

from cano import Commit, Kernel, Workflow, current_step, task
from cano_durability.transacting.step_transaction import StepTransaction

from tests.acceptance.durability.shared import ONLY
from tests.acceptance.durability.test_transactions import Bank

PLACES = ["task", "begun", "first", "second", "left", "returning", "committing", "committed"]
bank = Bank(sys.argv[1])
deadly = ""


def reach(place: str, step: int) -> None:
    """Die if this is the place and the step to die at."""
    if deadly == f"{place} {step}":
        os.kill(os.getpid(), signal.SIGKILL)


def watch_commits() -> None:
    """Let a process die right before and after a commit."""
    honest = StepTransaction.commit

    async def commit(self: StepTransaction, commit: Commit, *audit: Any) -> None:
        reach("committing", commit.seq)
        await honest(self, commit, *audit)
        reach("committed", commit.seq)

    StepTransaction.commit = commit  # type: ignore[method-assign]


async def pay(store: Any) -> str:
    """Pay twice, and note it."""
    step = current_step()
    reach("task", step.seq)
    async with step.transaction() as tx:
        reach("begun", step.seq)
        await bank.pay(tx, f"{step.idempotency_key} a")
        reach("first", step.seq)
        await bank.pay(tx, f"{step.idempotency_key} b")
        reach("second", step.seq)
        store["paid"] = step.seq
    reach("left", step.seq)
    store["left"] = step.seq
    reach("returning", step.seq)
    return "pay" if step.seq < 3 else "end"


flow = Workflow("pay", name="order").add_exit_state("end").register("pay", task(pay))


async def execute(run_id: str) -> None:
    """Execute the run, or continue it."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        await kernel.run(flow, run_id=run_id)


async def compare(runs: dict[str, int]) -> None:
    """Check that each run has made its number of steps, and that the payments are those of these steps."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        for run_id, steps in runs.items():
            view = await kernel.get(run_id)
            assert view.seq == steps, (run_id, view)
            assert dict(view.data) == ({"paid": steps, "left": steps} if steps else {}), (run_id, view)
            assert [entry.seq for entry in await kernel.history(run_id)] == list(range(steps + 1))
    made = [f"{run_id}:{seq}" for run_id, steps in runs.items() for seq in range(1, steps + 1)]
    wanted = [f"{key} {each}" for key in made for each in "ab"]
    paid = [what for what in bank.paid if what.partition(":")[0] in runs]
    assert paid == sorted(wanted), (paid, wanted)


def fork(run_id: str) -> int:
    """Execute the run in a process of its own, and return its exit code."""
    if (pid := os.fork()) == 0:
        try:
            asyncio.run(execute(run_id))
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    """Kill a run at each place of each step, and continue it."""
    global deadly
    watch_commits()
    made: dict[str, int] = {}
    for place in PLACES:
        for step in range(1, 4):
            deadly = f"{place} {step}"
            run_id = deadly.replace(" ", "-")
            assert fork(run_id) == -signal.SIGKILL, deadly
            asyncio.run(compare({run_id: step if place == "committed" else step - 1}))
            deadly = ""
            assert fork(run_id) == 0
            made[run_id] = 3
    asyncio.run(compare(made))
    assert len(bank.paid) == len(made) * 6
    print(f"{len(made)} runs, killed {len(made)} times, all right")


if __name__ == "__main__":
    main()
