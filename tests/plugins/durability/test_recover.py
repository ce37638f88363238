"""Taking over what others left: leases, their end, and who may still commit."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    ConflictError,
    Kernel,
    RunInterruptedError,
    RunResult,
    RunStatus,
    StoreUnavailableError,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

LEASE = 30.0


class Counter:
    """A run of `steps` steps that each count one up; a step may be held up."""

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.did: list[tuple[str, int]] = []
        self.hold_at: int | None = None
        self.held = asyncio.Event()
        self.gate = asyncio.Event()

    async def count(self, store: Any) -> str:
        """Count one up."""
        step = current_step()
        self.did.append((step.run_id, step.seq))
        if step.seq == self.hold_at:
            self.held.set()
            await self.gate.wait()
        store["n"] = store.get("n", default=0) + 1
        return "count" if store["n"] < self.steps else "end"

    def flow(self, name: str = "counter") -> Workflow[str]:
        """Its workflow."""
        return Workflow("count", name=name).register("count", self.count).add_exit_state("end")

    async def hold(self, kernel: Kernel, *run_ids: str, at: int = 2) -> Workflow[str]:
        """Start runs and stop them in a step."""
        flow = self.flow()
        self.hold_at = at
        for run_id in run_ids:
            self.held.clear()
            await kernel.start(flow, run_id=run_id)
            await self.held.wait()
        return flow

    def go(self) -> None:
        """Hold nobody any more, and let go who is held."""
        self.hold_at = None
        self.gate.set()


@pytest.fixture
def counter() -> Counter:
    """A counter."""
    return Counter()


def done(run_id: str, n: int = 3) -> RunResult:
    """What such a run comes to."""
    return RunResult(run_id, "end", {"n": n}, n)


async def test_runs_of_a_closed_kernel(kernel: Kernel, world: World, counter: Counter) -> None:
    """A closed kernel frees its leases at once: another takes over all its runs, each from its last commit."""
    flow = await counter.hold(kernel, "a", "b")
    await kernel.close()
    counter.go()
    other = await world.kernel()
    handles = await other.recover(flow)
    assert sorted(handle.run_id for handle in handles) == ["a", "b"]
    assert [await handle.result() for handle in handles] == [done(handle.run_id) for handle in handles]
    assert sorted(counter.did) == [("a", 1), ("a", 2), ("a", 2), ("a", 3), ("b", 1), ("b", 2), ("b", 2), ("b", 3)]


@pytest.mark.parametrize("in_time", [True, False])
async def test_closing_lets_runs_finish_within_grace(world: World, counter: Counter, in_time: bool) -> None:
    """A run that ends within the grace is not interrupted; one that does not is, and its lease is free at once."""
    kernel = await world.kernel(grace=5)
    flow = await counter.hold(kernel, "a")
    handle = await kernel.start(flow, run_id="a")
    closing = asyncio.ensure_future(kernel.close())
    await world.clock.advance(4)
    assert not closing.done()
    if in_time:
        counter.go()
        assert await handle.result() == done("a")
    else:
        await world.clock.advance(1)
        with pytest.raises(RunInterruptedError):
            await handle.result()
    await closing
    record = await world.look("a")
    assert record.holder is None
    assert record.status is (RunStatus.SUCCEEDED if in_time else RunStatus.RUNNING)


async def test_runs_of_a_dead_kernel(kernel: Kernel, world: World, counter: Counter) -> None:
    """The runs of a dead holder are taken over when its lease has lapsed, and not a moment before."""
    flow = await counter.hold(kernel, "a")
    await world.crash(kernel)
    counter.go()
    other = await world.kernel()
    assert await other.recover(flow) == []
    await world.clock.advance(LEASE - 1)
    assert counter.did == [("a", 1), ("a", 2)]
    await world.clock.advance(2)  # having been asked to, it goes on looking
    assert await (await other.start(flow, run_id="a")).result() == done("a")
    assert counter.did == [("a", 1), ("a", 2), ("a", 2), ("a", 3)]
    assert [line.seq for line in await other.history("a")] == [0, 1, 2, 3]


async def test_only_what_it_was_asked_for(kernel: Kernel, world: World, counter: Counter) -> None:
    """`recover` takes the runs of the workflows that it is given, and leaves failed and finished ones alone."""
    await counter.hold(kernel, "a")
    await kernel.close()
    counter.go()
    other = await world.kernel()
    assert await other.recover(counter.flow("another")) == []
    await world.clock.advance(5)
    assert (await world.look("a")).seq == 1


async def test_workflows_that_cannot_be_told_apart(kernel: Kernel, world: World, counter: Counter) -> None:
    """Two workflows of one name, such as that of a shared enum, are refused, and no run is taken over; so are none."""
    await counter.hold(kernel, "a")
    await kernel.close()
    other, flow = await world.kernel(), counter.flow()
    for refused, message in (((flow, counter.flow()), "two of these workflows have the name"), ((), "no workflow is")):
        with pytest.raises(ConfigurationError, match=message):
            await other.recover(*refused)
    await world.clock.advance(5)
    assert (await world.look("a")).seq == 1
    counter.go()
    assert len(await other.recover(flow, flow)) == 1


async def test_one_run_is_taken_once(kernel: Kernel, world: World, counter: Counter) -> None:
    """Of several kernels that recover at the same moment one gets each run."""
    flow = await counter.hold(kernel, *"abcdef")
    await kernel.close()
    counter.go()
    others = [await world.kernel() for _ in range(3)]
    got = await asyncio.gather(*(other.recover(flow) for other in others))
    handles = [handle for taken in got for handle in taken]
    assert sorted(handle.run_id for handle in handles) == [*"abcdef"]
    for handle in handles:
        assert await handle.result() == done(handle.run_id)
    assert all(counter.did.count((run_id, 3)) == 1 for run_id in "abcdef")


async def test_one_broken_run_does_not_stop_the_others(
    kernel: Kernel, world: World, counter: Counter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot go on is reported once, however often it is looked at; the others go on."""
    monkeypatch.setattr("cano_durability.recovery.groups.MOST_ODD", -1)  # one by one; test_groups.py has groups
    flow = await counter.hold(kernel, *"abc")
    await kernel.close()
    counter.go()
    other = await world.kernel()
    faults = world.faults(other)

    def break_it(run_id: str) -> None:
        if run_id == "b":
            raise RuntimeError("the row is a mess")

    faults.at_call("load", None).do(break_it)
    with caplog.at_level(logging.ERROR):
        handles = await other.recover(flow)
        await world.clock.advance(5)
    assert sorted(handle.run_id for handle in handles) == ["a", "c"]
    for handle in handles:
        assert await handle.result() == done(handle.run_id)
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["run b cannot continue: the row is a mess"]


