"""The workflows of the golden data. The writer and the tests share them, so that fingerprints agree.

Never change a definition: the stores hold the names of workflows, states and tasks, and a fingerprint. For a new stored
form, add a workflow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from enum import Enum, auto
from typing import Any, Literal

from cano import (
    BranchStatus,
    JoinConfig,
    JoinStrategy,
    KeyValueStore,
    Node,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano_retry import Fixed

from tests.acceptance.golden.times import DAY
from tests.acceptance.golden.values import CLASSES, VALUES, Item, Label

ONCE = TaskConfig.minimal()


class Bank:
    """An outside service. It is closed for the writer, and open for the tests."""

    def __init__(self) -> None:
        self.is_open = False

    def charge(self) -> str:
        """Charge a card. Raises ConnectionError while the bank is closed."""
        if not self.is_open:
            raise ConnectionError("the bank is closed")
        return "charged"

    async def enter(self) -> None:
        """Wait until the bank opens."""
        if not self.is_open:
            await asyncio.Event().wait()


BANK = Bank()

BODIES: list[str | None] = []
"""Names of the branches whose code this process has executed."""


# values of all types

typed: Workflow[str] = Workflow("WRITE", name="typed", default_config=ONCE, types=CLASSES).add_exit_state("DONE")


@typed.on("WRITE")
async def write(store: KeyValueStore) -> Literal["CHANGE"]:
    """Put a value of each type."""
    for key, value in VALUES.items():
        store[key] = value
    store["draft"] = "to be removed"
    return "CHANGE"


@typed.on("CHANGE")
async def change(store: KeyValueStore) -> Literal["DONE"]:
    """Change some, add one, and remove one."""
    store.remove("draft")
    store["list"] = [*store["list"], 3]
    store.append("list", 4)
    store["added"] = store["given"]
    return "DONE"


# several transitions, one of them by a node


class Order(Enum):
    """The states of an order."""

    PACK = auto()
    WRAP = auto()
    SHIP = auto()
    DONE = auto()


order: Workflow[Order] = Workflow(Order.PACK, default_config=ONCE).add_exit_state(Order.DONE)


@order.on(Order.PACK)
async def pack(store: KeyValueStore) -> Literal[Order.WRAP]:
    """The first step."""
    store["packed"] = store["goods"]
    return Order.WRAP


@order.on(Order.WRAP)
class Wrap(Node[Order, "list[str]", str]):
    """The second step, in phases."""

    targets = (Order.SHIP,)

    async def prep(self, store: KeyValueStore) -> list[str]:
        """Read."""
        return list(store.get("packed", list))

    async def exec(self, prepared: list[str]) -> str:
        """Work."""
        return ", ".join(prepared)

    async def post(self, store: KeyValueStore, prepared: list[str], result: str) -> Order:
        """Write."""
        store["wrapped"] = result
        store.remove("packed")
        return Order.SHIP


@order.on(Order.SHIP)
def ship(store: KeyValueStore) -> Literal[Order.DONE]:
    """The third step, in a thread. It keeps its idempotency key, which must be the same after a crash."""
    store["shipped"] = current_step().idempotency_key
    return Order.DONE


# more transitions than fit between two compactions

TICKS = 120

count: Workflow[int] = Workflow(1, name="count", default_config=ONCE).add_exit_state(2)


@count.on(1)
async def tick(store: KeyValueStore) -> Literal[1, 2]:
    """Count."""
    store["ticks"] = store["ticks"] + 1
    return 2 if store["ticks"] == TICKS else 1


# waiting for signals


class Approval(Enum):
    """The states of a question that one signal answers."""

    ASK = auto()
    APPROVED = auto()
    DONE = auto()


approval: Workflow[Approval] = Workflow(
    Approval.ASK, default_config=ONCE, types=[Item, Label]
).add_exit_state(Approval.DONE)  # fmt: skip


@approval.on(Approval.ASK)
async def ask(store: KeyValueStore) -> Literal[Approval.APPROVED]:
    """Wait without a limit."""
    store["asked"] = True
    return wait_for("approved", then=Approval.APPROVED)


@approval.on(Approval.APPROVED)
async def approved(store: KeyValueStore) -> Literal[Approval.DONE]:
    """Keep what the signal carried."""
    store["payload"] = current_step().payload
    return Approval.DONE


class Hearing(Enum):
    """The states of a question that three signals of one name answer."""

    CALL = auto()
    NOTE = auto()
    DONE = auto()


hearing: Workflow[Hearing] = Workflow(Hearing.CALL, default_config=ONCE).add_exit_state(Hearing.DONE)


@hearing.on(Hearing.CALL)
async def call(store: KeyValueStore) -> Literal[Hearing.NOTE]:
    """Wait for the next witness."""
    return wait_for("witness", then=Hearing.NOTE)


@hearing.on(Hearing.NOTE)
async def note(store: KeyValueStore) -> Literal[Hearing.CALL, Hearing.DONE]:
    """Note what the witness has said."""
    store.append("heard", current_step().payload)
    return Hearing.DONE if len(store["heard"]) == 3 else Hearing.CALL


# waiting for times


class Timer(Enum):
    """The states of a sleeper."""

    SLEEP = auto()
    WAKE = auto()
    DONE = auto()


timer: Workflow[Timer] = Workflow(Timer.SLEEP, default_config=ONCE).add_exit_state(Timer.DONE)


@timer.on(Timer.SLEEP)
async def sleep(store: KeyValueStore) -> Literal[Timer.WAKE]:
    """Sleep until the time in the data."""
    return sleep_until(store.get("until", datetime), then=Timer.WAKE)


@timer.on(Timer.WAKE)
async def wake(store: KeyValueStore) -> Literal[Timer.DONE]:
    """The step after the sleep."""
    store["awake"] = True
    return Timer.DONE


class Answer(Enum):
    """The states of a question with a time limit."""

    ASK = auto()
    ANSWERED = auto()
    SILENCE = auto()
    DONE = auto()


answer: Workflow[Answer] = Workflow(Answer.ASK, default_config=ONCE, types=[Item]).add_exit_state(Answer.DONE)


@answer.on(Answer.ASK)
async def ask_within(store: KeyValueStore) -> Literal[Answer.ANSWERED, Answer.SILENCE]:
    """Wait for the seconds in the data."""
    return wait_for("answer", then=Answer.ANSWERED, timeout=store.get("patience", float), on_timeout=Answer.SILENCE)


@answer.on(Answer.ANSWERED)
async def answered(store: KeyValueStore) -> Literal[Answer.DONE]:
    """The signal came."""
    store["answer"] = current_step().payload
    return Answer.DONE


@answer.on(Answer.SILENCE)
async def silence(store: KeyValueStore) -> Literal[Answer.DONE]:
    """The signal did not come in time."""
    store["answer"] = None
    return Answer.DONE


# a step that does not end while the bank is closed


class Visit(Enum):
    """The states of a visit to the bank."""

    WALK = auto()
    QUEUE = auto()
    DONE = auto()


visit: Workflow[Visit] = Workflow(Visit.WALK, default_config=ONCE).add_exit_state(Visit.DONE)


@visit.on(Visit.WALK)
async def walk(store: KeyValueStore) -> Literal[Visit.QUEUE]:
    """The first step."""
    store["walked"] = True
    return Visit.QUEUE


@visit.on(Visit.QUEUE)
async def queue(store: KeyValueStore) -> Literal[Visit.DONE]:
    """The second step."""
    await BANK.enter()
    store["queued"] = True
    return Visit.DONE


# retries and failures


async def bill(store: KeyValueStore) -> Literal["PAY"]:
    """The first step, which succeeds."""
    store["billed"] = Decimal("12.50")
    return "PAY"


async def pay(store: KeyValueStore) -> Literal["DONE"]:
    """The second step. It fails while the bank is closed, after a write that must be rolled back."""
    store["attempt"] = current_step().attempt
    store["paid"] = BANK.charge()
    return "DONE"


def _payment(name: str, config: TaskConfig) -> Workflow[str]:
    flow: Workflow[str] = Workflow("BILL", name=name, default_config=ONCE).add_exit_state("DONE")
    return flow.register("BILL", bill).register("PAY", pay, config=config)


payment = _payment("payment", ONCE)
patient_payment = _payment("patient payment", TaskConfig(retry=Fixed(5, 10 * DAY)))
late_payment = _payment("late payment", TaskConfig(retry=Fixed(1, 10 * DAY)))
rescued_payment = _payment("rescued payment", TaskConfig(retry=Fixed(1, 0.0), on_exhausted="RESCUE"))


@rescued_payment.on("RESCUE")
async def rescue(store: KeyValueStore) -> Literal["DONE"]:
    """Keep the error of the state before."""
    error = current_step().error
    notes = [note for note in getattr(error, "__notes__", ()) if note != getattr(error, "traceback", None)]
    store["error"] = [type(error).__name__, str(error), *notes]
    return "DONE"


class Charge(Node[str, None, str]):
    """A node whose `exec` fails while the bank is closed."""

    targets = ("DONE",)

    async def prep(self, store: KeyValueStore) -> None:
        """Nothing."""

    async def exec(self, prepared: None) -> str:
        """Work."""
        return BANK.charge()

    async def post(self, store: KeyValueStore, prepared: None, result: str) -> str:
        """Write."""
        store["paid"] = result
        return "DONE"


node_payment: Workflow[str] = Workflow("PAY", name="node payment", default_config=ONCE).add_exit_state("DONE")
node_payment.register("PAY", Charge())


# splits


class Parcels(Enum):
    """The states of a split and what follows it."""

    SPLIT = auto()
    JOINED = auto()
    DONE = auto()


async def first(store: KeyValueStore) -> Decimal:
    """A branch that puts, appends and removes."""
    BODIES.append(current_step().branch)
    store["first"] = (1, "one")
    store.append("log", "first")
    store.remove("old")
    return Decimal("1.0")


async def second(store: KeyValueStore) -> str:
    """A branch that appends."""
    BODIES.append(current_step().branch)
    store.append("log", "second")
    return "2"


async def third(store: KeyValueStore) -> str:
    """A branch that fails while the bank is closed."""
    BODIES.append(current_step().branch)
    store["third"] = BANK.charge()
    return "3"


async def joined(store: KeyValueStore) -> Literal[Parcels.DONE]:
    """Keep the outcome of the split."""
    outcome = current_step().outcome
    assert outcome is not None
    store["outcome"] = [(branch.name, branch.status, branch.result, str(branch.error)) for branch in outcome.branches]
    return Parcels.DONE


def _split(name: str, tasks: Any, strategy: JoinStrategy) -> Workflow[Parcels]:
    flow = Workflow(Parcels.SPLIT, name=name, default_config=ONCE, types=[BranchStatus]).add_exit_state(Parcels.DONE)
    join = JoinConfig(
        strategy, Parcels.JOINED, limit=1
    )  # one by one: the earlier branches have ended when the last one begins
    return flow.register_split(Parcels.SPLIT, tasks, join).register(Parcels.JOINED, joined)


def made(store: KeyValueStore) -> Sequence[Callable[[KeyValueStore], Any]]:
    """Return as many branches as the data say."""
    return [first, second, third][: store.get("width", int)]


parcels = _split("parcels", [first, second, third], JoinStrategy.all())
some_parcels = _split("some parcels", [first, second, third], JoinStrategy.partial(2))
made_parcels = _split("made parcels", made, JoinStrategy.all())


# sub-workflows


class Errand(Enum):
    """The states of a child."""

    GO = auto()
    FETCH = auto()
    BACK = auto()


errand: Workflow[Errand] = Workflow(Errand.GO, default_config=ONCE).add_exit_state(Errand.BACK)


@errand.on(Errand.GO)
async def go(store: KeyValueStore) -> Literal[Errand.FETCH]:
    """The child's first step."""
    store["found"] = [store["wanted"]]
    return Errand.FETCH


