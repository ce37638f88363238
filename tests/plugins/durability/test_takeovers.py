"""Takeovers: a step that kills its process is counted in the store, and is not started for ever."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Commit,
    ConfigurationError,
    ConflictError,
    JoinConfig,
    JoinStrategy,
    RunStatus,
    StepKilledError,
    StoreUnavailableError,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    wait_for,
)
from cano.engine.ports import new_holder
from cano_durability.keeper import Keeper
from cano_durability.keys import TAKEOVERS
from cano_retry import Fixed

from tests.plugins.durability.conftest import LEASE

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Killer:
    """A workflow whose second step hangs, so that the test can kill its kernel, until `cured`.

    Attributes:
        began: how often that step has begun.
        reached: set whenever it begins.
    """

    def __init__(self) -> None:
        self.began = 0
        self.reached = asyncio.Event()
        self.cured = False

    async def first(self, store: Any) -> str:
        """Lead to the second step."""
        return "second"

    async def second(self, store: Any) -> str:
        """Hang."""
        self.began += 1
        self.reached.set()
        if not self.cured:
            await asyncio.Event().wait()
        return "end"

    def flow(self, **options: Any) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("first", name="killer", **options)
        return flow.register("first", self.first).register("second", self.second).add_exit_state("end")

    async def killed(self, world: World, flow: Workflow[Any], run_id: str = "r") -> None:
        """Let a new kernel execute the run, and kill it in the second step."""
        kernel = await world.kernel()
        self.reached.clear()
        await kernel.start(flow, run_id=run_id)
        await self.reached.wait()
        await world.crash(kernel)
        await world.lapse()


@pytest.fixture
def killer() -> Killer:
    """A workflow that hangs."""
    return Killer()


async def test_a_step_that_kills_its_process_is_given_up(world: World, killer: Killer) -> None:
    """After `max_takeovers` the run fails, with an error that counts the killed processes; `resume` tries again."""
    flow = killer.flow(max_takeovers=2)
    for _ in range(3):
        await killer.killed(world, flow)
    kernel = await world.kernel()
    with pytest.raises(StepKilledError, match="the step in state second killed 3 processes") as caught:
        await kernel.run(flow, run_id="r")
    assert (caught.value.kills, caught.value.state, killer.began) == (3, "second", 3)
    assert (await world.look("r")).status is RunStatus.FAILED
    assert "killed 3 processes" in (await kernel.explain("r")).detail
    assert [(finding.kind, finding.detail) for finding in await kernel.check()] == [
        ("killed processes", "state second killed 3")
    ]
    with pytest.raises(StepKilledError) as stored:
        await (await world.kernel()).run(flow, run_id="r")
    assert stored.value.kills == 3

    killer.cured = True
    assert (await kernel.resume(flow, "r")).state == "end"
    assert await kernel.check() == []


@pytest.mark.parametrize("first", ["killer", "neighbour"])
async def test_a_neighbour_of_a_killer_is_not_taken_for_it(world: World, first: str) -> None:
    """Runs that were killed together until their takeovers were used up are tried apart, so only the killer fails."""
    began: list[str] = []
    gates = {run_id: asyncio.Event() for run_id in ("a", "b")}

    async def work(store: Any) -> str:
        began.append(current_step().run_id)
        await gates[began[-1]].wait()
        return "end"

    flow: Workflow[Any] = Workflow("work", name="works", max_takeovers=2).add_exit_state("end").register("work", work)
    for _ in range(2):
        kernel = await world.kernel()
        for run_id in gates:
            await kernel.start(flow, run_id=run_id)
        await world.settle()
        await world.crash(kernel)
        await world.lapse()
    assert sorted(began) == ["a", "a", "b", "b"]

    kernel = await world.kernel()
    await kernel.recover(flow)
    for _ in range(3):
        await world.clock.advance(1)
    (alone,) = began[4:]
    (other,) = gates.keys() - {alone}
    assert "which 2 processes did not survive" in (await kernel.explain(other)).detail
    if first == "killer":
        await world.crash(kernel)
        await world.lapse()
        kernel = await world.kernel()
        await kernel.recover(flow)
    else:
        gates[alone].set()
    gates[other].set()
    for _ in range(3):
        await world.clock.advance(1)
    assert began[5:] == [other]
    assert (await world.look(other)).status is RunStatus.SUCCEEDED
    ended = RunStatus.FAILED if first == "killer" else RunStatus.SUCCEEDED
    assert (await world.look(alone)).status is ended


async def test_a_failed_run_with_an_odd_count_can_be_resumed(world: World, killer: Killer) -> None:
    """A run that is resumed counts from the start, so what its record says about killed processes is not read."""
    flow = killer.flow(max_takeovers=0)
    await killer.killed(world, flow)
    kernel = await world.kernel()
    with pytest.raises(StepKilledError):
        await kernel.run(flow, run_id="r")
    assert isinstance(kernel.keeper, Keeper)
    backend, now, record = world.store(kernel).backend, world.clock.time(), await world.look("r")
    token = await backend.claim("r", "an editor", now, now + 1)
    assert token is not None
    own = kernel.keeper.stored.values.encode_own({TAKEOVERS: "many"}, "r")
    await backend.commit(
        Commit("r", token, record.seq, record.seq, record.state, record.status, error=record.error, own=own,
               release=True, at=now)
    )  # fmt: skip
    killer.cured = True
    assert (await kernel.resume(flow, "r")).state == "end"


async def test_a_child_has_no_last_chance_to_wait_for(world: World) -> None:
    """A parent that is executed as its last chance does not keep its own child waiting."""
    hang = asyncio.Event()

    async def inner(store: Any) -> str:
        await hang.wait()
        return "end"

    child: Workflow[Any] = Workflow("inner", name="inner", max_takeovers=1).add_exit_state("end")
    child.register("inner", inner)
    flow: Workflow[Any] = Workflow("outer", name="outer", max_takeovers=1).add_exit_state("end")
    flow.register("outer", SubWorkflow(child, then="end"))
    kernel = await world.kernel()
    await kernel.start(flow, run_id="p")
    await world.settle()
    await world.crash(kernel)
    await world.lapse()
    hang.set()
    other = await world.kernel()
    assert isinstance(other.keeper, Keeper)
    backend, now = world.store(other).backend, world.clock.time()
    token = await backend.claim("p", "an editor", now, now + 1)
    assert token is not None
    own = other.keeper.stored.values.encode_own({TAKEOVERS: 1}, "p")
    await backend.commit(Commit("p", token, 0, 0, "outer", RunStatus.RUNNING, own=own, release=True, at=now))
    await other.recover(flow)
    for _ in range(3):
        await world.clock.advance(1)
    assert (await world.look("p")).status is RunStatus.SUCCEEDED


async def test_resuming_counts_from_the_start(world: World, killer: Killer) -> None:
    """A run that failed so, and was resumed, may again be taken over that often."""
    flow = killer.flow(max_takeovers=0)
    await killer.killed(world, flow)
    kernel = await world.kernel()
    with pytest.raises(StepKilledError):
        await kernel.run(flow, run_id="r")
    killer.reached.clear()
    resuming = asyncio.ensure_future(kernel.resume(flow, "r"))
    await killer.reached.wait()
    await world.crash(kernel)
    await asyncio.gather(resuming, return_exceptions=True)
    await world.lapse()
    with pytest.raises(StepKilledError) as caught:
        await (await world.kernel()).run(flow, run_id="r")
    assert (caught.value.kills, killer.began) == (1, 2)


async def test_a_transition_ends_the_count(world: World, killer: Killer) -> None:
    """Each step is counted by itself: a run of many steps may be taken over any number of times."""

    async def again(store: Any) -> str:
        killer.began += 1
        killer.reached.set()
        if killer.began % 2:
            await asyncio.Event().wait()
        killer.reached.clear()
        return "again" if killer.began < 8 else "end"

    flow: Workflow[Any] = Workflow("again", name="many", max_takeovers=1).register("again", again)
    flow.add_exit_state("end")
    for _ in range(4):
        kernel = await world.kernel()
        await kernel.start(flow, run_id="r")
        await world.settle()
        await world.crash(kernel)
        await world.lapse()
    result = await (await world.kernel()).run(flow, run_id="r")
    assert (result.steps, killer.began) == (4, 8)
    assert "takeovers" not in (await world.look("r")).own


async def test_what_is_seen_between_two_takeovers(world: World, killer: Killer) -> None:
    """`explain` counts the processes; `check` reports a step that several did not survive."""
    flow = killer.flow()
    for _ in range(3):
        await killer.killed(world, flow)
    kernel = await world.kernel()
    assert (await kernel.explain("r")).detail == "in state second, which 2 processes did not survive"
    assert ("killed processes", "state second killed 2") in [
        (finding.kind, finding.detail) for finding in await kernel.check()
    ]


async def test_a_closed_kernel_does_not_count(world: World, killer: Killer) -> None:
    """A kernel that closes releases its runs: none of them was left."""
    flow = killer.flow(max_takeovers=0)
    for _ in range(3):
        kernel = await world.kernel()
        killer.reached.clear()
        await kernel.start(flow, run_id="r")
        await killer.reached.wait()
        await world.close(kernel)
    killer.cured = True
    assert (await (await world.kernel()).run(flow, run_id="r")).state == "end"
    assert killer.began == 4


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a process, and wait until it stands still."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process of this machine that is not killed by its step."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("stopped", [True, False])
async def test_a_stopped_process_is_not_counted(
    world: World, killer: Killer, sleeper: subprocess.Popen[bytes], stopped: bool
) -> None:
    """A process that was stopped has lost its lease, but not by its step; one that hangs is as good as killed."""
    flow = killer.flow(max_takeovers=0)
    kernel = await world.kernel()
    assert isinstance(kernel.keeper, Keeper)
    kernel.keeper.stored.holder = new_holder().replace(f":{os.getpid()}@", f":{sleeper.pid}@")
    if stopped:
        stop(sleeper)
    await kernel.start(flow, run_id="r")
    await killer.reached.wait()
    await world.crash(kernel)
    killer.cured = True
    running = asyncio.ensure_future((await world.kernel()).run(flow, run_id="r"))
    await world.clock.advance(3 * LEASE)
    if stopped:
        assert (await running).state == "end"
    else:
        with pytest.raises(StepKilledError, match="killed 1 processes, or they lost its lease"):
            await running


async def test_a_kernel_that_was_cut_off_is_not_counted(world: World, killer: Killer) -> None:
    """It continues its own run after the store was away for longer than the lease."""
    flow = killer.flow(max_takeovers=0)
    kernel = await world.kernel()
    handle = await kernel.start(flow, run_id="r")
    await killer.reached.wait()
    away = True

    def fail(subject: Any) -> None:
        if away:
            raise StoreUnavailableError("it is away")

    for call in ("renew", "release"):
        world.faults(kernel).at_call(call, None).do(fail)
    await world.clock.advance(2 * LEASE)
    with pytest.raises(ConflictError, match="it could not be renewed in time"):
        await handle.result()
    away, killer.cured = False, True
    assert (await kernel.run(flow, run_id="r")).state == "end"


async def test_a_release_in_the_last_moment_is_not_counted(
    world: World, killer: Killer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel that closes while another one claims its run was not killed."""
    flow = killer.flow(max_takeovers=0)
    kernel, other = await world.kernel(), await world.kernel()
    await kernel.start(flow, run_id="r")
    await killer.reached.wait()
    killer.cured = True
    claim = world.store(other).claim

    async def late(*arguments: Any) -> int | None:
        await world.close(kernel)
        return await claim(*arguments)

    monkeypatch.setattr(world.store(other), "claim", late)
    assert (await other.run(flow, run_id="r")).state == "end"


