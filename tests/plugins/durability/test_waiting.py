"""Waiting, durably: signals and times, before, during and after, here and elsewhere, and across crashes."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunHandle,
    RunInterruptedError,
    RunNotFoundError,
    RunResult,
    RunStatus,
    SerializationError,
    Wait,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano.testing import VirtualClock

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Waiter:
    """A workflow that waits once, as it is told, and notes each step's payload."""

    def __init__(self) -> None:
        self.did: list[tuple[str, int, Any]] = []
        self.pause: Any = wait_for("go", then="then")

    def note(self) -> None:
        """Note the step."""
        step = current_step()
        self.did.append((step.state, step.seq, step.payload))

    async def ask(self, store: Any) -> Any:
        """Write, and wait."""
        self.note()
        store["asked"] = True
        return self.pause

    async def then(self, store: Any) -> str:
        """Keep the payload."""
        self.note()
        store["got"] = current_step().payload
        return "end"

    async def late(self, store: Any) -> str:
        """The wait was in vain."""
        self.note()
        store["late"] = True
        return "end"

    def flow(self, **options: Any) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("ask", name="waiter", **options)
        flow.register("ask", self.ask).register("then", self.then).register("late", self.late)
        return flow.add_exit_states(["end", "other end"])

    async def park(self, kernel: Kernel, run_id: str = "r", **options: Any) -> RunHandle:
        """Start a run, and return when it waits."""
        handle = await kernel.start(self.flow(**options), run_id=run_id)
        await handle._run.ended()
        return handle


@pytest.fixture
def waiter() -> Waiter:
    """A waiter."""
    return Waiter()


APPROVED = RunResult("r", "end", {"asked": True, "got": {"by": "me"}}, 2)