@errand.on(Errand.FETCH)
async def fetch(store: KeyValueStore) -> Literal[Errand.BACK]:
    """The child's second step."""
    store.append("found", current_step().idempotency_key)
    return Errand.BACK


class Trip(Enum):
    """The states of a parent."""

    SEND = auto()
    UNPACK = auto()
    DONE = auto()


def _parent(name: str, child: Workflow[Any], inputs: dict[str, str], outputs: dict[str, str]) -> Workflow[Trip]:
    flow = Workflow(Trip.SEND, name=name, default_config=ONCE).add_exit_state(Trip.DONE)
    flow.register(Trip.SEND, SubWorkflow(child, inputs, outputs, then=Trip.UNPACK))
    return flow.register(Trip.UNPACK, unpack)


async def unpack(store: KeyValueStore) -> Literal[Trip.DONE]:
    """The step after the child."""
    store["unpacked"] = store["brought"]
    return Trip.DONE


trips = _split(
    "trips", [SubWorkflow(errand, {"wish": "wanted"}, {"found": "brought"}, then="home"), first], JoinStrategy.all()
)
trip = _parent("trip", errand, {"wish": "wanted"}, {"found": "brought"})
survey = _parent("survey", approval, {}, {"payload": "brought"})


# a changed definition


async def draft(store: KeyValueStore) -> Literal["REVIEW"]:
    """The first step of the old definition."""
    return wait_for("go", then="REVIEW")


