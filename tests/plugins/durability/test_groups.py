"""Runs that are ready are claimed in groups: as many as there are places for, in one call of the store."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from cano import Commit, Kernel, RunStatus, SubWorkflow, Workflow, current_step, wait_for
from cano_durability.keeper import Keeper
from cano_durability.keys import TAKEOVERS

from tests.plugins.durability.conftest import World


class Works:
    """A workflow of which each run waits until it may end, and the runs that have begun."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.flow: Workflow[Any] = Workflow("work", name="works", max_takeovers=3).register("work", self._work)
        self.flow.register("ask", self._ask).add_exit_state("end")

    async def _work(self, store: Any) -> str:
        run_id = current_step().run_id
        self.began.append(run_id)
        await self.gates.setdefault(run_id, asyncio.Event()).wait()
        return "end"

    async def _ask(self, store: Any) -> Any:
        return wait_for("go", then="work")

    async def left(self, world: World, *run_ids: str) -> None:
        """Start runs, and close their kernel."""
        kernel = await world.kernel(grace=0)
        for run_id in run_ids:
            await kernel.start(self.flow, run_id=run_id)
        await world.settle()
        await world.close(kernel)
        self.began.clear()


@pytest.fixture
def works() -> Works:
    """The workflow."""
    return Works()


def calls(world: World, kernel: Kernel) -> tuple[int, int]:
    """How often the kernel has claimed runs one by one, and in groups."""
    counts = world.faults(kernel).calls
    return counts["claim"], counts["claim_ready"]


async def test_all_are_claimed_in_one_call(world: World, works: Works) -> None:
    """Without a limit, all ready runs are claimed at once, and none is loaded again."""
    await works.left(world, *"abcde")
    kernel = await world.kernel()
    loads = world.faults(kernel).calls["load"]
    assert {handle.run_id for handle in await kernel.recover(works.flow)} == set("abcde")
    assert calls(world, kernel) == (0, 1)
    assert world.faults(kernel).calls["load"] == loads


