"""A wait lasts until it is over: a run that ended while it waited, and a fork of one that waited, wait again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunCancelledError,
    RunHandle,
    RunStatus,
    RunTimeoutError,
    SerializationError,
    Standstill,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Transition,
    Wait,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano_durability.keeper import Keeper
from cano_memory import MemoryBackend

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

START = 1_700_000_000.0
"""The time at which a test begins."""


class Payout:
    """A workflow that pays after an approval, and stores the name in it."""

    def __init__(self) -> None:
        self.pause: Any = wait_for("approved", then="pay")
        self.asked = 0
        self.paid: list[Any] = []
        self.fails = False

    async def ask(self, store: Any) -> Any:
        """Wait."""
        self.asked += 1
        store["asked"] = True
        return self.pause

    async def pay(self, store: Any) -> str:
        """Pay, or fail."""
        self.paid.append(current_step().payload)
        if self.fails:
            raise ValueError("the bank is closed")
        store["by"] = current_step().payload
        return "done"

    async def late(self, store: Any) -> str:
        """Give up."""
        return "expired"

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("ask", name="payout", default_config=TaskConfig.minimal())
        flow.register("ask", self.ask).register("pay", self.pay).register("late", self.late)
        return flow.add_exit_states(["done", "expired"])

    async def start(self, kernel: Kernel, world: World, timeout: float | None = None) -> RunHandle:
        """Start the run `r`, and let it come as far as it can."""
        handle = await kernel.start(self.flow(), run_id="r", timeout=timeout)
        await world.settle()
        return handle


@pytest.fixture
def payout() -> Payout:
    """A payout."""
    return Payout()


# a run that ended while it waited


async def overdue(kernel: Kernel, world: World, payout: Payout) -> None:
    """Let the run `r` fail by its timeout of 60 s while it waits."""
    await payout.start(kernel, world, timeout=60)
    await world.clock.advance(60)
    assert (await world.look("r")).status is RunStatus.FAILED


async def test_resuming_a_run_whose_time_was_over(kernel: Kernel, world: World, payout: Payout) -> None:
    """A run that failed by its timeout while it waited waits again when it is resumed, for as long as at first."""
    await overdue(kernel, world, payout)
    await world.clock.advance(1000)
    other = await world.kernel()
    assert (await other.explain("r")).detail.endswith("it was in state pay; resumed, it waits again")
    resuming = asyncio.ensure_future(other.resume(payout.flow(), "r"))
    await world.settle()
    record = await world.look("r")
    assert (record.status, record.seq, record.holder, record.error) == (RunStatus.PARKED, 1, None, None)
    assert record.wait == Wait("pay", "approved", until=world.clock.time() + 60)
    assert (await other.explain("r")).reason is Standstill.WAITING_FOR_SIGNAL
    assert payout.paid == []

    assert await other.signal("r", "approved", "Ada")
    assert (await resuming).data == {"asked": True, "by": "Ada"}
    assert (payout.asked, payout.paid) == (1, ["Ada"])


async def test_it_may_fail_again(kernel: Kernel, world: World, payout: Payout) -> None:
    """A resumed run fails by its timeout while it waits, without a caller that awaits it; it can be resumed again."""
    await overdue(kernel, world, payout)
    for _ in range(2):
        waiter = asyncio.ensure_future(kernel.resume(payout.flow(), "r"))
        await world.settle()
        waiter.cancel()
        await world.clock.advance(59)
        assert (await world.look("r")).status is RunStatus.PARKED
        await world.clock.advance(2)
        record = await world.look("r")
        assert (record.status, (record.error or {})["type"]) == (RunStatus.FAILED, "RunTimeoutError")
    assert payout.paid == []


async def test_resuming_at_once(kernel: Kernel, world: World, payout: Payout) -> None:
    """Who hears that the run has failed can resume it at once: this kernel does not execute it any more."""
    handle = await payout.start(kernel, world, timeout=60)
    ending = asyncio.ensure_future(handle.result())
    await world.settle()
    faults = world.faults(kernel)
    load = faults.at_call("load").hang()
    await world.clock.advance(2)
    await load.reached()
    commit = faults.at_call("commit", after=True).hang()
    await world.clock.advance(58)
    await commit.reached()
    assert (await world.look("r")).status is RunStatus.FAILED
    load.release()
    await world.settle()
    assert not ending.done()
    commit.release()
    with pytest.raises(RunTimeoutError):
        await ending
    resuming = asyncio.ensure_future(kernel.resume(payout.flow(), "r"))
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    await kernel.signal("r", "approved", "Ada")
    assert (await resuming).data["by"] == "Ada"


async def test_a_kernel_that_was_asked_once_looks_after_it(kernel: Kernel, world: World, payout: Payout) -> None:
    """The kernel that resumed it takes its signal from another process, even if its caller did not wait for that."""
    await overdue(kernel, world, payout)
    await world.crash(kernel)
    other, sender = await world.kernel(), await world.kernel()
    resuming = asyncio.ensure_future(other.resume(payout.flow(), "r"))
    await world.settle()
    resuming.cancel()
    await world.settle()
    await sender.signal("r", "approved", "Ada")
    await world.clock.advance(2)
    assert (await world.look("r")).status is RunStatus.SUCCEEDED


async def test_a_signal_to_a_run_that_failed(kernel: Kernel, world: World, payout: Payout) -> None:
    """A signal that comes after the timeout does not resume the run; once it is resumed, the signal counts."""
    await overdue(kernel, world, payout)
    assert await kernel.signal("r", "approved", "Ada")
    await world.clock.advance(10)
    assert (await world.look("r")).status is RunStatus.FAILED
    assert (await kernel.resume(payout.flow(), "r")).data["by"] == "Ada"


async def test_a_late_signal_is_not_lost(kernel: Kernel, world: World, payout: Payout) -> None:
    """A signal that came before anybody noticed the deadline is too late, and counts when the run is resumed."""
    await payout.start(kernel, world, timeout=60)
    await world.crash(kernel)
    other = await world.kernel()
    await world.clock.advance(61)
    await other.signal("r", "approved", "Ada")
    (handle,) = await other.recover(payout.flow())
    with pytest.raises(RunTimeoutError):
        await handle.result()
    assert payout.paid == []
    assert (await other.resume(payout.flow(), "r")).data["by"] == "Ada"


@pytest.mark.parametrize(
    ("pause", "state", "paid"),
    [
        (wait_for("approved", then="pay", timeout=100, on_timeout="late"), "expired", []),
        (sleep_until(START + 100, then="pay"), "done", [None]),
    ],
)
async def test_the_time_of_the_wait_stays(
    kernel: Kernel, world: World, payout: Payout, pause: Any, state: str, paid: list[Any]
) -> None:
    """A resumed wait ends at its own time, as if the run had not failed in between."""
    payout.pause = pause
    await overdue(kernel, world, payout)
    resuming = asyncio.ensure_future(kernel.resume(payout.flow(), "r"))
    await world.clock.advance(START + 99 - world.clock.time())
    assert (await world.look("r")).status is RunStatus.PARKED
    await world.clock.advance(1)
    assert ((await resuming).state, payout.paid) == (state, paid)


async def test_a_wait_that_is_over(kernel: Kernel, world: World, payout: Payout) -> None:
    """A run that failed after its wait does not wait again: it keeps the payload."""
    payout.fails = True
    handle = await payout.start(kernel, world, timeout=60)
    await kernel.signal("r", "approved", "Ada")
    with pytest.raises(TaskError):
        await handle.result()
    payout.fails = False
    assert "waits again" not in (await kernel.explain("r")).detail
    assert (await (await world.kernel()).resume(payout.flow(), "r")).data["by"] == "Ada"
    assert payout.paid == ["Ada", "Ada"]


async def test_a_run_that_an_earlier_version_parked(kernel: Kernel, world: World, payout: Payout) -> None:
    """The timeout of a run without a wait beside its data loses its wait as little."""
    await payout.start(kernel, world, timeout=60)
    record = await world.look("r")
    own = {name: value for name, value in record.own.items() if name != "wait"}
    assert len(own) < len(record.own)
    await world.store(kernel).backend.create(record._replace(run_id="older", own=own))
    await world.clock.advance(60)
    (handle,) = await kernel.recover(payout.flow())
    with pytest.raises(RunTimeoutError):
        await handle.result()
    resuming = asyncio.ensure_future(kernel.resume(payout.flow(), "older"))
    await world.settle()
    assert (await world.look("older")).wait == Wait("pay", "approved", until=world.clock.time() + 60)
    await kernel.signal("older", "approved", "Ada")
    assert (await resuming).data["by"] == "Ada"


async def test_a_child_that_ended_with_its_parent(kernel: Kernel, world: World, payout: Payout) -> None:
    """A child that was cancelled with its parent while it waited waits again when the parent is resumed."""
    parent: Workflow[Any] = Workflow("call", name="parent", default_config=TaskConfig.minimal())
    parent.register("call", SubWorkflow(payout.flow(), outputs={"by": "by"}, then="end")).add_exit_state("end")
    handle = await kernel.start(parent, run_id="p", timeout=60)
    await world.settle()
    (child,) = await kernel.runs(parent="p")
    await world.clock.advance(60)
    with pytest.raises(RunTimeoutError):
        await handle.result()
    assert (await world.look(child.run_id)).status is RunStatus.CANCELLED

    resuming = asyncio.ensure_future(kernel.resume(parent, "p"))
    await world.settle()
    assert (await world.look(child.run_id)).status is RunStatus.PARKED
    assert payout.paid == []
    await kernel.signal(child.run_id, "approved", "Ada")
    await world.clock.advance(2)
    assert (await resuming).data["by"] == "Ada"
    assert payout.asked == 1


async def test_cancelling_what_cannot_be_read(kernel: Kernel, world: World, payout: Payout) -> None:
    """A run whose wait cannot be read can be cancelled. That leaves what it has beside its data as it is."""
    await payout.start(kernel, world)
    assert isinstance(kernel.keeper, Keeper)
    record = await world.look("r")
    damaged = {**record.own, "wait": kernel.keeper.stored.values.encode("wait", "nonsense")}
    await world.store(kernel).backend.create(record._replace(run_id="d", own=damaged))
    assert (await kernel.explain("d")).reason is Standstill.UNREADABLE
    with pytest.raises(SerializationError, match="run d is corrupt: its wait cannot be read"):
        await kernel.fork("d", 1, "f")
    assert await kernel.cancel("d")
    after = await world.look("d")
    assert (after.status, after.own) == (RunStatus.CANCELLED, damaged)
    with pytest.raises(RunCancelledError):
        await kernel.run(payout.flow(), run_id="d")


# forks


async def test_a_fork_at_a_parked_step(kernel: Kernel, world: World, payout: Payout) -> None:
    """A fork at a transition that parked the run waits for a signal of its own, also when the run is long over."""
    handle = await payout.start(kernel, world)
    await kernel.fork("r", 1, "during")
    await kernel.signal("r", "approved", "Ada")
    await handle.result()
    await kernel.fork("r", 2, "ended")
    assert ((await world.look("ended")).status, (await world.look("ended")).wait) == (RunStatus.RUNNING, None)
    await kernel.fork("r", 1, "after")
    await kernel.fork("after", 1, "of the fork")
    for fork in ("during", "after", "of the fork"):
        record = await world.look(fork)
        assert (record.status, record.wait, record.payload) == (RunStatus.PARKED, Wait("pay", "approved"), None)
        resuming = asyncio.ensure_future(kernel.resume(payout.flow(), fork))
        await world.settle()
        assert (await world.look(fork)).status is RunStatus.PARKED
        await kernel.signal(fork, "approved", f"somebody else, {fork}")
        assert (await resuming).data["by"] == f"somebody else, {fork}"
    assert payout.paid == ["Ada", *(f"somebody else, {fork}" for fork in ("during", "after", "of the fork"))]
    assert payout.asked == 1


async def test_a_fork_of_a_wait_that_led_to_the_end(kernel: Kernel, world: World, payout: Payout) -> None:
    """The wait may have led to an exit state: the fork is not approved by that."""
    payout.pause = wait_for("approved", then="done")
    handle = await payout.start(kernel, world)
    await kernel.signal("r", "approved", "Ada")
    await handle.result()
    await kernel.fork("r", 1, "f")
    assert (await world.look("f")).wait == Wait("done", "approved")


@pytest.mark.parametrize("forks_late", [False, True])
async def test_the_times_of_a_forked_wait(kernel: Kernel, world: World, payout: Payout, forks_late: bool) -> None:
    """The timeout of a wait begins again with the fork; a time that the task named stays."""
    payout.pause = wait_for("approved", then="pay", timeout=10, on_timeout="late")
    await payout.start(kernel, world)
    await world.clock.advance(15 if forks_late else 5)
    await kernel.fork("r", 1, "f")
    assert (await world.look("f")).wait == Wait("pay", "approved", world.clock.time() + 10, "late")
    await kernel.fork("f", 1, "g")
    assert (await world.look("g")).wait == (await world.look("f")).wait

    payout.pause = sleep_until(START + 60, then="pay")
    handle = await kernel.start(payout.flow(), run_id="sleeps")
    await world.clock.advance(90 if forks_late else 30)
    await kernel.fork("sleeps", 1, "dreams")
    assert (await world.look("dreams")).wait == Wait("pay", until=START + 60)
    await kernel.recover(payout.flow())
    await world.clock.advance(60)
    assert (await world.look("dreams")).status is RunStatus.SUCCEEDED
    assert (await handle.result()).state == "done"


async def test_a_fork_at_a_step_that_a_signal_led_to(kernel: Kernel, world: World, payout: Payout) -> None:
    """A step that a signal led to has its payload in a fork, too, and in a fork of that: without a wait."""
    hold = world.faults(kernel).at_call("create", after=True).hang()
    starting = asyncio.ensure_future(kernel.start(payout.flow(), run_id="early"))
    await hold.reached()
    await kernel.signal("early", "approved", "Ada")
    hold.release()
    await (await starting).result()

    payout.fails = True
    handle = await payout.start(kernel, world)
    await kernel.signal("r", "approved", "Bob")
    with pytest.raises(TaskError):
        await handle.result()
    payout.fails = False
    for run_id, by in (("early", "Ada"), ("r", "Bob")):
        await kernel.fork(run_id, 1, f"{run_id} 1")
        await kernel.fork(f"{run_id} 1", 1, f"{run_id} 2")
        for fork in (f"{run_id} 2", f"{run_id} 1"):
            assert (await kernel.resume(payout.flow(), fork)).data["by"] == by
            assert "payload" not in "".join((await world.look(fork)).data)
    await kernel.fork("early", 2, "ended")
    assert (await kernel.resume(payout.flow(), "ended")).data["by"] == "Ada"


async def test_a_fork_of_a_run_that_failed_while_it_waited(kernel: Kernel, world: World, payout: Payout) -> None:
    """The fork of a run that failed by its timeout while it waited waits, with time of its own."""
    await overdue(kernel, world, payout)
    await world.clock.advance(500)
    await kernel.fork("r", 1, "f")
    assert (await world.look("f")).wait == Wait("pay", "approved", until=world.clock.time() + 60)


async def test_a_fork_that_waits_to_retry(kernel: Kernel, world: World) -> None:
    """A run that is parked until its next attempt does not wait for anything: its fork attempts the step at once."""

    class Later:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1000.0

    fails = True

    async def work(store: Any) -> str:
        if fails:
            raise ValueError("not yet")
        return "end"

    flow: Workflow[Any] = Workflow("work", name="late", default_config=TaskConfig(retry=Later()))
    flow.register("work", work).add_exit_state("end")
    await kernel.start(flow, run_id="r")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    fails = False
    await kernel.fork("r", 0, "f")
    assert (await kernel.resume(flow, "f")).state == "end"


async def test_a_fork_names_its_origin(kernel: Kernel, world: World, payout: Payout) -> None:
    """The first entry of a fork's history, and `explain`, name the run and the transition that it was forked from."""
    handle = await payout.start(kernel, world)
    await kernel.signal("r", "approved")
    await handle.result()
    await kernel.fork("r", 0, "f")
    await kernel.fork("r", 1, "g")
    assert (await kernel.explain("f")).detail == "in state ask, forked from run r after transition 0"
    assert (await kernel.explain("g")).detail == "'approved', then pay, forked from run r after transition 1"
    resuming = asyncio.ensure_future(kernel.resume(payout.flow(), "f"))
    await world.settle()
    assert (await kernel.explain("f")).detail == "'approved', then pay, forked from run r after transition 0"
    await kernel.signal("f", "approved")
    await resuming
    await kernel.fork("f", 2, "of f")

    async def origins(run_id: str) -> list[Any]:
        return [entry.origin for entry in await kernel.history(run_id)]

    assert await origins("r") == [None, None, None]
    assert await origins("f") == [("r", 0), None, None]
    assert await origins("g") == [("r", 1)]
    assert await origins("of f") == [("f", 2)]
    assert list((await kernel.history("g"))[0].changed) == ["asked"]