async def test_without_a_limit(world: World, killer: Killer) -> None:
    """None lets a step be started for ever."""
    flow = killer.flow(max_takeovers=None)
    for _ in range(12):
        await killer.killed(world, flow)
    killer.cured = True
    assert (await (await world.kernel()).run(flow, run_id="r")).state == "end"


async def test_a_child_is_to_blame_and_not_its_parent(world: World, killer: Killer) -> None:
    """The child's step is counted; its parent fails with it, without another attempt."""
    child = killer.flow(max_takeovers=2)
    parent: Workflow[Any] = Workflow("call", name="parent", max_takeovers=0)
    parent.register("call", SubWorkflow(child, then="end"), config=TaskConfig(on_exhausted="end"))
    parent.add_exit_state("end")
    for _ in range(3):
        await killer.killed(world, parent)
    kernel = await world.kernel()
    with pytest.raises(StepKilledError) as caught:
        await kernel.run(parent, run_id="r")
    assert (caught.value.kills, caught.value.workflow, killer.began) == (3, "killer", 3)
    assert {record.status for record in await kernel.runs()} == {RunStatus.FAILED}

    killer.cured = True
    assert (await kernel.resume(parent, "r")).state == "end"


async def test_a_parent_is_not_counted_for_its_child(world: World, killer: Killer) -> None:
    """The processes that a child has killed are none of its parent's, not even after the child's end."""
    child = killer.flow()
    parent: Workflow[Any] = Workflow("call", name="parent", max_takeovers=0).add_exit_state("end")
    reached = asyncio.Event()

    async def call(store: Any) -> str:
        following: str = await SubWorkflow(child, then="end").run(store)
        reached.set()
        await asyncio.Event().wait()
        return following

    parent.register("call", call)
    for _ in range(3):
        await killer.killed(world, parent)
    killer.cured = True
    kernel = await world.kernel()
    await kernel.start(parent, run_id="r")
    await reached.wait()
    await world.crash(kernel)
    await world.lapse()
    with pytest.raises(StepKilledError) as caught:
        await (await world.kernel()).run(parent, run_id="r")
    assert caught.value.kills == 1