async def test_polls_name_the_workflows(world: World, works: Works, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel asks for the queues of recovered workflows, their children's, and those of runs that it parked."""
    parked = Workflow[Any]("ask", name="parked").register("ask", works._ask).add_exit_state("work")
    parent = Workflow[Any]("sub", name="parent").register("sub", SubWorkflow(works.flow, {}, {}, then="end"))
    kernel, asked = await world.kernel(), list[set[str]]()
    await kernel.recover(parent.add_exit_state("end"))
    backend = kernel.backend
    assert backend is not None
    honest = backend.ready

    async def ready(now: float, workflows: set[str]) -> Any:
        asked.append(workflows)
        return await cast(Any, honest)(now, workflows)

    monkeypatch.setattr(backend, "ready", ready)
    handle = await kernel.start(parked, run_id="one")
    await world.settle()
    await world.clock.advance(kernel.poll)
    await kernel.signal("one", "go")
    assert await handle.result() is not None
    asked.append(set())
    await world.clock.advance(kernel.poll)
    assert [asked[0], asked[-1]] == [{"parent", "works", "parked"}, {"parent", "works"}]


async def test_no_more_are_claimed_than_there_are_places(world: World, works: Works) -> None:
    """A claim asks for as many runs as can be executed; another takes the rest; each end lets one more begin."""
    await works.left(world, *"abcdef")
    kernel, other = await world.kernel(), await world.kernel()
    assert len(await kernel.recover(works.flow, concurrency=2)) == 2
    assert len(await other.recover(works.flow, concurrency=3)) == 3
    assert len(set(works.began)) == 5
    works.gates[works.began[0]].set()
    await world.settle()
    assert set(works.began) == set("abcdef")
    assert calls(world, kernel) == (0, 2)
    assert calls(world, other) == (0, 1)


async def test_a_long_queue_is_not_listed(world: World, works: Works) -> None:
    """While more runs are ready than have places, none of them is listed; what a dead process held is found."""
    await works.left(world, *"abcdef")
    dead, kernel = await world.kernel(), await world.kernel()
    await dead.start(works.flow, run_id="x")
    await world.settle()
    await world.crash(dead)
    await kernel.recover(works.flow, concurrency=2)
    for number in range(1, 4):
        works.gates[works.began[number]].set()
        await world.settle()
    await world.clock.advance(3)
    assert (len(works.began), world.faults(kernel).calls["ready"]) == (6, 0)
    for _ in range(2):
        for gate in [*works.gates.values()]:
            gate.set()
        await world.clock.advance(2 * kernel.lease)
    assert set(works.began) == {*"abcdefx"}


async def test_a_run_that_cannot_continue_is_claimed_once(
    world: World, works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    """It is reported once and released, and the others continue; polls do not claim it again."""
    await works.left(world, *"abc")
    kernel = await world.kernel()
    assert isinstance(kernel.keeper, Keeper)
    backend, now = world.store(kernel).backend, world.clock.time()
    token, record = await backend.claim("b", "an editor", now, now + 1), await world.look("b")
    assert token is not None
    own = kernel.keeper.stored.values.encode_own({TAKEOVERS: "many"}, "b")
    await backend.commit(
        Commit("b", token, record.seq, record.seq, record.state, record.status, own=own, release=True, at=now)
    )
    with caplog.at_level(logging.ERROR):
        handles = await kernel.recover(works.flow, concurrency=3)
        await world.clock.advance(5)

    assert {handle.run_id for handle in handles} == {"a", "c"}
    assert [entry.message for entry in caplog.records if "its number of takeovers" in entry.message] != []
    assert len(caplog.records) == 1
    assert calls(world, kernel) == (0, 2)  # the second for its place
    assert ((await world.look("b")).holder, (await world.look("b")).token) == (None, token + 1)


async def test_expired_leases_are_claimed_one_by_one(world: World, works: Works) -> None:
    """Only this machine can tell whether the holder is alive, so the store does not claim them."""
    kernel = await world.kernel()
    await kernel.start(works.flow, run_id="a")
    await world.settle()
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    assert [handle.run_id for handle in await other.recover(works.flow)] == ["a"]
    assert works.began == ["a", "a"]
    assert calls(world, other) == (1, 1)  # the group found nothing


async def test_another_definition_is_not_claimed(world: World, works: Works) -> None:
    """A run of an older definition keeps its token: whether it can migrate is decided before it is claimed."""
    await works.left(world, "a")
    newer: Workflow[Any] = Workflow("work", name="works", version="2").register("work", works._work)
    newer.add_exit_state("end")
    token = (await world.look("a")).token
    kernel = await world.kernel()
    assert await kernel.recover(newer) == []
    assert calls(world, kernel) == (0, 1)  # the group found nothing
    assert (await world.look("a")).token == token


def second(works: Works, **options: Any) -> Workflow[Any]:
    """A second version of the workflow, in which a state is new."""
    newer: Workflow[Any] = Workflow("work", name="works", version="2", **options).register("work", works._work)
    return newer.register("ask", works._ask).register("more", works._work).add_exit_state("end")


async def test_the_queue_of_another_version_costs_nothing(
    world: World, works: Works, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not read run by run, is reported once, and takes no places of the own runs."""
    kernel = await world.kernel()
    await kernel.submit_many(second(works), [{}] * 20, run_id="other")
    await kernel.submit_many(works.flow, [{}] * 3, run_id="own")
    loads = world.faults(kernel).calls["load"]
    with caplog.at_level(logging.ERROR):
        handles = await kernel.recover(works.flow, concurrency=5)
        await world.clock.advance(20)
    assert {handle.run_id for handle in handles} == set(works.began) == {"own-1", "own-2", "own-3"}
    assert world.faults(kernel).calls["load"] == loads
    (entry,) = caplog.records
    assert "was begun under another definition of workflow 'works':\n  - its version was '2'" in entry.message


async def test_what_another_version_has_parked_is_read_once(world: World, works: Works) -> None:
    """A run that may have migrated is asked for when it becomes ready, and not at each poll; nor is it claimed."""
    newer = second(works)
    first = await world.kernel(grace=0)
    await first.start(newer, run_id="a")
    await world.settle()
    await world.close(first)
    token, kernel = (await world.look("a")).token, await world.kernel()
    opened = world.faults(kernel).calls["load"]
    await kernel.recover(works.flow)
    loads = world.faults(kernel).calls["load"]
    assert loads == opened + 1
    await world.clock.advance(20)
    assert world.faults(kernel).calls["load"] == loads
    assert (await world.look("a")).token == token


async def test_a_version_that_migrates_claims_older_runs_in_one_call(world: World, works: Works) -> None:
    """If it covers every state of theirs; and never runs of a version that `migrate_from` does not name."""
    await works.left(world, *"abc")
    kernel, other = await world.kernel(), await world.kernel()
    await kernel.submit(second(works), run_id="second")
    third = Workflow[Any]("work", name="works", version="3", migrate={}, migrate_from=["1"])
    third.register("work", works._work).register("ask", works._ask).register("less", works._ask).add_exit_state("end")
    assert {handle.run_id for handle in await other.recover(third)} == set("abc")
    assert calls(world, other) == (0, 2)  # the first found none of its own definition
    assert [handle.run_id for handle in await kernel.recover(second(works))] == ["second"]
    await world.clock.advance(5)
    assert sorted(works.began) == [*"abc", "second"]


async def test_an_older_version_releases_what_has_migrated(world: World, works: Works) -> None:
    """The store still lists the run under its first definition, so it is claimed once, refused and not asked again."""
    await works.left(world, "a")
    newer = second(works, migrate={}, migrate_from=["1"])
    first = await world.kernel(grace=0)
    await first.recover(newer)
    await world.settle()
    await world.close(first)
    kernel, last = await world.kernel(), await world.kernel()
    assert await kernel.recover(works.flow) == []
    await world.clock.advance(20)
    loads, token = world.faults(kernel).calls["load"], (await world.look("a")).token
    await world.clock.advance(20)
    assert (world.faults(kernel).calls["load"], (await world.look("a")).token) == (loads, token)
    assert [handle.run_id for handle in await last.recover(newer)] == ["a"]


@pytest.mark.parametrize("after", [False, True])
async def test_a_claim_that_is_cancelled_leaves_no_lease(world: World, works: Works, after: bool) -> None:
    """If the call of the store fails or is cancelled, what it has claimed is released at once."""
    await works.left(world, *"abc")
    kernel = await world.kernel()
    fault = world.faults(kernel).at_call("claim_ready", after=after).hang()
    recovering = asyncio.ensure_future(kernel.recover(works.flow))
    await fault.reached()
    recovering.cancel()
    await asyncio.gather(recovering, return_exceptions=True)
    assert [(await world.look(run_id)).holder for run_id in "abc"] == [None] * 3
    other = await world.kernel()
    assert len(await other.recover(works.flow)) == 3


async def test_a_requested_cancellation_is_seen(world: World, works: Works) -> None:
    """A run that was cancelled while no process executed it does not begin."""
    await works.left(world, *"ab")
    kernel, other = await world.kernel(), await world.kernel()
    hang = world.faults(other).at_call("claim").hang()
    cancelling = asyncio.ensure_future(other.cancel("a"))
    await hang.reached()
    assert [handle.run_id for handle in await kernel.recover(works.flow)] == ["b"]
    assert (await world.look("a")).status is RunStatus.CANCELLED
    hang.release()
    await cancelling
