"""The expected content of the golden data, and the expected end of each run, by run id."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NamedTuple

from cano import BranchStatus, Standstill
from cano import RunStatus as Status

from tests.acceptance.golden.flows import Answer, Approval, Hearing, Order, Parcels, Quiet, Timer, Trip, Visit
from tests.acceptance.golden.times import DAY, FAR
from tests.acceptance.golden.values import LAMP, VALUES, Label, Size


class Stored(NamedTuple):
    """A run as the writer left it.

    Attributes:
        workflow: name of its workflow.
        status: its status, as a kernel reports it.
        entries: its history: seq and state of each entry.
        why: the reason why it is not progressing.
        what: a part of the detail of that reason.
        parent: id of its parent run.
        layered: whether the stores with a layer around their codec contain it too.
        since: number of the first folder that contains it.
    """

    workflow: str
    status: Status
    entries: str
    why: Standstill
    what: str = ""
    parent: str | None = None
    layered: bool = False
    since: int = 1


INTERRUPTED, PARKED, FAILED = Status.INTERRUPTED, Status.PARKED, Status.FAILED
SUCCEEDED, CANCELLED = Status.SUCCEEDED, Status.CANCELLED
SIGNAL, READY = Standstill.WAITING_FOR_SIGNAL, Standstill.READY

ENDED = {SUCCEEDED: Standstill.SUCCEEDED, CANCELLED: Standstill.CANCELLED}
PAID = "task 'pay' failed"
COUNTED = " ".join(f"{seq}:1" for seq in range(118))


def _over(workflow: str, entries: str, status: Status = SUCCEEDED, **more: Any) -> Stored:
    return Stored(workflow, status, entries, ENDED[status], entries.rpartition(":")[2], **more)


def _cut(workflow: str, entries: str, **more: Any) -> Stored:
    return Stored(workflow, INTERRUPTED, entries, Standstill.INTERRUPTED, entries.rpartition(":")[2], **more)


def _failed(workflow: str, entries: str, what: str, **more: Any) -> Stored:
    return Stored(workflow, FAILED, entries, Standstill.FAILED, what, **more)


def _parked(workflow: str, entries: str, why: Standstill, what: str, **more: Any) -> Stored:
    return Stored(workflow, PARKED, entries, why, what, **more)


def _schedule(entries: str, **more: Any) -> Stored:
    return Stored("cano.schedule", PARKED, entries, SIGNAL, **more)


RUNS: dict[str, Stored] = {
    "typed": _over("typed", "0:WRITE 1:CHANGE 2:DONE", layered=True),
    "typed-killed": _cut("typed", "0:WRITE 1:CHANGE", layered=True),
    "finished": _over("Order", "0:PACK 1:WRAP 2:SHIP 3:DONE"),
    "killed-at-once": _cut("Order", "0:PACK"),
    "killed": _cut("Order", "0:PACK 1:WRAP 2:SHIP"),
    "carried": _cut("Order", "0:PACK 1:WRAP 2:SHIP"),
    "dated": _cut("Order", "0:PACK 1:WRAP"),
    "released": _cut("Visit", "0:WALK 1:QUEUE"),
    "cancelled": _over("Visit", "0:WALK 1:QUEUE", CANCELLED),
    "forked": _cut("Order", "1:WRAP"),
    "held": _cut("Order", "0:PACK 1:WRAP"),
    "counted": _cut("count", COUNTED),
    "waiting": _parked("Approval", "0:ASK 1:APPROVED", SIGNAL, "'approved'"),
    "signalled": _parked("Approval", "0:ASK 1:APPROVED", READY, "APPROVED", layered=True),
    "misheard": _parked("Approval", "0:ASK 1:APPROVED", SIGNAL, "'approved'"),
    "woken": _cut("Approval", "0:ASK 1:APPROVED", layered=True),
    "cancelled-parked": _over("Approval", "0:ASK 1:APPROVED", CANCELLED),
    "forked-parked": _parked("Approval", "1:APPROVED", SIGNAL, "'approved'"),
    "heard": _parked("Hearing", "0:CALL 1:NOTE 2:CALL 3:NOTE", READY, "NOTE"),
    "dated-parked": _parked("Approval", "0:ASK 1:APPROVED", SIGNAL, "36,470 days"),
    "overdue": _failed("Order", "0:PACK 1:WRAP 2:SHIP", "took longer than 3600 s"),
    "asleep": _parked("Timer", "0:SLEEP 1:WAKE", Standstill.WAITING_FOR_TIME, "26,998 days"),
    "rested": _parked("Timer", "0:SLEEP 1:WAKE", READY, "WAKE"),
    "unanswered": _parked("Answer", "0:ASK 1:ANSWERED", READY, "SILENCE"),
    "patient": _parked("Answer", "0:ASK 1:ANSWERED", SIGNAL, "36,470 days"),
    "failed": _failed("payment", "0:BILL 1:PAY", PAID, layered=True),
    "failed-node": _failed("node payment", "0:PAY", "node 'Charge' failed in exec"),
    "failed-join": _failed("parcels", "0:SPLIT", "join all() was not met: 2 ok, 1 failed"),
    "retrying": _parked("patient payment", "0:BILL 1:PAY", READY, "PAY"),
    "exhausted": _failed("late payment", "0:BILL 1:PAY", f"{PAID} 2 times"),
    "rescued": _cut("rescued payment", "0:BILL 1:PAY 2:RESCUE"),
    "split": _cut("parcels", "0:SPLIT", layered=True),
    "split-made": _cut("made parcels", "0:SPLIT"),
    "joined": _cut("some parcels", "0:SPLIT 1:JOINED"),
    "trip": _cut("trip", "0:SEND"),
    "trip:1/Errand": _cut("Errand", "0:GO 1:FETCH", parent="trip"),
    "trip-done": _over("trip", "0:SEND 1:UNPACK 2:DONE"),
    "trip-done:1/Errand": _over("Errand", "0:GO 1:FETCH 2:BACK", parent="trip-done"),
    "trips": _cut("trips", "0:SPLIT"),
    "trips:1:0:workflow Errand/Errand": _cut("Errand", "0:GO 1:FETCH", parent="trips"),
    "surveyed": _cut("survey", "0:SEND"),
    "surveyed:1/Approval": _parked("Approval", "0:ASK 1:APPROVED", SIGNAL, "'approved'", parent="surveyed"),
    "trip-overdue": _failed("trip", "0:SEND", "took longer than 3600 s"),
    "trip-overdue:1/Errand": _over("Errand", "0:GO 1:FETCH", CANCELLED, parent="trip-overdue"),
    "migrated": _parked("letter", "0:DRAFT 1:REVIEW 2:SEND", SIGNAL, "'go'"),
    "unmigrated": _parked("letter", "0:DRAFT 1:REVIEW", SIGNAL, "'go'"),
    "quiet": _parked("Quiet", "0:ONE 2:THREE", SIGNAL, "'go'"),
    "quiet-woken": _cut("Quiet", "0:ONE 2:THREE"),
    "schedule:hourly": _schedule("0:active 1:active 2:active 3:active 4:active", layered=True),
    "schedule:daily": _schedule("0:active", layered=True),
    "schedule:paused": _schedule("0:active 1:active 2:active 3:active 4:paused", layered=True),
    "schedule:asked": _schedule("0:active 1:active 2:active", layered=True),
    "schedule:written": _schedule("0:active 1:active", layered=True),
    "schedule:batch": _schedule("0:active 1:active", layered=True),
    "schedule:paid": _schedule("0:active 1:active 2:tripped", layered=True),
    "hourly@2026-01-02T00:00:00Z": _over("Report", "0:COLLECT 1:WRITE 2:DONE", layered=True),
    "hourly@2026-01-02T05:00:00Z": _over("Report", "0:COLLECT 1:WRITE 2:DONE", layered=True),
    "paused@2026-01-02T00:00:00Z": _over("Report", "0:COLLECT 1:WRITE 2:DONE", layered=True),
    "asked@ask:one": _parked("Approval", "0:ASK 1:APPROVED", SIGNAL, "'approved'", layered=True),
    "written@write:one": _cut("Report", "0:COLLECT 1:WRITE", layered=True),
    "batch@write many:one": _cut("Report.batch:batch", "0:run", layered=True),
    "paid@pay:one": _failed("payment", "0:BILL 1:PAY", PAID, layered=True),
    "filed": _parked("invoice", "0:FILE 1:BOOK", SIGNAL, "'paid'", since=4),
}

STALE = {
    "typed-killed", "killed-at-once", "killed", "carried", "dated", "held", "counted", "woken", "rescued", "split",
    "split-made", "joined", "trip", "trip:1/Errand", "trips", "trips:1:0:workflow Errand/Errand", "surveyed",
    "quiet-woken", "written@write:one", "batch@write many:one",
}  # fmt: skip
"""The runs whose lease a killed process still holds."""


class End(NamedTuple):
    """The expected end of a run.

    Attributes:
        state: the exit state.
        data: its data, in order.
        steps: the steps that began in the test, as `Witness` records them.
    """

    state: Any
    data: dict[str, Any]
    steps: list[str]


def _shipped(run_id: str) -> dict[str, Any]:
    return {"goods": ["lamp", "bulb"], "wrapped": "lamp, bulb", "shipped": f"{run_id}:3"}


OK = BranchStatus.OK
TYPED = {"given": (1, 2)} | VALUES | {"list": [1, [2, []], 3, 4], "added": (1, 2)}
OUTCOME = [("0:first", OK, Decimal("1.0"), "None"), ("1:second", OK, "2", "None"), ("2:third", OK, "3", "None")]
ALL_PARCELS = {"first": (1, "one"), "third": "charged", "log": ["first", "second"], "outcome": OUTCOME}
SPLIT = ["SPLIT", "0:first", "1:second", "2:third", "JOINED"]
TEA = ["tea", "trip:1/Errand:2"]
TEAS = ["tea", "trips:1:0:workflow Errand/Errand:2"]
BILLED = {"billed": Decimal("12.50")}

FINISHED: dict[str, End] = {
    "typed": End("DONE", TYPED, []),
    "finished": End(Order.DONE, _shipped("finished"), []),
    "trip-done": End(
        Trip.DONE,
        {"wish": "milk", "brought": ["milk", "trip-done:1/Errand:2"], "unpacked": ["milk", "trip-done:1/Errand:2"]},
        [],
    ),
}
"""The runs that have succeeded before."""

RECOVERED: dict[str, End] = {
    "typed-killed": End("DONE", TYPED, ["CHANGE"]),
    "killed-at-once": End(Order.DONE, _shipped("killed-at-once"), ["PACK", "WRAP", "SHIP"]),
    "killed": End(Order.DONE, _shipped("killed"), ["SHIP"]),
    "carried": End(Order.DONE, _shipped("carried"), ["SHIP"]),
    "dated": End(Order.DONE, _shipped("dated"), ["WRAP", "SHIP"]),
    "released": End(Visit.DONE, {"walked": True, "queued": True}, ["QUEUE"]),
    "forked": End(Order.DONE, _shipped("forked"), ["WRAP", "SHIP"]),
    "counted": End(2, {"ticks": 120}, ["1", "1", "1"]),
    "signalled": End(Approval.DONE, {"asked": True, "payload": {"item": LAMP}}, ["APPROVED"]),
    "woken": End(Approval.DONE, {"asked": True, "payload": [Label("ok", Size.LARGE)]}, ["APPROVED"]),
    "heard": End(Hearing.DONE, {"heard": ["one", "two", "three"]}, ["NOTE", "CALL", "NOTE"]),
    "rested": End(Timer.DONE, {"until": FAR.replace(year=2026, day=11), "awake": True}, ["WAKE"]),
    "unanswered": End(Answer.DONE, {"patience": 10 * DAY, "answer": None}, ["SILENCE"]),
    "retrying": End("DONE", BILLED | {"attempt": 3, "paid": "charged"}, ["PAY #3"]),
    "rescued": End(
        "DONE",
        BILLED
        | {
            "error": [
                "RetryExhaustedError",
                "task 'pay' failed 2 times, the last time with ConnectionError: the bank is closed",
                "at run rescued, workflow rescued payment, state PAY, attempt 2",
                "caused by ConnectionError: the bank is closed",
            ]
        },
        ["RESCUE"],
    ),
    "split": End(Parcels.DONE, ALL_PARCELS, SPLIT),
    "split-made": End(
        Parcels.DONE,
        {"width": 2, "first": (1, "one"), "log": ["first", "second"], "outcome": OUTCOME[:2]},
        ["SPLIT", "0:first", "1:second", "JOINED"],
    ),
    "joined": End(
        Parcels.DONE,
        {
            "first": (1, "one"),
            "log": ["first", "second"],
            "outcome": [
                *OUTCOME[:2],
                ("2:third", BranchStatus.FAILED, None, "task 'third' failed: ConnectionError: the bank is closed"),
            ],
        },
        ["JOINED"],
    ),
    "trip": End(Trip.DONE, {"wish": "tea", "brought": TEA, "unpacked": TEA}, ["SEND", "UNPACK"]),
    "trips": End(
        Parcels.DONE,
        {
            "wish": "tea",
            "brought": TEAS,
            "first": (1, "one"),
            "log": ["first"],
            "outcome": [("0:workflow Errand", OK, "home", "None"), ("1:first", OK, Decimal("1.0"), "None")],
        },
        ["SPLIT", "0:workflow Errand", "1:first", "JOINED"],
    ),
    "quiet-woken": End(Quiet.DONE, {"two": 2, "one": 1, "three": "now", "four": 4}, ["THREE", "FOUR"]),
}
"""The runs that `recover` resumes and that end then."""

BODIES = ["2:third", "1:second", "1:first"]
"""The branches whose code is executed then. All other branches had ended before, and were kept."""

FAILURES: dict[str, tuple[str, str, str, int]] = {
    "failed": ("TaskError", "task 'pay' failed: ConnectionError: the bank is closed", "PAY", 1),
    "failed-node": ("NodeError", "node 'Charge' failed in exec: ConnectionError: the bank is closed", "PAY", 1),
    "failed-join": ("JoinError", "join all() was not met: 2 ok, 1 failed", "SPLIT", 1),
    "exhausted": (
        "RetryExhaustedError",
        "task 'pay' failed 2 times, the last time with ConnectionError: the bank is closed",
        "PAY",
        2,
    ),
    "overdue": ("RunTimeoutError", "run overdue took longer than 3600 s; it was in state Order.SHIP", "SHIP", 1),
    "trip-overdue": ("RunTimeoutError", "run trip-overdue took longer than 3600 s", "SEND", 1),
}
"""The errors of the failed runs: class, beginning of the message, state, and attempt."""

RESUMED: dict[str, End] = {
    "failed": End("DONE", BILLED | {"attempt": 1, "paid": "charged"}, ["PAY"]),
    "failed-node": End("DONE", {"paid": "charged"}, ["PAY"]),
    "failed-join": End(Parcels.DONE, ALL_PARCELS, SPLIT),
    "exhausted": End("DONE", BILLED | {"attempt": 1, "paid": "charged"}, ["PAY"]),
    "overdue": End(Order.DONE, _shipped("overdue"), ["SHIP"]),
    "trip-overdue": End(
        Trip.DONE,
        {
            "wish": "rice",
            "brought": ["rice", "trip-overdue:1/Errand:2"],
            "unpacked": ["rice", "trip-overdue:1/Errand:2"],
        },
        ["SEND", "UNPACK"],
    ),
}
"""The ends of the failed runs after `resume`."""

SIGNALLED: dict[str, tuple[str, End]] = {
    "waiting": ("approved", End(Approval.DONE, {"asked": True, "payload": LAMP}, ["APPROVED"])),
    "misheard": ("approved", End(Approval.DONE, {"asked": True, "payload": LAMP}, ["APPROVED"])),
    "forked-parked": ("approved", End(Approval.DONE, {"asked": True, "payload": LAMP}, ["APPROVED"])),
    "dated-parked": ("approved", End(Approval.DONE, {"asked": True, "payload": LAMP}, ["APPROVED"])),
    "surveyed:1/Approval": ("approved", End(Approval.DONE, {"asked": True, "payload": LAMP}, ["APPROVED"])),
    "patient": ("answer", End(Answer.DONE, {"patience": 36500 * DAY, "answer": LAMP}, ["ANSWERED"])),
    "quiet": ("go", End(Quiet.DONE, {"two": 2, "one": 1, "three": LAMP, "four": 4}, ["THREE", "FOUR"])),
}
"""The runs that wait for a signal: its name, and their end if its payload is a lamp."""

SCHEDULES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "hourly": ("idle", (), ()),
    "daily": ("idle", (), ()),
    "paused": ("paused", (), ()),
    "asked": ("running", ("asked@ask:one",), ("asked@ask:two",)),
    "written": ("running", ("written@write:one",), ()),
    "batch": ("running", ("batch@write many:one",), ()),
    "paid": ("tripped", (), ()),
}
"""The schedules as the writer left them: state, running and queued runs."""

TICKS: dict[str, list[str]] = {
    "hourly": [
        "time fired, 02 00:00: hourly@2026-01-02T00:00:00Z",
        "time skipped misfire, 4 from 02 01:00 to 02 04:00",
        "time late misfire, 02 05:00: hourly@2026-01-02T05:00:00Z",
    ],
    "daily": [],
    "paused": [
        "time fired, 02 00:00: paused@2026-01-02T00:00:00Z",
        "time skipped misfire, 5 from 02 01:00 to 02 05:00",
        "time skipped misfire, 1 from 02 06:00 to 02 06:00",
    ],
    "asked": ["event fired: asked@ask:one"],
    "written": ["event fired: written@write:one"],
    "batch": ["event fired: batch@write many:one"],
    "paid": ["event fired: paid@pay:one"],
}
"""Their history, as the writer left it."""

FURTHER_TICKS: dict[str, list[str]] = {
    "hourly": [
        "time skipped misfire, 690 from 02 06:00 to 30 23:00",
        "time late misfire, 31 00:00: hourly@2026-01-31T00:00:00Z",
    ],
    "daily": ["time skipped misfire, 29 from 02 08:00 to 30 08:00"],
    "paused": ["time skipped paused, 690 from 02 07:00 to 31 00:00"],
    "asked": ["event fired: asked@ask:two"],
    "written": [],
    "batch": [],
    "paid": [],
}
"""The ticks that a scheduler adds that is started at `READ`."""

COUNTS: dict[str, tuple[str, int, int, int, int, int]] = {
    "hourly": ("idle", 3, 1, 2, 694, 0),
    "daily": ("idle", 0, 0, 0, 29, 0),
    "paused": ("paused", 1, 1, 0, 696, 0),
    "asked": ("idle", 2, 0, 0, 0, 0),
    "written": ("idle", 1, 0, 0, 0, 0),
    "batch": ("idle", 1, 0, 0, 0, 0),
    "paid": ("tripped", 1, 0, 0, 0, 1),
}
"""The schedules after that: state, and the numbers of runs, and of fired, late, skipped and failed ones."""

SCHEDULED: dict[str, dict[str, Any]] = {
    "asked@ask:one": {"item": LAMP, "asked": True, "payload": "yes"},
    "asked@ask:two": {"item": LAMP, "asked": True, "payload": "no"},
    "written@write:one": {"author": "Bo", "collected": "Bo", "written": True},
    "batch@write many:one": {
        "author": "Cy",
        "batch": {"total": 2, "completed": 2, "failed": 0, "cancelled": 0, "ended_by": "all", "errors": []},
    },
    "hourly@2026-01-31T00:00:00Z": {"author": "Ada", "collected": "Ada", "written": True},
}
"""The data of their runs that end meanwhile."""