async def review(store: KeyValueStore) -> Literal["DONE"]:
    """The last step of the old definition."""
    return "DONE"


async def proof(store: KeyValueStore) -> Literal["SEND"]:
    """The first step of the new definition. It replaces `review`."""
    store["proof"] = current_step().payload
    return wait_for("go", then="SEND")


async def send(store: KeyValueStore) -> Literal["DONE"]:
    """The last step of the new definition."""
    store["sent"] = current_step().payload
    return "DONE"


old_letter: Workflow[str] = Workflow("DRAFT", name="letter", default_config=ONCE).add_exit_state("DONE")
old_letter.register("DRAFT", draft).register("REVIEW", review)


def _new_letter(migrate: dict[str, str] | None) -> Workflow[str]:
    old = None if migrate is None else ["1"]
    flow: Workflow[str] = Workflow(
        "PROOF", name="letter", version="2", default_config=ONCE, migrate=migrate, migrate_from=old
    )
    return flow.add_exit_state("DONE").register("PROOF", proof).register("SEND", send)


migrating_letter = _new_letter({"REVIEW": "PROOF"})
new_letter = _new_letter(None)


# committed at waits and at the end only


class Quiet(Enum):
    """The states of a run with durability="exit"."""

    ONE = auto()
    TWO = auto()
    THREE = auto()
    FOUR = auto()
    DONE = auto()


