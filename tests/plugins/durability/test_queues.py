"""Queues of submitted runs: priorities, turns of keys, and workers that serve some queues."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from cano import ConfigurationError, Kernel, Lane, RunStatus, Standstill, Workflow, current_step, wait_for
from cano.testing import FaultyStore
from cano_memory import MemoryBackend

from tests.plugins.durability.conftest import LEASE, POLL, World

BEGUN: list[str] = []


@pytest.fixture(autouse=True)
def nothing_begun() -> None:
    """Forget the steps of earlier tests."""
    BEGUN.clear()


async def work(store: Any) -> str:
    """Note that the step was begun."""
    BEGUN.append(current_step().run_id)
    return "end"


async def hang(store: Any) -> str:
    """Of the run "hangs", do not end at first."""
    BEGUN.append(current_step().run_id)
    if BEGUN == ["hangs"]:
        await asyncio.Event().wait()
    return "end"


async def ask(store: Any) -> Any:
    """Wait for an answer."""
    BEGUN.append(current_step().run_id)
    return wait_for("go", then="work")


flow: Workflow[Any] = Workflow("work", name="work").register("work", work).add_exit_state("end")
hanging: Workflow[Any] = Workflow("hang", name="hanging").register("hang", hang).add_exit_state("end")
waiting: Workflow[Any] = Workflow("ask", name="waiting").register("ask", ask).register("work", work)
waiting.add_exit_state("end")


async def test_runs_begin_by_priority_and_keys_in_turn(world: World, kernel: Kernel) -> None:
    """A worker that executes one run at a time begins them in order; each keeps its place, which `get` shows."""
    for number in range(3):
        await kernel.submit(flow, run_id=f"a{number}", key="a")
    await kernel.submit(flow, run_id="b", key="b")
    await kernel.submit(flow, run_id="first", priority=3)
    await kernel.submit(flow, run_id="last", priority=-1, key="b")
    await kernel.submit_many(flow, [{"n": 1}], run_id="many", key="c", priority=2)
    worker = await world.kernel()
    await worker.recover(flow, concurrency=1)
    while len(BEGUN) < 7:
        await world.clock.advance(POLL)
    assert BEGUN == ["first", "many-1", "a0", "b", "a1", "a2", "last"]
    assert (await kernel.get("last")).lane == Lane("default", -1, "b")
    assert {run.run_id: run.lane for run in await kernel.runs()}["many-1"] == Lane("default", 2, "c")
    claims = worker.required_keeper().claims()
    assert (claims["runs"], claims["refused"]) == (7, 0)


async def test_a_worker_serves_its_queues(world: World, kernel: Kernel) -> None:
    """It begins and takes over runs of its queues only, until another serves the others; a queue is for life."""
    await kernel.submit(waiting, run_id="a", queue="mail")
    await kernel.submit(waiting, run_id="b", queue="slow")
    await kernel.submit(waiting, run_id="c")
    await kernel.start(waiting, run_id="d")
    await world.clock.advance(POLL)
    assert BEGUN == ["d"]
    await world.close(kernel)

    mail = await world.kernel()
    await mail.recover(waiting, queues=["mail"])
    await world.clock.advance(POLL)
    assert BEGUN == ["d", "a"]
    sender = await world.kernel()
    for run_id in ("a", "d"):
        await sender.signal(run_id, "go")
    await world.clock.advance(POLL)
    assert BEGUN == ["d", "a", "a"]
    assert {(await mail.get(run_id)).status for run_id in "ad"} == {RunStatus.SUCCEEDED, RunStatus.PARKED}
    assert dict(await mail.required_keeper().queue_sizes()) == {}

    rest = await world.kernel()
    await rest.recover(waiting, queues=("slow", "default"))
    await world.clock.advance(POLL)
    assert sorted(BEGUN[3:]) == ["b", "c", "d"]


async def test_an_interrupted_run_is_taken_over_in_its_queue(world: World, kernel: Kernel) -> None:
    """After its worker's death, no worker of other queues continues it; one of its own does."""
    dying = await world.kernel()
    await kernel.submit(hanging, run_id="hangs", queue="mail")
    await dying.recover(hanging, queues=["mail"])
    await world.clock.advance(POLL)
    await world.crash(dying)
    await kernel.submit(hanging, run_id="new", queue="mail", priority=9)
    other = await world.kernel()
    await other.recover(hanging, queues=["other"])
    await world.lapse()
    await world.clock.advance(POLL)
    assert BEGUN == ["hangs"]
    mail = await world.kernel()
    await mail.recover(hanging, queues=["mail"], concurrency=1)
    await world.clock.advance(LEASE)
    assert sorted(BEGUN) == ["hangs", "hangs", "new"]
    assert (await kernel.get("hangs")).status is RunStatus.SUCCEEDED


