"""Expenses that a person must approve, which may take days. Meanwhile no process runs: the store keeps the run.

    python examples/approval.py request trip-7 --cents 50000     asks for approval and ends
    python examples/approval.py status trip-7                    prints the status, the reason and the history
    python examples/approval.py approve trip-7 --by Ada          approves and pays; `reject` rejects
    python examples/approval.py work                             sends due reminders; run it daily

Each command is its own process and can be killed at any time. To resume, repeat the command or run `work`. An undecided
request gets a reminder after three and after six days, and expires after nine.
"""

import argparse
import asyncio
import sys
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Literal

from cano import CanoError, Kernel, Key, KeyValueStore, Standstill, Workflow, current_step, wait_for


class State(Enum):
    ASK = auto()
    REMIND = auto()
    DECIDE = auto()
    PAY = auto()
    DONE = auto()
    REJECTED = auto()
    EXPIRED = auto()


CENTS = Key("cents", int)
DAYS = Key("days", float)
REMINDERS = Key("reminders", int)
DECIDED_BY = Key("decided by", str)
PAYMENTS = Key("payments", str)

AUTO_APPROVED = 10_000
MAX_REMINDERS = 2

flow = Workflow(State.ASK, name="expense")
flow.add_exit_states([State.DONE, State.REJECTED, State.EXPIRED])


@flow.on(State.ASK)
async def ask(store: KeyValueStore) -> Literal[State.PAY, State.DECIDE, State.REMIND]:
    store[REMINDERS] = 0
    if store.get(CENTS, default=0) <= AUTO_APPROVED:
        return State.PAY
    say(f"may {current_step().run_id} cost {euros(store[CENTS])}?")
    return decision(store)


@flow.on(State.REMIND)
async def remind(store: KeyValueStore) -> Literal[State.DECIDE, State.REMIND, State.EXPIRED]:
    if store[REMINDERS] == MAX_REMINDERS:
        say(f"{current_step().run_id} has expired")
        return State.EXPIRED
    store[REMINDERS] += 1
    say(f"reminder {store[REMINDERS]}: may {current_step().run_id} cost {euros(store[CENTS])}?")
    return decision(store)


def decision(store: KeyValueStore) -> Literal[State.DECIDE, State.REMIND]:
    return wait_for(
        "decision",
        then=State.DECIDE,
        timeout=timedelta(days=store.get(DAYS, default=3.0)),
        on_timeout=State.REMIND,
    )


@flow.on(State.DECIDE)
async def decide(store: KeyValueStore) -> Literal[State.PAY, State.REJECTED]:
    approved, store[DECIDED_BY] = current_step().payload
    return State.PAY if approved else State.REJECTED


@flow.on(State.PAY)
def pay(store: KeyValueStore) -> Literal[State.DONE]:
    if store.get(CENTS, default=0):
        say(f"paying {euros(store[CENTS])} for {current_step().run_id}")
        transfer(Path(store[PAYMENTS]), current_step().idempotency_key, store[CENTS])
    return State.DONE


def transfer(bank: Path, key: str, cents: int) -> None:
    """Transfer money as a bank would: ignore a key that was used before."""
    known = [line.split()[0] for line in bank.read_text().splitlines()] if bank.exists() else []
    if key not in known:
        with bank.open("a") as ledger:
            ledger.write(f"{key} {cents}\n")


def euros(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02} euros"


def say(text: str) -> None:
    print(text, flush=True)


# the commands


async def request(kernel: Kernel, given: argparse.Namespace) -> None:
    data = {CENTS: given.cents, DAYS: given.days, PAYMENTS: str(given.payments.absolute())}
    await kernel.start(flow, data, run_id=given.id)  # closing the kernel lets the run continue until it waits
    while (await kernel.explain(given.id)).reason in (Standstill.RUNNING_ELSEWHERE, Standstill.INTERRUPTED):
        await asyncio.sleep(0.1)  # the lease of a killed process may not have expired yet
        await kernel.start(flow, data, run_id=given.id)


async def decide_on(kernel: Kernel, given: argparse.Namespace) -> None:
    # both decisions use the same id, so only the first one counts, even if two people decide at the same time
    payload = (given.command == "approve", given.by)
    if not await kernel.signal(given.id, "decision", payload, id="the decision"):
        say("too late: a decision was already made")
    await kernel.run(flow, run_id=given.id)  # resumes the run, or returns its result if it has finished


async def work(kernel: Kernel, given: argparse.Namespace) -> None:
    await kernel.recover(flow)


async def status(kernel: Kernel, given: argparse.Namespace) -> None:
    say(f"{given.id}: {await kernel.explain(given.id)}")
    for entry in await kernel.history(given.id):
        changes = ", ".join(f"{key}: {value}" for key, value in entry.changed.items() if key != str(PAYMENTS))
        say(f"{entry.seq:4} {entry.status.value:9} {entry.state:8} {changes}".rstrip())


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="sqlite:///approvals.db", help="URL of the store for the requests")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function in (
        ("request", request),
        ("approve", decide_on),
        ("reject", decide_on),
        ("status", status),
        ("work", work),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        if name != "work":
            command.add_argument("id", help="id of the request")
        if function is decide_on:
            command.add_argument("--by", default="the boss", help="name of the person who decides")
        if name == "request":
            command.add_argument("--cents", type=int, default=50_000, help="amount in cents")
            command.add_argument("--days", type=float, default=3.0, help="days until the next reminder")
            command.add_argument(
                "--payments", type=Path, default=Path("payments.txt"), help="file of the bank's ledger"
            )
    given = parser.parse_args()
    try:
        async with Kernel(store=given.store, lease=2) as kernel:
            await given.function(kernel, given)
    except CanoError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
