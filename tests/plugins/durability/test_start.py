"""Starting a run under an id: idempotent, whatever has become of the run of that id."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConcurrentWorkflow,
    ConfigurationError,
    Kernel,
    Limit,
    RunCancelledError,
    RunResult,
    RunStatus,
    SerializationError,
    SubWorkflow,
    TaskError,
    Workflow,
    current_step,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class S(enum.Enum):
    """States."""

    A = 1
    B = 2
    DONE = 3


class Machine:
    """Two steps that count what they do; the second one does what it is told."""

    def __init__(self) -> None:
        self.did: list[str] = []
        self.fails = False
        self.waits = False
        self.gate: asyncio.Event | None = None

    async def a(self, store: Any) -> S:
        """Write something."""
        self.did.append(f"a{current_step().seq}")
        store["a"] = 1
        return S.B

    async def b(self, store: Any) -> S:
        """Fail, wait, or write something."""
        self.did.append(f"b{current_step().seq}")
        if self.fails:
            raise ValueError("no")
        if self.gate is not None:
            await self.gate.wait()
        store["b"] = store["a"] + 1
        return wait_for("go", then=S.DONE) if self.waits else S.DONE

    def flow(self, name: str = "flow") -> Workflow[S]:
        """Its workflow."""
        return Workflow(S.A, name=name).register(S.A, self.a).register(S.B, self.b).add_exit_state(S.DONE)


@pytest.fixture
def machine() -> Machine:
    """A machine."""
    return Machine()


END = {"x": 0, "a": 1, "b": 2}


async def test_finished(kernel: Kernel, world: World, machine: Machine) -> None:
    """The id of a run that has succeeded gives its result again, without a step, here and elsewhere."""
    flow = machine.flow()
    result = await kernel.run(flow, {"x": 0}, run_id="r")
    assert result == RunResult("r", S.DONE, END, 2)
    assert await kernel.run(flow, {"x": 9}, run_id="r") == result
    assert await (await kernel.start(flow, run_id="r")).result() == result
    assert await (await world.kernel()).run(flow, run_id="r") == result
    assert machine.did == ["a1", "b2"]


async def test_failed(kernel: Kernel, machine: Machine) -> None:
    """The id of a run that has failed raises its error again, with the cause as a note; no step is made."""
    machine.fails = True
    with pytest.raises(TaskError, match="'b' failed: ValueError: no") as first:
        await kernel.run(machine.flow(), run_id="r")
    machine.fails = False
    with pytest.raises(TaskError, match="'b' failed: ValueError: no") as again:
        await kernel.run(machine.flow(), run_id="r")

    assert isinstance(first.value.__cause__, ValueError)
    assert (again.value.run_id, again.value.state, again.value.attempt) == ("r", "B", 1)
    assert "caused by ValueError: no" in again.value.__notes__
    assert machine.did == ["a1", "b2"]


async def test_cancelled(kernel: Kernel, machine: Machine) -> None:
    """The id of a run that was cancelled says so again."""
    machine.waits = True
    handle = await kernel.start(machine.flow(), run_id="r")
    await kernel.cancel("r")
    with pytest.raises(RunCancelledError):
        await handle.result()
    with pytest.raises(RunCancelledError, match="run r was cancelled"):
        await kernel.run(machine.flow(), run_id="r")


async def test_running_here(kernel: Kernel, machine: Machine) -> None:
    """The id of a run that this kernel drives joins it: one run, one result."""
    machine.gate = asyncio.Event()
    flow = machine.flow()
    first = await kernel.start(flow, {"x": 0}, run_id="r")
    second = await kernel.start(flow, {"x": 9}, run_id="r")
    third = asyncio.ensure_future(kernel.run(flow, run_id="r"))
    machine.gate.set()
    assert await first.result() == await second.result() == await third == RunResult("r", S.DONE, END, 2)
    assert machine.did == ["a1", "b2"]


async def test_running_elsewhere(kernel: Kernel, world: World, machine: Machine) -> None:
    """The id of a run that another kernel drives waits for its end there."""
    machine.gate = asyncio.Event()
    flow = machine.flow()
    here = await kernel.start(flow, {"x": 0}, run_id="r")
    there = asyncio.ensure_future((await world.kernel()).run(flow, {"x": 9}, run_id="r"))
    await world.clock.advance(3)
    assert not there.done()
    machine.gate.set()
    result = await here.result()
    await world.clock.advance(1)
    assert await there == result == RunResult("r", S.DONE, END, 2)
    assert machine.did == ["a1", "b2"]


async def test_parked(kernel: Kernel, machine: Machine) -> None:
    """The id of a parked run waits with it."""
    machine.waits = True
    flow = machine.flow()
    first = await kernel.start(flow, {"x": 0}, run_id="r")
    await first._run.ended()
    second = asyncio.ensure_future(kernel.run(flow, run_id="r"))
    await kernel.signal("r", "go")
    assert await first.result() == await second == RunResult("r", S.DONE, END, 2)
    assert machine.did == ["a1", "b2"]


@pytest.mark.parametrize("apart", [False, True])
async def test_two_at_once(kernel: Kernel, world: World, machine: Machine, apart: bool) -> None:
    """Of two starts at the same moment one makes the run, and both get its result: in one kernel and in two."""
    other = await world.kernel() if apart else kernel
    flow = machine.flow()
    both = asyncio.gather(kernel.run(flow, {"x": 0}, run_id="r"), other.run(flow, {"x": 0}, run_id="r"))
    await world.clock.advance(2)
    assert [*await both] == [RunResult("r", S.DONE, END, 2)] * 2
    assert machine.did == ["a1", "b2"]
    assert [line.seq for line in await kernel.history("r")] == [0, 1, 2]


async def test_an_id_of_another_workflow(kernel: Kernel, machine: Machine) -> None:
    """The id of a run of another workflow is refused, while that one runs and when it has ended."""
    machine.gate = asyncio.Event()
    handle = await kernel.start(machine.flow("one"), run_id="r")
    with pytest.raises(
        ConfigurationError, match="the run id 'r' is in use: it belongs to a run of workflow 'one', not 'two'"
    ):
        await kernel.start(machine.flow("two"), run_id="r")
    machine.gate.set()
    await handle.result()
    with pytest.raises(
        ConfigurationError, match="the run id 'r' is in use: it belongs to a run of workflow 'one', not 'two'"
    ):
        await kernel.run(machine.flow("two"), run_id="r")


async def test_the_data_of_the_start_is_kept(kernel: Kernel, world: World, machine: Machine) -> None:
    """The first data is in the store before the first step, as it was at that moment."""
    machine.gate = asyncio.Event()
    given: dict[str, Any] = {"list": [1]}
    await kernel.start(machine.flow(), given, run_id="r")
    given["list"].append(2)
    first = (await kernel.history("r"))[0]
    assert (first.seq, first.state, first.changed) == (0, "A", {"list": [1]})
    record = await world.look("r")
    assert record.status is RunStatus.RUNNING
    assert record.token == 1


async def test_data_that_cannot_be_kept(kernel: Kernel, world: World, machine: Machine) -> None:
    """Data that the codec refuses starts no run; the error names the key and the type."""
    with pytest.raises(SerializationError, match=r"key 'lock': .*object") as caught:
        await kernel.run(machine.flow(), {"lock": object()}, run_id="r")
    assert caught.value.key == "lock"
    assert caught.value.actual is object
    assert await world.find("r") is None


async def test_data_that_is_no_mapping(kernel: Kernel, machine: Machine) -> None:
    """An object as data has no place in a durable store."""
    with pytest.raises(ConfigurationError, match="must be a mapping, not of type object"):
        await kernel.run(machine.flow(), object())


async def test_runs_without_an_id_are_kept_too(kernel: Kernel, machine: Machine) -> None:
    """In a durable store every run is kept, also one that was given no id."""
    result = await kernel.run(machine.flow(), {"x": 0})
    assert [run.run_id for run in await kernel.runs()] == [result.run_id]
    assert await kernel.run(machine.flow(), run_id=result.run_id) == result


async def test_a_run_that_starts_in_an_exit_state(kernel: Kernel, world: World) -> None:
    """Each call that stores it ends it, in one commit without a lease; no limit delays it."""
    flow = Workflow(S.DONE, name="at once", limit=Limit(1, scope="store")).add_exit_state(S.DONE)
    outer = Workflow("call", name="outer").register("call", SubWorkflow(flow, then="end")).add_exit_state("end")
    assert await kernel.run(flow, {"x": 1}, run_id="run", timeout=1) == RunResult("run", S.DONE, {"x": 1}, 0)
    assert await (await kernel.start(flow, run_id="start")).result() == RunResult("start", S.DONE, {}, 0)
    handle = await kernel.submit(flow, run_id="submit")
    assert await handle.result() == RunResult("submit", "DONE", {}, 0)
    assert [event.kind async for event in handle.events()] == ["transition", "end"]
    assert (await kernel.run(outer, run_id="outer")).state == "end"
    assert (await ConcurrentWorkflow(flow, kernel=kernel).execute_durable([{}, {}], "batch")).completed == 2
    ended = [run for run in await kernel.runs() if run.workflow == "at once"]
    assert len(ended) == 6
    for run in ended:
        record = await world.look(run.run_id)
        assert (record.status, record.seq, record.holder, record.expires) == (RunStatus.SUCCEEDED, 0, None, None)
        assert [entry.status for entry in await kernel.history(run.run_id)] == [RunStatus.SUCCEEDED]
    assert await (await world.kernel()).recover(flow) == []


async def test_a_delayed_run_that_starts_in_an_exit_state(kernel: Kernel, world: World) -> None:
    """It is parked until its time, and a worker then ends it."""
    flow = Workflow(S.DONE, name="at once").add_exit_state(S.DONE)
    handle = await kernel.submit(flow, run_id="later", delay=50)
    assert await kernel.recover(flow) == []
    assert (await kernel.get("later")).status is RunStatus.PARKED
    await world.clock.advance(51)
    assert await handle.result() == RunResult("later", "DONE", {}, 0)
    assert (await world.look("later")).status is RunStatus.SUCCEEDED