async def test_forks_of_a_family(kernel: Kernel, world: World, payout: Payout) -> None:
    """A fork of a parent has a child of its own; a fork of a child is nobody's child."""
    parent: Workflow[Any] = Workflow("call", name="parent", default_config=TaskConfig.minimal())
    parent.register("call", SubWorkflow(payout.flow(), outputs={"by": "by"}, then="end")).add_exit_state("end")
    await kernel.start(parent, run_id="p")
    await world.settle()
    (child,) = await kernel.runs(parent="p")
    await kernel.fork("p", 0, "q")
    await kernel.fork(child.run_id, 1, "orphan")
    resuming = asyncio.ensure_future(kernel.resume(parent, "q"))
    await world.settle()
    (other,) = await kernel.runs(parent="q")
    assert (other.run_id, payout.asked) != (child.run_id, 1)
    await kernel.signal(other.run_id, "approved", "Ada")
    await world.clock.advance(2)
    assert (await resuming).data["by"] == "Ada"
    assert (await world.look(child.run_id)).status is RunStatus.PARKED
    assert ((await world.look("orphan")).parent, (await world.look("orphan")).status) == (None, RunStatus.PARKED)
    assert await kernel.check() == []


async def test_two_forks_onto_one_id(kernel: Kernel, world: World, payout: Payout) -> None:
    """Of two forks onto one id at the same time, from two kernels, one is made, and the other one is refused."""
    await payout.start(kernel, world)
    other = await world.kernel()
    forks = [kernel.fork("r", 0, "f"), other.fork("r", 1, "f"), kernel.fork("r", 1, "f")]
    made = await asyncio.gather(*forks, return_exceptions=True)
    refused = [each for each in made if isinstance(each, ConfigurationError)]
    assert [str(each) for each in refused] == ["the run id 'f' is in use; fork to another"] * 2
    assert len(await kernel.history("f")) == 1