async def test_explain_and_sizes_of_queues(world: World, kernel: Kernel) -> None:
    """`explain` names a run's place, and how many begin before it; a worker knows how many wait in its queues."""
    for number in range(3):
        await kernel.submit(flow, run_id=f"a{number}", queue="mail", key="x", priority=1)
    await kernel.submit(flow, run_id="b", queue="mail", priority=2)
    await kernel.submit(flow, run_id="c")
    found = await kernel.explain("a2")
    assert found.reason is Standstill.QUEUED
    assert found.detail == "in queue mail, priority 1, key 'x'; 3 runs of its lane or a larger priority before it"
    assert (await kernel.explain("c")).detail == "in queue default; 0 runs of its lane or a larger priority before it"
    worker = await world.kernel()
    worker.bind(flow)
    release = world.faults(worker)
    with release.holding():
        sizes = await world.store(
            worker
        ).backend.queue_sizes(  # type: ignore[attr-defined]
            [(run.workflow, run.version, run.fingerprint) for run in await kernel.runs()][:1], 100
        )
    assert sizes == {"mail": 4, "default": 1}


async def test_a_fork_keeps_its_queue(world: World, kernel: Kernel) -> None:
    """A fork has the lane of its run, but is not in the queue."""
    await kernel.submit(flow, run_id="a", queue="mail", key="x", priority=1)
    await kernel.fork("a", 0, "b")
    record = await world.look("b")
    assert (record.lane, record.in_queue) == (Lane("mail", 1, "x"), False)


async def test_an_imported_run_keeps_its_queue(world: World, kernel: Kernel) -> None:
    """A file has the place of its run, also of a delayed one. No worker of the queue executes the copy until asked."""
    await kernel.submit(flow, run_id="a", queue="mail", key="x", priority=1)
    await kernel.submit(flow, run_id="b", queue="mail", delay=POLL / 2)
    for run_id in ("a", "b"):
        file = b"".join([part async for part in kernel.export_run(run_id)])
        assert await kernel.import_run(file, f"copy {run_id}") == f"copy {run_id}"
        copy, record = await world.look(f"copy {run_id}"), await world.look(run_id)
        assert (copy.lane, copy.in_queue, record.in_queue) == (record.lane, False, True)
        plain = await world.kernel(kind=lambda _, faults: FaultyStore(Plain(), faults))
        with pytest.raises(ConfigurationError, match=r"is in the queue 'mail', and the store .* has no `queues`"):
            await plain.import_run(file)
    worker = await world.kernel()
    await worker.recover(flow, queues=["mail"])
    while len(BEGUN) < 2:
        await world.clock.advance(POLL)
    await world.clock.advance(POLL)
    assert sorted(BEGUN) == ["a", "b"]
    for run_id in ("copy a", "copy b"):
        assert (await kernel.resume(flow, run_id)).state == "end"
    assert (await world.look("copy a")).lane == Lane("mail", 1, "x")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queue": "a,b"}, "queue must be"), ({"queue": ""}, "queue must be"), ({"queue": " a"}, "queue must be"),
        ({"queue": "a" * 201}, "queue must be a text of at most 200 bytes"), ({"queue": 3}, "queue must be"),
        ({"priority": 32_001}, "priority must be a whole number from"), ({"priority": 1.5}, "priority must be"),
        ({"key": "a\0"}, "key must be"), ({"key": 7}, "key must be"), ({"key": "é" * 101}, "key must be a text"),
    ],
)  # fmt: skip
async def test_wrong_places_are_refused(kernel: Kernel, options: dict[str, Any], problem: str) -> None:
    """Nothing is stored."""
    with pytest.raises(ConfigurationError, match=problem):
        await kernel.submit(flow, run_id="a", **options)
    with pytest.raises(ConfigurationError, match=problem):
        await kernel.submit_many(flow, [{}], run_id="a", **options)
    if "queue" in options:
        with pytest.raises(ConfigurationError):
            await kernel.recover(flow, queues=[options["queue"]])
    assert await kernel.runs() == []


async def test_wrong_queues_are_refused(kernel: Kernel) -> None:
    """A list of queues is not a text, and not empty."""
    wrongs: list[Any] = ["mail", [], 3]
    for wrong in wrongs:
        with pytest.raises(ConfigurationError, match="queues must be"):
            await kernel.recover(flow, queues=wrong)


class Plain(MemoryBackend):
    """A store without queues, as that of a third party."""

    def __init__(self) -> None:
        super().__init__(strict=True)
        self.capabilities = self.capabilities._replace(queues=False)


async def test_a_store_without_queues_has_one(world: World) -> None:
    """There, runs are submitted and executed as before; a queue, a priority or a key is refused, as is a worker's."""
    kernel = await world.kernel(kind=lambda _, faults: FaultyStore(Plain(), faults))
    places: list[dict[str, Any]] = [{"queue": "mail"}, {"priority": 1}, {"key": "a"}]
    for options in places:
        with pytest.raises(ConfigurationError, match=r"keeps one queue of submitted runs.*; use one with queues"):
            await kernel.submit(flow, run_id="a", **options)
    with pytest.raises(ConfigurationError, match="queues"):
        await kernel.recover(flow, queues=["mail"])
    assert await kernel.runs() == []
    await kernel.submit(flow, run_id="a")
    assert (await kernel.get("a")).lane is None
    assert (await kernel.explain("a")).detail == "0 runs of workflow work queued before it"
    await kernel.recover(flow)
    await world.clock.advance(POLL)
    assert BEGUN == ["a"]
    assert dict(await kernel.required_keeper().queue_sizes()) == {}
