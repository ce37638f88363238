"""The acts of the writer. Together they bring runs into every stored form; a process of its own plays each of them.

Never change an act: `expected.py` describes what it stores. Append new acts at the end; in `expected.py`, set `since`
of their runs to the number of the first folder that has them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from contextlib import nullcontext
from typing import Any, Literal, NamedTuple

import pytest
from cano import JoinError, NodeError, RetryExhaustedError, RunTimeoutError, Signal, TaskError, Workflow, WorkflowError

from tests.acceptance.golden import flows
from tests.acceptance.golden.kernels import kernel_at
from tests.acceptance.golden.observers import Begun, Carrier, Ended, Parked, Strike
from tests.acceptance.golden.schedules import scheduler_on
from tests.acceptance.golden.times import DAY, FAR, HOUR, MINUTE, YEAR
from tests.acceptance.golden.values import LAMP, Label, Size

Play = Callable[[str, float], Coroutine[Any, Any, None]]
"""Plays an act: takes the URL of the store, and the time in wall-clock seconds."""

GIVEN: Mapping[str, Any] = {"given": (1, 2)}
GOODS: Mapping[str, Any] = {"goods": ["lamp", "bulb"]}


class Act(NamedTuple):
    """A change of the store by one process.

    Attributes:
        play: the coroutine function that does it.
        ends: how the process ends: it "exits", it is "killed", by itself, or it is "stopped", by itself, and the writer
            kills it after the next act.
        layered: whether the stores with a layer around their codec get the act too.
        after: seconds from `WRITTEN` to the time of the act; by default one minute for each act before it in the list.
    """

    play: Play
    ends: Literal["exits", "killed", "stopped"] = "exits"
    layered: bool = False
    after: float | None = None


# makers of acts


def ends(
    flow: Workflow[Any],
    run_id: str,
    data: Mapping[str, Any],
    error: type[WorkflowError] | None = None,
    **options: Any,
) -> Act:
    """A run ends: in success, or with an error of class `error`."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now) as kernel:
            with nullcontext() if error is None else pytest.raises(error):
                await kernel.run(flow, data, run_id=run_id)

    return Act(play, **options)


def parks(
    flow: Workflow[Any], run_id: str, data: Mapping[str, Any], timeout: float | None = None, **options: Any
) -> Act:
    """A run is started, or resumed if it exists, and is parked."""

    async def play(url: str, now: float) -> None:
        parked = Parked()
        async with kernel_at(url, now, parked) as kernel:
            await kernel.start(flow, data, run_id=run_id, timeout=timeout)
            await parked.event.wait()

    return Act(play, **options)


def dies(
    flow: Workflow[Any],
    run_id: str,
    data: Mapping[str, Any],
    strike: Strike,
    *observers: Any,
    timeout: float | None = None,
    **options: Any,
) -> Act:
    """A run is started, and its process is killed."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now, strike, *observers) as kernel:
            await kernel.run(flow, data, run_id=run_id, timeout=timeout)

    return Act(play, ends="killed", **options)


def dies_woken(flow: Workflow[Any], run_id: str, name: str, payload: Any, strike: Strike, **options: Any) -> Act:
    """A parked run is resumed by its signal, and its process is killed."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now, strike) as kernel:
            handle = await kernel.start(flow, {}, run_id=run_id)
            await kernel.signal(run_id, name, payload, id=f"{run_id}-1")
            await handle.result()

    return Act(play, ends="killed", **options)


def signals(flow: Workflow[Any], run_id: str, *sent: tuple[str, str, Any], **options: Any) -> Act:
    """A kernel that has only bound the workflow of the run sends it signals: name, id and payload of each."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now) as kernel:
            kernel.bind(flow)
            for name, id, payload in sent:
                assert await kernel.signal(run_id, name, payload, id=id)

    return Act(play, **options)


def cancels(run_id: str) -> Act:
    """A run is cancelled by a kernel that does not execute it."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now) as kernel:
            assert await kernel.cancel(run_id)

    return Act(play)


def forks(run_id: str, seq: int, new_run_id: str) -> Act:
    """A run is forked."""

    async def play(url: str, now: float) -> None:
        async with kernel_at(url, now) as kernel:
            await kernel.fork(run_id, seq, new_run_id)

    return Act(play)


# single acts


async def is_released(url: str, now: float) -> None:
    """A kernel closes in the middle of a step: it interrupts the run and releases the lease."""
    begun = Begun("QUEUE")
    async with kernel_at(url, now, begun) as kernel:
        await kernel.start(flows.visit, {}, run_id="released")
        await begun.event.wait()