async def test_a_fork_onto_a_run_that_no_store_keeps(kernel: Kernel, world: World, payout: Payout) -> None:
    """The id of a run that lives only in this kernel is in use, too."""
    await payout.start(kernel, world)
    gate = asyncio.Event()

    async def work(store: Any) -> str:
        await gate.wait()
        return "end"

    flow: Workflow[Any] = Workflow("work", name="brief").register("work", work).add_exit_state("end")
    handle = await kernel.start(flow, run_id="f", keep=False)
    with pytest.raises(ConfigurationError, match="the run id 'f' is in use"):
        await kernel.fork("r", 0, "f")
    gate.set()
    await handle.result()
    assert await kernel.fork("r", 0, "f") == "f"


class Forgetful(MemoryBackend):
    """A store whose history has no waits, like that of an earlier version."""

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> list[Transition]:
        """Leave out the waits."""
        return [
            entry._replace(own={name: value for name, value in entry.own.items() if name != "wait"})
            for entry in await super().history_page(run_id, after, limit)
        ]


async def test_a_history_without_waits(payout: Payout) -> None:
    """A wait that an earlier version kept nowhere cannot be forked once it is over: that is refused, and says so."""
    async with Kernel(store=Forgetful(strict=True)) as kernel:
        handle = await kernel.start(payout.flow(), run_id="r")
        await handle._run.ended()
        await kernel.fork("r", 1, "during")
        assert (await kernel.explain("during")).reason is Standstill.WAITING_FOR_SIGNAL
        await kernel.signal("r", "approved")
        await handle.result()
        with pytest.raises(ConfigurationError, match="parked run r at transition 1 and kept no wait in the history"):
            await kernel.fork("r", 1, "after")
        assert await kernel.fork("r", 0, "before") == "before"