async def test_few_errors_are_remembered(
    kernel: Kernel, world: World, counter: Counter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that meets runs for months that it cannot continue remembers the newest of them."""
    monkeypatch.setattr("cano_durability.recovery.caretaker.LOGGED", 2)
    monkeypatch.setattr("cano_durability.recovery.groups.MOST_ODD", -1)
    flow = await counter.hold(kernel, *"abcde")
    await kernel.close()
    other = await world.kernel()
    world.faults(other).at_call("load", None).fail(RuntimeError("the row is a mess"))
    assert await other.recover(flow) == []
    keeper: Any = other.keeper
    assert len(keeper._caretaker._logged) == 2


async def test_leases_are_renewed(kernel: Kernel, world: World, counter: Counter) -> None:
    """A run keeps its lease for as long as its holder is alive, however long a step takes."""
    flow = await counter.hold(kernel, "a")
    other = await world.kernel()
    await other.recover(flow)
    for _ in range(10):
        await world.clock.advance(LEASE / 2)
        record = await world.look("a")
        assert record.expires is not None
        assert record.expires > world.clock.time() + LEASE / 2
        assert record.token == 1
    assert counter.did == [("a", 1), ("a", 2)]
    counter.go()
    handle = await kernel.start(flow, run_id="a")
    assert await handle.result() == done("a")


async def test_a_store_that_is_away_for_a_moment(
    kernel: Kernel, world: World, counter: Counter, caplog: pytest.LogCaptureFixture
) -> None:
    """A failed renewal is tried again in time; the run keeps its lease."""
    world.faults(kernel).at_call("renew", 2).fail(StoreUnavailableError("away"))
    flow = await counter.hold(kernel, "a")
    await world.clock.advance(3 * LEASE)
    assert "the leases could not be renewed: StoreUnavailableError('away'); retrying" in caplog.text
    counter.go()
    assert await (await kernel.start(flow, run_id="a")).result() == done("a")
    assert (await world.look("a")).token == 1


async def test_a_stale_commit_is_refused(kernel: Kernel, world: World, counter: Counter) -> None:
    """A holder that was away while its lease lapsed cannot commit: one line of history, made by its successor."""
    world.faults(kernel).at_call("renew", None).hang()  # frozen, as by SIGSTOP
    flow = await counter.hold(kernel, "a")
    stale = await kernel.start(flow, run_id="a")
    await world.lapse()
    counter.hold_at = None
    other = await world.kernel()
    (taken,) = await other.recover(flow)
    assert await taken.result() == done("a")
    before = await other.history("a")

    counter.go()
    with pytest.raises(ConflictError, match="run a lost its lease: it could not be renewed in time") as caught:
        await stale.result()
    assert caught.value.run_id == "a"
    assert stale.status().status is RunStatus.INTERRUPTED
    assert await other.history("a") == before
    assert [(line.seq, line.changed) for line in before] == [(0, {}), (1, {"n": 1}), (2, {"n": 2}), (3, {"n": 3})]
    assert counter.did == [("a", 1), ("a", 2), ("a", 2), ("a", 3)]
    assert (await other.run(flow, run_id="a")) == done("a")


async def test_a_lost_lease_ends_the_run_here(kernel: Kernel, world: World, counter: Counter) -> None:
    """A holder whose renewals are not answered stops before its lease expires, and says why."""
    renew = world.faults(kernel).at_call("renew", None).hang()
    flow = await counter.hold(kernel, "a")
    stale = await kernel.start(flow, run_id="a")
    await world.lapse()
    other = await world.kernel()
    await other.recover(flow)  # its step is held up too
    renew.release()
    await world.settle()
    with pytest.raises(ConflictError, match="run a lost its lease: it could not be renewed in time"):
        await stale.result()
    assert stale.status().status is RunStatus.INTERRUPTED
    assert kernel.active == {}
    counter.go()
    assert await (await other.start(flow, run_id="a")).result() == done("a")


async def test_a_lapsed_lease_that_nobody_took(kernel: Kernel, world: World, counter: Counter) -> None:
    """A holder that cannot renew stops its run before the lease expires, although no other process wants it."""
    renew = world.faults(kernel).at_call("renew").hang()
    flow = await counter.hold(kernel, "a")
    await world.clock.advance(LEASE * 0.79)
    assert "a" in kernel.active
    await world.clock.advance(LEASE * 0.02)
    assert "a" not in kernel.active
    assert [run.status for run in await kernel.runs()] == [RunStatus.INTERRUPTED]
    renew.release()
    counter.go()
    assert await (await kernel.start(flow, run_id="a")).result() == done("a")


async def test_a_run_that_ends_while_its_lease_is_renewed(kernel: Kernel, world: World, counter: Counter) -> None:
    """A renewal that finds a run gone that has ended meanwhile, or was parked and taken up again, does no harm."""
    flow = await counter.hold(kernel, "a")
    renew = world.faults(kernel).at_call("renew").hang()
    await world.clock.advance(LEASE / 2)
    await renew.reached()
    commit = world.faults(kernel).at_call("commit", 2, after=True).hang()
    handle = await kernel.start(flow, run_id="a")
    counter.go()
    await commit.reached()  # the run's last commit is in the store, and its lease is free; nobody here knows yet
    renew.release()
    await world.settle()
    commit.release()
    assert await handle.result() == done("a")


@pytest.fixture(params=["claim", "claim_ready"])
def call(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The call by which runs are claimed: one by one, or in groups."""
    if request.param == "claim":
        monkeypatch.setattr("cano_durability.recovery.groups.MOST_ODD", -1)
    return str(request.param)


async def test_what_happens_between_a_look_and_the_claim(
    kernel: Kernel, world: World, counter: Counter, call: str
) -> None:
    """A run that somebody else has driven on meanwhile is taken from where it stands by then, not from before."""
    flow = await counter.hold(kernel, "a", at=2)
    await kernel.close()
    counter.hold_at = 3
    counter.held.clear()
    slow, quick = await world.kernel(), await world.kernel()
    claim = world.faults(slow).at_call(call).hang()
    late = asyncio.ensure_future(slow.recover(flow))
    await claim.reached()  # it has seen the run in its second step
    await quick.recover(flow)
    await counter.held.wait()
    await quick.close()  # in its third
    counter.go()
    claim.release()
    (handle,) = await late
    assert await handle.result() == done("a")
    assert counter.did == [("a", 1), ("a", 2), ("a", 2), ("a", 3), ("a", 3)]
    assert [line.seq for line in await slow.history("a")] == [0, 1, 2, 3]


async def test_a_wait_that_began_between_a_look_and_the_claim(kernel: Kernel, world: World, call: str) -> None:
    """A run that somebody else has driven into a wait meanwhile is left there: its wait is not skipped."""
    hold = asyncio.Event()

    async def first(store: Any) -> str:
        await hold.wait()
        return "second"

    async def second(store: Any) -> Any:
        return wait_for("go", then="third")

    async def third(store: Any) -> str:
        store["payload"] = current_step().payload
        return "end"

    flow: Workflow[Any] = Workflow("first", name="waits").register("first", first).register("second", second)
    flow.register("third", third).add_exit_state("end")
    await kernel.start(flow, run_id="a")
    await world.settle()
    await kernel.close()
    hold.set()
    slow, quick = await world.kernel(), await world.kernel()
    claim = world.faults(slow).at_call(call).hang()
    late = asyncio.ensure_future(slow.recover(flow))
    await claim.reached()  # it has seen the run in its first step
    await quick.recover(flow)
    await world.settle()
    claim.release()
    assert await late == []
    record = await world.look("a")
    assert (record.status, record.state, record.holder) == (RunStatus.PARKED, "third", None)
    await quick.signal("a", "go", 7)
    assert (await quick.run(flow, run_id="a")).data == {"payload": 7}


@pytest.mark.parametrize("call", ["load", "claim", "claim_ready", "commit"])
async def test_closing_while_taking_over(
    kernel: Kernel, world: World, counter: Counter, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that closes while it takes a run over lets go of it: no task, no lease, and another one finishes it."""
    if call in ("load", "claim"):
        monkeypatch.setattr("cano_durability.recovery.groups.MOST_ODD", -1)
    flow = await counter.hold(kernel, "a")
    await kernel.close()
    counter.go()
    other = await world.kernel(plugins=[])
    nth = 2 if call == "load" else 1
    fault = world.faults(other).at_call(call, nth, after=call.startswith("claim")).hang()
    taking = asyncio.ensure_future(other.recover(flow))
    await fault.reached()
    closing = asyncio.ensure_future(other.close())
    await world.settle()
    fault.release()
    await closing
    await asyncio.gather(taking, return_exceptions=True)
    third = await world.kernel()
    await world.lapse()
    assert await third.run(flow, run_id="a") == done("a")


async def test_nothing_is_left_of_a_closed_kernel(kernel: Kernel, world: World, counter: Counter) -> None:
    """Closing ends every task of a kernel, whether it ran, waited or looked after things; and frees every lease."""
    before = asyncio.all_tasks()
    other = await world.kernel()
    flow = await counter.hold(other, "a", "b")
    waiting = asyncio.ensure_future(other.run(flow, run_id="a"))
    await other.recover(flow)
    await world.clock.advance(LEASE)
    await other.close()
    with pytest.raises(RunInterruptedError):
        await waiting
    assert asyncio.all_tasks() == before
    assert {(await world.look(run_id)).holder for run_id in "ab"} == {None}
    with pytest.raises(StoreUnavailableError, match="this kernel was closed"):
        await other.run(flow, run_id="a")