async def test_a_parked_child_does_not_excuse_the_other_branches(world: World, killer: Killer) -> None:
    """A child that waits executes nothing: the branch beside it is to blame. But a parent that only waits is not."""
    asks: Workflow[Any] = Workflow("ask", name="asks").register("ask", ask).add_exit_state("end")
    branches: list[Any] = [SubWorkflow(asks, then="end"), killer.second]
    parent: Workflow[Any] = Workflow("split", name="parent", max_takeovers=1).add_exit_state("end")
    parent.register_split("split", branches, JoinConfig(JoinStrategy.all(), "end"))
    waits: Workflow[Any] = Workflow("call", name="waits", max_takeovers=1).add_exit_state("end")
    waits.register("call", SubWorkflow(asks, then="end"))
    for _ in range(2):
        kernel = await world.kernel()
        await kernel.start(waits, run_id="w")
        await kernel.start(parent, run_id="r")
        await killer.reached.wait()
        killer.reached.clear()
        while len([run for run in await kernel.runs(workflow="asks") if run.status is RunStatus.PARKED]) < 2:
            await world.settle()
        await world.crash(kernel)
        await world.lapse()
    kernel = await world.kernel()
    handles = [await kernel.start(waits, run_id="w"), await kernel.start(parent, run_id="r")]
    await world.settle()
    assert [handle.status().status for handle in handles] == [RunStatus.PARKED, RunStatus.FAILED]
    assert killer.began == 2