async def is_cancelled(url: str, now: float) -> None:
    """A run is cancelled in the middle of a step, by the kernel that executes it."""
    begun = Begun("QUEUE")
    async with kernel_at(url, now, begun) as kernel:
        handle = await kernel.start(flows.visit, {}, run_id="cancelled")
        await begun.event.wait()
        await handle.cancel()


async def is_early(url: str, now: float) -> None:
    """A signal is put for a run that does not exist."""
    async with kernel_at(url, now) as kernel:
        assert kernel.backend is not None
        assert kernel.codec is not None
        kernel.codec.register(*kernel.bind(flows.approval).types())
        payload = kernel.codec.encode({"item": LAMP})
        await kernel.backend.put_signal("early", Signal("early-1", "approved", payload))


async def is_heard(url: str, now: float) -> None:
    """A run consumes its first signal, and waits for the second one."""
    parked = Parked()
    async with kernel_at(url, now, parked) as kernel:
        await kernel.start(flows.hearing, {}, run_id="heard")
        await parked.event.wait()
        parked.event.clear()
        await kernel.signal("heard", "witness", "one", id="witness-1")
        await parked.event.wait()


async def is_migrated(url: str, now: float) -> None:
    """A run of the old definition is resumed under the new one, and parked again."""
    parked = Parked()
    async with kernel_at(url, now, parked) as kernel:
        assert await kernel.signal("migrated", "go", "proof it", id="go-1")
        await kernel.start(flows.migrating_letter, {}, run_id="migrated")
        await parked.event.wait()


async def dies_waiting(url: str, now: float) -> None:
    """A parent waits for its parked child, and its process is killed."""
    parked = Parked()
    async with kernel_at(url, now, parked) as kernel:
        await kernel.start(flows.survey, {}, run_id="surveyed")
        await parked.event.wait()
        os.kill(os.getpid(), signal.SIGKILL)


# schedules


def fires(*run_ids: str, **options: Any) -> Act:
    """A scheduler runs until the runs `run_ids` have ended."""

    async def play(url: str, now: float) -> None:
        ended = Ended(*run_ids)
        async with kernel_at(url, now, ended) as kernel, scheduler_on(kernel):
            await ended.event.wait()

    return Act(play, layered=True, **options)


async def is_paused(url: str, now: float) -> None:
    """A schedule is paused."""
    async with kernel_at(url, now) as kernel:
        await scheduler_on(kernel).pause("paused")


async def is_queued(url: str, now: float) -> None:
    """An event starts a run, which is parked; the next event is queued."""
    parked = Parked()
    async with kernel_at(url, now, parked) as kernel:
        scheduler = scheduler_on(kernel)
        await scheduler.emit("ask", {"item": LAMP}, id="one")
        await parked.event.wait()
        assert not await scheduler.emit("ask", {"item": LAMP}, id="two")
        await scheduler.stop()


async def is_emitted(url: str, now: float) -> None:
    """An event starts a run, and its process is killed."""
    async with kernel_at(url, now, Strike("WRITE")) as kernel:
        await (await scheduler_on(kernel).emit("write", {"author": "Bo"}, id="one"))[0].result()


async def is_batched(url: str, now: float) -> None:
    """An event starts a batch, and its process is killed."""
    async with kernel_at(url, now, Strike("run")) as kernel:
        await (await scheduler_on(kernel).emit("write many", {"author": "Cy"}, id="one"))[0].result()


async def has_failed(url: str, now: float) -> None:
    """A run of a schedule fails, which trips the schedule."""
    async with kernel_at(url, now) as kernel:
        scheduler = scheduler_on(kernel)
        (handle,) = await scheduler.emit("pay", id="one")
        with pytest.raises(TaskError):
            await handle.result()
        await scheduler.stop()