async def test_a_parked_run_holds_nothing(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A waiting run is a row in the store: no task drives it, no lease is held, and its step is committed."""
    before = asyncio.all_tasks()
    handle = await waiter.park(kernel)
    await world.settle()
    assert {task.get_name() for task in asyncio.all_tasks() - before} == {"cano caretaker", "cano heart"}
    assert kernel.active == {}
    record = await world.look("r")
    assert (record.status, record.state, record.seq) == (RunStatus.PARKED, "then", 1)
    assert (record.holder, record.expires) == (None, None)
    assert record.wait == Wait(then="then", signal="go")
    assert handle.status().status is RunStatus.PARKED
    await world.clock.advance(100)
    assert (await world.look("r")).seq == 1


async def test_a_signal_during_the_wait(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal lets the run go on; its payload is there in the state that follows, and in that one only."""
    handle = await waiter.park(kernel)
    assert await kernel.signal("r", "go", {"by": "me"}) is True
    assert await handle.result() == APPROVED
    assert waiter.did == [("ask", 1, None), ("then", 2, {"by": "me"})]
    assert [(line.seq, line.state, line.status) for line in await kernel.history("r")] == [
        (0, "ask", RunStatus.RUNNING),
        (1, "then", RunStatus.PARKED),
        (2, "end", RunStatus.SUCCEEDED),
    ]
    assert (await world.look("r")).payload is None


async def test_a_signal_before_the_wait(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal that comes before the run waits for it counts: the run does not park."""
    hold = world.faults(kernel).at_call("create", after=True).hang()
    starting = asyncio.ensure_future(kernel.start(waiter.flow(), run_id="r"))
    await hold.reached()
    assert await kernel.signal("r", "go", {"by": "me"}) is True
    hold.release()
    assert await (await starting).result() == APPROVED
    assert RunStatus.PARKED not in {line.status for line in await kernel.history("r")}


async def test_a_signal_before_the_run(kernel: Kernel, waiter: Waiter) -> None:
    """A signal to a run that does not exist is refused, and does not wait for a run of that id to come."""
    with pytest.raises(RunNotFoundError, match="the store has no run 'r'"):
        await kernel.signal("r", "go", {"by": "me"})
    handle = await waiter.park(kernel)
    assert handle.status().status is RunStatus.PARKED


async def test_a_signal_in_the_very_moment(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal that comes after the run has looked for it, and before it is parked, is not lost."""
    fault = world.faults(kernel).at_call("commit").hang()
    handle = await kernel.start(waiter.flow(), run_id="r")
    await fault.reached()
    await kernel.signal("r", "go", {"by": "me"})
    fault.release()
    assert await handle.result() == APPROVED


async def test_a_signal_after_the_end(kernel: Kernel, waiter: Waiter) -> None:
    """A signal to a run that has ended has no effect, and says so."""
    handle = await waiter.park(kernel)
    await kernel.signal("r", "go", {"by": "me"})
    await handle.result()
    assert await kernel.signal("r", "go", {"by": "you"}) is False
    assert await kernel.run(waiter.flow(), run_id="r") == APPROVED


async def test_a_signal_twice_under_one_id(kernel: Kernel, waiter: Waiter) -> None:
    """A signal sent again under its id counts once: the second wait is not over by it."""
    waiter.pause = wait_for("go", then="ask")
    handle = await waiter.park(kernel)
    await kernel.signal("r", "go", 1, id="one")
    await kernel.signal("r", "go", 1, id="one")
    await _until_parked(kernel, "r", 2)
    assert [line[1:] for line in waiter.did] == [(1, None), (2, 1)]
    await kernel.signal("r", "go", 2, id="two")
    await _until_parked(kernel, "r", 3)
    assert [line[1:] for line in waiter.did] == [(1, None), (2, 1), (3, 2)]
    await handle.cancel()


async def test_many_signals_of_one_name(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """Signals of one name are consumed one by one, in the order in which they were sent."""
    waiter.pause = wait_for("go", then="ask")
    handle = await waiter.park(kernel)
    for number in range(5):
        await kernel.signal("r", "go", number)
    await _until_parked(kernel, "r", 6)
    assert [payload for _, _, payload in waiter.did] == [None, 0, 1, 2, 3, 4]
    await handle.cancel()


async def _until_parked(kernel: Kernel, run_id: str, seq: int) -> None:
    """Wait until the run is parked after that many transitions."""
    assert isinstance(kernel.clock, VirtualClock)
    await kernel.clock.advance(0)
    (record,) = [record for record in await kernel.runs() if record.run_id == run_id]
    assert (record.status, record.seq) == (RunStatus.PARKED, seq)


async def test_two_names(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A run goes on by the signal that it waits for, and by no other; that one stays for a later wait."""
    handle = await waiter.park(kernel)
    await kernel.signal("r", "other", 1)
    await world.clock.advance(5)
    assert handle.status().status is RunStatus.PARKED
    waiter.pause = wait_for("other", then="then")
    await kernel.signal("r", "go")
    assert (await handle.result()).data == {"asked": True, "got": None}
    assert await kernel.signal("r", "other") is False


async def test_a_payload_that_cannot_be_kept(kernel: Kernel, waiter: Waiter) -> None:
    """A payload that the store cannot keep is refused, and the run waits on."""
    handle = await waiter.park(kernel)
    with pytest.raises(SerializationError, match="the payload of signal 'go'"):
        await kernel.signal("r", "go", object())
    assert handle.status().status is RunStatus.PARKED


@dataclass
class Approval:
    """A payload with a type."""

    by: str


async def test_the_payload_survives_a_crash(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A run whose process dies in the state after the wait finds the payload there again, type and all."""
    flow = waiter.flow(types=[Approval])
    handle = await kernel.start(flow, run_id="r")
    await handle._run.ended()
    fault = world.faults(kernel).at_call("commit", 2).hang()  # the one after that which takes the signal
    await kernel.signal("r", "go", Approval("me"))
    await fault.reached()
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    result = await other.resume(waiter.flow(types=[Approval]), "r")
    assert result.data == {"asked": True, "got": Approval("me")}
    assert waiter.did == [("ask", 1, None), ("then", 2, Approval("me")), ("then", 2, Approval("me"))]


async def test_a_crash_while_parked(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A parked run needs no process: one that starts later takes the signal, and lets it go on."""
    await waiter.park(kernel)
    await world.crash(kernel)
    other = await world.kernel()
    assert await other.recover(waiter.flow()) == []
    await other.signal("r", "go", {"by": "me"})
    assert await other.run(waiter.flow(), run_id="r") == APPROVED


async def test_a_crash_between_signal_and_waking(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal whose sender died at once is not lost: whoever recovers lets the run go on."""
    await waiter.park(kernel)
    await world.crash(kernel)
    sender = await world.kernel()
    await sender.signal("r", "go", {"by": "me"})  # it does not know the workflow: it can only put it there
    await world.crash(sender)
    other = await world.kernel()
    (handle,) = await other.recover(waiter.flow())
    assert await handle.result() == APPROVED


@pytest.mark.parametrize("awaited", [True, False])
async def test_a_signal_from_another_kernel(kernel: Kernel, world: World, waiter: Waiter, awaited: bool) -> None:
    """A run goes on where it was started though its signal was sent elsewhere, and whether it is awaited or not."""
    handle = await waiter.park(kernel)
    waiting = asyncio.ensure_future(handle.result()) if awaited else None
    other = await world.kernel()
    await other.signal("r", "go", {"by": "me"})
    await world.clock.advance(2)
    assert (await world.look("r")).status is RunStatus.SUCCEEDED
    assert await (waiting or handle.result()) == APPROVED
    assert handle.status().status is RunStatus.SUCCEEDED


async def test_an_older_wait_without_on_timeout(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A run that an earlier version parked with a timeout and no `on_timeout` goes on to `then`, as that one would."""
    await waiter.park(kernel)
    record = await world.look("r")
    assert record.wait is not None
    older = record.wait._replace(until=world.clock.time() + 100)
    await world.store(kernel).backend.create(record._replace(run_id="older", wait=older, own={}))
    await kernel.recover(waiter.flow())
    await world.clock.advance(101)
    assert (await world.look("older")).status is RunStatus.SUCCEEDED
    assert waiter.did == [("ask", 1, None), ("then", 2, None)]


async def test_a_time_limit_with_on_timeout(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """When the time is over the run goes on to `on_timeout`: a transition of its own."""
    waiter.pause = wait_for("go", then="then", timeout=dt.timedelta(minutes=2), on_timeout="late")
    handle = await waiter.park(kernel)
    await world.clock.advance(119)
    assert handle.status().status is RunStatus.PARKED
    await world.clock.advance(1)
    assert await handle.result() == RunResult("r", "end", {"asked": True, "late": True}, 3)
    assert [(line.seq, line.state) for line in await kernel.history("r")] == [
        (0, "ask"), (1, "then"), (2, "late"), (3, "end"),
    ]  # fmt: skip
    assert waiter.did == [("ask", 1, None), ("late", 3, None)]


async def test_a_signal_in_time(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal in time ends the wait, and the time limit with it."""
    waiter.pause = wait_for("go", then="then", timeout=100, on_timeout="late")
    handle = await waiter.park(kernel)
    await world.clock.advance(99)
    await kernel.signal("r", "go", {"by": "me"})
    assert await handle.result() == APPROVED
    await world.clock.advance(100)
    assert waiter.did == [("ask", 1, None), ("then", 2, {"by": "me"})]


async def test_a_signal_after_the_time(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A signal that came before anybody noticed that the time was over still counts."""
    waiter.pause = wait_for("go", then="then", timeout=100, on_timeout="late")
    await waiter.park(kernel)
    await world.crash(kernel)
    sender = await world.kernel()
    await world.clock.advance(200)
    await sender.signal("r", "go", {"by": "me"})
    (handle,) = await (await world.kernel()).recover(waiter.flow())
    assert await handle.result() == APPROVED


async def test_the_time_comes_in_another_process(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A time limit holds though the process that parked the run is gone."""
    waiter.pause = wait_for("go", then="then", timeout=100, on_timeout="late")
    await waiter.park(kernel)
    await world.crash(kernel)
    other = await world.kernel()
    await other.recover(waiter.flow())
    await world.clock.advance(99)
    assert (await world.look("r")).status is RunStatus.PARKED
    await world.clock.advance(2)
    assert (await world.look("r")).status is RunStatus.SUCCEEDED


async def test_a_later_wait_with_a_nearer_time(kernel: Kernel, world: World) -> None:
    """Each wait has its own time: a short one after a long one is over when it is over."""

    async def first(store: Any) -> Any:
        return wait_for("go", then="second", timeout=1000, on_timeout="late")

    async def second(store: Any) -> Any:
        return wait_for("never", then="end", timeout=5, on_timeout="late")

    flow: Workflow[Any] = Workflow("first", name="two waits")
    flow.register("first", first).register("second", second).add_exit_states(["end", "late"])
    handle = await kernel.start(flow, run_id="r")
    await handle._run.ended()
    await kernel.signal("r", "go")
    await world.settle()
    assert (await world.look("r")).wait == Wait("end", "never", world.clock.time() + 5, "late")
    await world.clock.advance(5)
    assert (await world.look("r")).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("how", ["signal", "time", "early signal", "recovered"])
async def test_then_may_be_an_exit_state(kernel: Kernel, world: World, waiter: Waiter, how: str) -> None:
    """A wait may lead to the run's end: the success is in the store, and the data is that of the last step."""
    waiter.pause = wait_for("go", then="end", timeout=100, on_timeout="other end")
    hold = world.faults(kernel).at_call("create", after=True).hang()
    starting = asyncio.ensure_future(kernel.start(waiter.flow(), run_id="r"))
    await hold.reached()
    if how == "early signal":
        await kernel.signal("r", "go")
    hold.release()
    handle = await starting
    if how != "early signal":
        await handle._run.ended()
    if how == "recovered":
        await world.crash(kernel)
        kernel = await world.kernel()
    if how in ("signal", "recovered"):
        await kernel.signal("r", "go")
    if how == "time":
        await world.clock.advance(100)
    result = await (kernel.run(waiter.flow(), run_id="r") if how == "recovered" else handle.result())
    late = how == "time"
    assert result == RunResult("r", "other end" if late else "end", {"asked": True}, 2 if late else 1)
    record = await world.look("r")
    assert (record.status, record.holder, record.wait) == (RunStatus.SUCCEEDED, None, None)
    assert await kernel.run(waiter.flow(), run_id="r") == result


async def test_waiting_for_a_time(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """`sleep_until` parks the run until a time, given as a datetime or as seconds."""
    for number, when in enumerate([world.clock.time() + 50, None]):
        until = when or dt.datetime.fromtimestamp(world.clock.time() + 50, dt.timezone(dt.timedelta(hours=5)))
        waiter.pause = sleep_until(until, then="then")
        handle = await waiter.park(kernel, f"r{number}")
        await world.clock.advance(49)
        assert handle.status().status is RunStatus.PARKED
        await world.clock.advance(1)
        assert (await handle.result()).state == "end"


async def test_a_time_in_the_past(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A time in the past is over at once: the run does not park."""
    for when in (0, world.clock.time(), dt.datetime(1999, 1, 1, tzinfo=dt.UTC)):
        waiter.pause = sleep_until(when, then="then")
        result = await kernel.run(waiter.flow())
        assert result.steps == 2
        assert RunStatus.PARKED not in {line.status for line in await kernel.history(result.run_id)}


def test_times_and_names_that_are_none() -> None:
    """What is no time, or no name, is refused where it is said."""
    with pytest.raises(ConfigurationError, match="with a time zone"):
        sleep_until(dt.datetime(2030, 1, 1), then="x")
    with pytest.raises(ConfigurationError, match="or seconds since the epoch"):
        sleep_until(True, then="x")
    for when in (
        math.nan,
        math.inf,
        253_402_300_800,
        dt.datetime.max.replace(tzinfo=dt.timezone(-dt.timedelta(hours=1))),
    ):
        with pytest.raises(ConfigurationError, match="in the years 1 to 9999"):
            sleep_until(when, then="x")
    with pytest.raises(ConfigurationError, match="the name of a signal"):
        wait_for("", then="x")
    with pytest.raises(ConfigurationError, match="timeout"):
        wait_for("go", then="x", timeout=0)  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="and vice versa"):
        wait_for("go", then="x", on_timeout="y")  # type: ignore[call-overload]


@pytest.mark.parametrize("timeout", [100, 0.1, dt.timedelta(days=3)])
def test_a_timeout_needs_a_state(timeout: float | dt.timedelta) -> None:
    """An approval that times out is not granted: a wait with a timeout says what follows then."""
    with pytest.raises(ConfigurationError, match="timeout= needs on_timeout="):
        wait_for("approved", then="pay", timeout=timeout)  # type: ignore[call-overload]


async def test_closing_with_waiters(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A kernel that closes tells who waits for a parked run; the run goes on waiting, in the store."""
    handle = await waiter.park(kernel)
    waiting = [asyncio.ensure_future(handle.result()), asyncio.ensure_future(kernel.run(waiter.flow(), run_id="r"))]
    await world.settle()
    await kernel.close()
    for one in waiting:
        with pytest.raises(RunInterruptedError, match="the kernel closed before run r ended"):
            await one
    assert (await world.look("r")).status is RunStatus.PARKED


async def test_closing_though_the_store_hangs(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """A store that does not answer who looks for a parked run's signal cannot hold up the close for long."""
    load = world.faults(kernel).at_call("load", None).hang()
    await waiter.park(kernel)
    await load.reached()
    closing = asyncio.ensure_future(kernel.close())
    await world.clock.advance(2)
    await closing


async def test_giving_up_waiting_does_not_stop_the_run(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """Who stops waiting for a parked run leaves it parked."""
    waiting = asyncio.ensure_future(kernel.run(waiter.flow(), run_id="r"))
    await world.clock.advance(3)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await world.look("r")).status is RunStatus.PARKED


async def test_a_wait_takes_no_time_of_the_step(kernel: Kernel, world: World, waiter: Waiter) -> None:
    """Data that was written before the wait is in the store while the run waits."""
    await waiter.park(kernel)
    assert (await kernel.history("r"))[-1].changed == {"asked": True}