async def test_a_cancelled_commit_does_not_keep_the_count(world: World, killer: Killer) -> None:
    """A split ends while a branch's failed attempt is stored: the count ends with it all the same."""
    fails = asyncio.Event()

    async def branch(store: Any) -> None:
        await fails.wait()
        raise ValueError("not yet")

    flow: Workflow[Any] = Workflow("split", name="late").register("second", killer.second).add_exit_state("end")
    config, join = (
        TaskConfig(retry=Fixed(3, 0), on_exhausted="second"),
        JoinConfig(JoinStrategy.all(), "end", timeout=5),
    )
    flow.register_split("split", [branch], join, config=config)
    await (first := await world.kernel()).start(flow, run_id="r")
    await world.settle()
    await world.crash(first)
    await world.lapse()
    kernel = await world.kernel()
    await kernel.start(flow, run_id="r")
    assert TAKEOVERS in (await world.look("r")).own
    commit = world.faults(kernel).at_call("commit").hang()
    fails.set()
    await commit.reached()
    await world.clock.advance(5)
    await killer.reached.wait()
    record = await world.look("r")
    assert (record.state, TAKEOVERS in record.own) == ("second", False)


async def ask(store: Any) -> Any:
    """Wait for an answer."""
    return wait_for("answer", then="end")


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "3"])
def test_a_limit_that_is_none(wrong: Any) -> None:
    """It is a whole number, 0 or more, or None."""
    with pytest.raises(ConfigurationError, match="max_takeovers must be a whole number, 0 or more, or None"):
        Workflow("a", max_takeovers=wrong)