ACTS: tuple[Act, ...] = (
    ends(flows.typed, "typed", GIVEN, layered=True),
    dies(flows.typed, "typed-killed", GIVEN, Strike("CHANGE"), layered=True),
    ends(flows.order, "finished", GOODS),
    dies(flows.order, "killed-at-once", GOODS, Strike("PACK")),
    dies(flows.order, "killed", GOODS, Strike("SHIP")),
    dies(flows.order, "carried", GOODS, Strike("SHIP"), Carrier()),
    dies(flows.order, "dated", GOODS, Strike("WRAP"), timeout=100 * YEAR),
    Act(is_released),
    Act(is_cancelled),
    forks("finished", 1, "forked"),
    dies(flows.order, "held", GOODS, Strike("WRAP", number=signal.SIGSTOP))._replace(ends="stopped"),
    cancels("held")._replace(after=10 * MINUTE + 1),
    dies(flows.count, "counted", {"ticks": 0}, Strike("1", 118)),
    parks(flows.approval, "waiting", {}),
    parks(flows.approval, "signalled", {}, layered=True),
    signals(
        flows.approval,
        "signalled",
        ("approved", "signalled-1", {"item": LAMP}),
        ("approved", "signalled-2", None),
        layered=True,
    ),
    parks(flows.approval, "misheard", {}),
    signals(flows.approval, "misheard", ("denied", "misheard-1", "no")),
    parks(flows.approval, "woken", {}, layered=True),
    dies_woken(flows.approval, "woken", "approved", [Label("ok", Size.LARGE)], Strike("APPROVED"), layered=True),
    parks(flows.approval, "cancelled-parked", {}),
    cancels("cancelled-parked"),
    forks("waiting", 1, "forked-parked"),
    Act(is_early, layered=True),
    Act(is_heard),
    signals(flows.hearing, "heard", ("witness", "witness-2", "two"), ("witness", "witness-3", "three")),
    parks(flows.approval, "dated-parked", {}, timeout=100 * YEAR),
    dies(flows.order, "overdue", GOODS, Strike("SHIP"), timeout=HOUR),
    ends(flows.order, "overdue", {}, RunTimeoutError, after=2 * HOUR),
    parks(flows.timer, "asleep", {"until": FAR}),
    parks(flows.timer, "rested", {"until": FAR.replace(year=2026, day=11)}),
    parks(flows.answer, "unanswered", {"patience": 10 * DAY}),
    parks(flows.answer, "patient", {"patience": 100 * YEAR}),
    ends(flows.payment, "failed", {}, TaskError, layered=True),
    ends(flows.node_payment, "failed-node", {}, NodeError),
    ends(flows.parcels, "failed-join", {"old": 1}, JoinError),
    parks(flows.patient_payment, "retrying", {}),
    parks(flows.patient_payment, "retrying", {}, after=11 * DAY),
    parks(flows.late_payment, "exhausted", {}),
    ends(flows.late_payment, "exhausted", {}, RetryExhaustedError, after=11 * DAY),
    dies(flows.rescued_payment, "rescued", {}, Strike("RESCUE")),
    dies(flows.parcels, "split", {"old": 1}, Strike("2:third"), layered=True),
    dies(flows.made_parcels, "split-made", {"old": 1, "width": 2}, Strike("1:second")),
    dies(flows.some_parcels, "joined", {"old": 1}, Strike("JOINED")),
    dies(flows.trip, "trip", {"wish": "tea"}, Strike("FETCH")),
    ends(flows.trip, "trip-done", {"wish": "milk"}),
    dies(flows.trips, "trips", {"wish": "tea", "old": 1}, Strike("FETCH")),
    Act(dies_waiting, ends="killed"),
    dies(flows.trip, "trip-overdue", {"wish": "rice"}, Strike("FETCH"), timeout=HOUR),
    ends(flows.trip, "trip-overdue", {}, RunTimeoutError, after=3 * HOUR),
    parks(flows.old_letter, "migrated", {}),
    Act(is_migrated),
    parks(flows.old_letter, "unmigrated", {}),
    parks(flows.quiet, "quiet", {}),
    parks(flows.quiet, "quiet-woken", {}),
    dies_woken(flows.quiet, "quiet-woken", "go", "now", Strike("FOUR")),
    fires("hourly@2026-01-02T00:00:00Z", "paused@2026-01-02T00:00:00Z", after=DAY),
    fires("hourly@2026-01-02T05:00:00Z", after=DAY + 5.5 * HOUR),
    Act(is_paused, layered=True, after=DAY + 6.5 * HOUR),
    Act(is_queued, layered=True, after=DAY + 7 * HOUR),
    Act(is_emitted, ends="killed", layered=True, after=DAY + 8 * HOUR),
    Act(is_batched, ends="killed", layered=True, after=DAY + 9 * HOUR),
    Act(has_failed, layered=True, after=DAY + 10 * HOUR),
    parks(flows.invoice, "filed", {"tenant": "acme"}, after=DAY + 11 * HOUR),
)