quiet: Workflow[Quiet] = Workflow(
    Quiet.ONE, default_config=ONCE, durability="exit", types=[Item]
).add_exit_state(Quiet.DONE)  # fmt: skip


@quiet.on(Quiet.ONE)
async def one(store: KeyValueStore) -> Literal[Quiet.TWO]:
    """Committed with the next step."""
    store["one"] = 1
    return Quiet.TWO


@quiet.on(Quiet.TWO)
async def two(store: KeyValueStore) -> Literal[Quiet.THREE]:
    """Committed, with the step before."""
    store["two"] = 2
    return wait_for("go", then=Quiet.THREE)


@quiet.on(Quiet.THREE)
async def three(store: KeyValueStore) -> Literal[Quiet.FOUR]:
    """Committed with the next step."""
    store["three"] = current_step().payload
    return Quiet.FOUR


@quiet.on(Quiet.FOUR)
async def four(store: KeyValueStore) -> Literal[Quiet.DONE]:
    """Committed, with the step before."""
    store["four"] = 4
    return Quiet.DONE


# the workflow of schedules


class Report(Enum):
    """The states of a report."""

    COLLECT = auto()
    WRITE = auto()
    DONE = auto()


report: Workflow[Report] = Workflow(Report.COLLECT, default_config=ONCE).add_exit_state(Report.DONE)


@report.on(Report.COLLECT)
async def collect(store: KeyValueStore) -> Literal[Report.WRITE]:
    """The first step."""
    store["collected"] = store["author"]
    return Report.WRITE


@report.on(Report.WRITE)
async def write_report(store: KeyValueStore) -> Literal[Report.DONE]:
    """The second step."""
    store["written"] = True
    return Report.DONE


invoice: Workflow[str] = Workflow(
    "FILE", name="invoice", attributes={"tenant": str, "total": Decimal, "urgent": bool}, clear_attributes=True,
    default_config=ONCE,
).add_exit_state("PAID")  # fmt: skip


@invoice.on("FILE")
async def file(store: KeyValueStore) -> str:
    """Sets an attribute; another one follows its key."""
    current_step().attributes["total"] = Decimal("12.50")
    current_step().attributes["urgent"] = True
    store["total"] = "twelve"
    return wait_for("paid", then="BOOK")


@invoice.on("BOOK")
async def book(store: KeyValueStore) -> str:
    """Changes the key, and leaves an attribute without a value."""
    store["tenant"] = "zoo"
    current_step().attributes["urgent"] = None
    return "PAID"


ALL: tuple[Workflow[Any], ...] = (
    typed, order, count, approval, hearing, timer, answer, payment, patient_payment, late_payment, rescued_payment,
    node_payment, parcels, some_parcels, made_parcels, errand, trip, trips, survey, visit, quiet,
    invoice,
)  # fmt: skip
"""The workflows to recover: all but `letter`, which has several definitions, and `report`, which schedules start."""

BY_NAME = {flow.name: flow for flow in ALL}
