"""Kills processes at each statement of a transaction, and checks what is committed: `transactions.py URL step|user`.

With `step`, it is the transaction of a step; with `user`, one of a user's connection, in which a run is submitted and a
signal sent. Each process is a fork of this one, since to start Python takes long.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[3]))

import cano_sqlite.transactions
import psycopg
from cano import Commit, Kernel, RunStatus, Workflow, current_step, task, wait_for
from cano_durability.transacting.step_transaction import StepTransaction

from tests.acceptance.durability.connections import file_of, server_of
from tests.acceptance.durability.shared import ONLY
from tests.acceptance.durability.test_transactions import Bank

bank = Bank(sys.argv[1])
deadly = 0
reached = 0
armed = False


def reach(*_: object) -> None:
    """Die if this is the place to die at: a statement that is about to be executed, or a moment between two."""
    global reached
    reached += armed
    if armed and reached == deadly:
        os.kill(os.getpid(), signal.SIGKILL)


def arm(how: bool) -> None:
    """Count places from now on, or no more."""
    global armed
    armed = how


def watch_statements() -> None:
    """Let a process reach a place before each statement of both drivers, and before and after a step's commit."""
    for kind, name in ((psycopg.AsyncCursor, "execute"), (psycopg.Cursor, "execute"), (psycopg.Connection, "commit")):
        setattr(kind, name, watched(getattr(kind, name)))
    module: Any = cano_sqlite.transactions
    connect = module.connect_for_writing

    def connect_and_watch(*about: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*about)
        connection.set_trace_callback(reach)
        return connection

    module.connect_for_writing = connect_and_watch
    honest = StepTransaction.commit

    async def commit(self: StepTransaction, commit: Commit, *audit: Any) -> None:
        reach()
        await honest(self, commit, *audit)
        reach()
        arm(False)

    StepTransaction.commit = commit  # type: ignore[method-assign]


def watched(honest: Callable[..., Any]) -> Callable[..., Any]:
    """The same method, after a place."""

    def method(*about: Any, **options: Any) -> Any:
        reach()
        return honest(*about, **options)

    return method


# steps


async def pay(store: Any) -> str:
    """Pay twice, and note it. Only the second step reaches places."""
    step = current_step()
    arm(step.seq == 2)
    reach()
    async with step.transaction() as tx:
        await bank.pay(tx, f"{step.idempotency_key} a")
        await bank.pay(tx, f"{step.idempotency_key} b")
        store["paid"] = step.seq
    reach()
    store["left"] = step.seq
    return "pay" if step.seq < 3 else "end"


paying = Workflow("pay", name="order").add_exit_state("end").register("pay", task(pay))


async def execute(run_id: str) -> None:
    """Execute the run, or continue it."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        await kernel.run(paying, run_id=run_id)


async def compare_steps(run_ids: list[str]) -> None:
    """Check that the payments of each run are those of its steps, and its data and history, too."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        for run_id in run_ids:
            view = await kernel.get(run_id)
            assert view.seq in (1, 2, 3), view
            assert dict(view.data) == {"paid": view.seq, "left": view.seq}, view
            assert [entry.seq for entry in await kernel.history(run_id)] == list(range(view.seq + 1))
            wanted = [f"{run_id}:{seq} {each}" for seq in range(1, view.seq + 1) for each in "ab"]
            paid = [what for what in bank.paid if what.partition(":")[0] == run_id]
            assert paid == wanted, (paid, wanted)


async def end_steps(run_ids: list[str]) -> None:
    """Continue all runs, and check that each has paid in each step, once."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        for run_id in run_ids:
            assert (await kernel.run(paying, run_id=run_id)).steps == 3
    await compare_steps(run_ids)


# users


async def send(store: Any) -> str:
    """A step."""
    return "end"


async def wait(store: Any) -> Any:
    """Wait for a signal."""
    return wait_for("never", then="end")


shipment = Workflow("send", name="shipment").add_exit_state("end").register("send", task(send))
waiting = Workflow("wait", name="waiting").add_exit_state("end").register("wait", task(wait))


async def order(run_id: str) -> None:
    """Pay, submit a run and send a signal in one transaction of a user's."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        await kernel.submit(waiting, run_id="w")
        connection: Any
        if bank.url.startswith("sqlite:"):
            connection = sqlite3.connect(file_of(bank.url))
            connection.set_trace_callback(reach)
        else:
            connection = psycopg.connect(server_of(bank.url))
        arm(True)
        connection.execute(f"INSERT INTO payments VALUES ('{run_id}')")
        await kernel.submit(shipment, {"n": 1}, run_id=run_id, connection=connection)
        await kernel.signal("w", "go", id=run_id, connection=connection)
        connection.commit()
        reach()
        arm(False)


async def compare_orders(run_ids: list[str]) -> None:
    """Check that there are the same payments, runs and signals."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        backend: Any = kernel.backend
        runs = sorted(run.run_id for run in await kernel.runs(workflow="shipment"))
        signals = sorted(each.id for each in (await backend.signals("w")).waiting)
        assert runs == signals == bank.paid, (runs, signals, bank.paid)
        assert {*runs} <= {*run_ids}


async def end_orders(run_ids: list[str]) -> None:
    """Execute the runs that were submitted."""
    async with Kernel(store=bank.url, **ONLY) as kernel:
        for handle in await kernel.recover(shipment):
            await handle.result()
        assert {run.status for run in await kernel.runs(workflow="shipment")} == {RunStatus.SUCCEEDED}
    assert len(bank.paid) == 2  # one was killed after the commit, and one was not


def fork(work: Coroutine[Any, Any, None]) -> int:
    """Do the work in a process of its own, and return its exit code."""
    if (pid := os.fork()) == 0:
        try:
            asyncio.run(work)
            os._exit(0)
        finally:
            os._exit(1)
    work.close()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(what: str) -> None:
    """Kill a process at the first place, then one at the second, and so on, until one does not reach its place."""
    global deadly
    watch_statements()
    work, compare, end = {
        "step": (execute, compare_steps, end_steps),
        "user": (order, compare_orders, end_orders),
    }[what]
    killed: list[str] = []
    while True:
        deadly += 1
        run_id = f"r{deadly}"
        code = fork(work(run_id))
        asyncio.run(compare([*killed, run_id] if what == "user" else [run_id]))
        if code == 0:
            break
        assert code == -signal.SIGKILL, code
        killed.append(run_id)
    deadly = 0
    asyncio.run(end([*killed, run_id]))
    print(f"killed {len(killed)} times")


if __name__ == "__main__":
    main(sys.argv[2])
