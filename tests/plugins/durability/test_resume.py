"""Resuming one run by its id: what goes on, from where, and what is refused."""

from __future__ import annotations

import asyncio
import enum
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Commit,
    ConflictError,
    Kernel,
    RetryExhaustedError,
    RunCancelledError,
    RunInterruptedError,
    RunNotFoundError,
    RunResult,
    RunStatus,
    SizeLimits,
    TaskConfig,
    TaskError,
    VersionMismatchError,
    Workflow,
    current_step,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class S(enum.Enum):
    """States."""

    A = 1
    B = 2
    DONE = 3


class Thrice:
    """Three attempts, a second apart."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """A second, twice."""
        return 1.0 if attempt < 3 else None


class Machine:
    """Two steps; each notes state, step number, attempt and idempotency key, and the second may fail or hang."""

    def __init__(self) -> None:
        self.did: list[tuple[str, int, int, str]] = []
        self.fails = False
        self.hangs = False

    def note(self) -> None:
        """Note the step."""
        step = current_step()
        self.did.append((step.state.name, step.seq, step.attempt, step.idempotency_key))

    async def a(self, store: Any) -> S:
        """Count."""
        self.note()
        store["n"] = store["n"] + 1
        return S.B

    async def b(self, store: Any) -> S:
        """Count, perhaps."""
        self.note()
        store["n"] = store["n"] + 10
        if self.fails:
            raise ValueError("broken")
        if self.hangs:
            await asyncio.Event().wait()
        return S.DONE

    def flow(self, **options: Any) -> Workflow[S]:
        """Its workflow."""
        flow = Workflow(S.A, name="flow", **options)
        return flow.register(S.A, self.a).register(S.B, self.b).add_exit_state(S.DONE)


@pytest.fixture
def machine() -> Machine:
    """A machine."""
    return Machine()


async def test_a_failed_run_goes_on_from_the_state_that_failed(kernel: Kernel, world: World, machine: Machine) -> None:
    """A repaired program finishes old work: what was done is not done again, and the key of the step is the same."""
    machine.fails = True
    with pytest.raises(TaskError):
        await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    failed = await world.look("r")
    assert (failed.status, failed.state, failed.seq, failed.holder) == (RunStatus.FAILED, "B", 1, None)
    assert failed.error is not None
    assert failed.error == {
        "type": "TaskError", "message": "task 'b' failed: ValueError: broken", "cause": "ValueError: broken",
        "state": "B", "attempt": 1, "place": f"{__file__}:{Machine.b.__code__.co_firstlineno + 5} in b",
    }  # fmt: skip

    machine.fails = False
    other = await world.kernel()
    assert await other.resume(machine.flow(), "r") == RunResult("r", S.DONE, {"n": 11}, 2)
    assert machine.did == [("A", 1, 1, "r:1"), ("B", 2, 1, "r:2"), ("B", 2, 1, "r:2")]
    assert [(line.seq, line.state) for line in await other.history("r")] == [(0, "A"), (1, "B"), (2, "DONE")]
    assert (await world.look("r")).error is None


async def test_a_resumed_run_may_fail_again(kernel: Kernel, machine: Machine) -> None:
    """Resuming a run that is still broken raises what it failed with this time, any number of times."""
    machine.fails = True
    with pytest.raises(TaskError):
        await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    for _ in range(2):
        with pytest.raises(TaskError) as caught:
            await kernel.resume(machine.flow(), "r")
        assert isinstance(caught.value.__cause__, ValueError)
    machine.fails = False
    assert (await kernel.resume(machine.flow(), "r")).data == {"n": 11}


async def test_attempts_begin_anew(kernel: Kernel, world: World, machine: Machine) -> None:
    """A failed step has its whole budget of attempts again when the run is resumed."""
    flow = machine.flow(default_config=TaskConfig(retry=Thrice()))
    machine.fails = True
    handle = await kernel.start(flow, {"n": 0}, run_id="r")
    await world.clock.advance(2)
    with pytest.raises(RetryExhaustedError):
        await handle.result()
    resumed = asyncio.ensure_future(kernel.resume(flow, "r"))
    await world.clock.advance(2)
    with pytest.raises(RetryExhaustedError) as caught:
        await resumed
    assert caught.value.attempts == 3
    assert [attempt for state, _, attempt, _ in machine.did if state == "B"] == [1, 2, 3, 1, 2, 3]


async def test_an_interrupted_run_goes_on(kernel: Kernel, world: World, machine: Machine) -> None:
    """A run that was interrupted by its kernel's close goes on at once, from its last commit."""
    machine.hangs = True
    handle = await kernel.start(machine.flow(), {"n": 0}, run_id="r")
    await world.settle()
    await kernel.close()
    with pytest.raises(RunInterruptedError, match="the kernel closed"):
        await handle.result()
    other = await world.kernel()
    assert [run.status for run in await other.runs()] == [RunStatus.INTERRUPTED]
    assert (await world.look("r")).holder is None
    machine.hangs = False
    assert await other.resume(machine.flow(), "r") == RunResult("r", S.DONE, {"n": 11}, 2)
    assert [step[:2] for step in machine.did] == [("A", 1), ("B", 2), ("B", 2)]


async def test_starting_it_again_does_the_same(kernel: Kernel, world: World, machine: Machine) -> None:
    """Whoever starts an interrupted run again under its id lets it go on."""
    machine.hangs = True
    await kernel.start(machine.flow(), {"n": 0}, run_id="r")
    await world.settle()
    await kernel.close()
    machine.hangs = False
    other = await world.kernel()
    assert await other.run(machine.flow(), {"n": 99}, run_id="r") == RunResult("r", S.DONE, {"n": 11}, 2)


async def test_a_run_that_has_succeeded_returns_its_result(kernel: Kernel, machine: Machine) -> None:
    """There is nothing to resume in a run that has succeeded."""
    result = await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    assert await kernel.resume(machine.flow(), "r") == result
    assert len(machine.did) == 2


async def test_a_cancelled_run_stays_cancelled(kernel: Kernel, world: World, machine: Machine) -> None:
    """A run that was cancelled does not go on."""
    machine.hangs = True
    handle = await kernel.start(machine.flow(), {"n": 0}, run_id="r")
    await world.settle()
    await handle.cancel()
    with pytest.raises(RunCancelledError):
        await kernel.resume(machine.flow(), "r")
    assert (await world.look("r")).data.keys() == {"n"}
    assert len(machine.did) == 2


async def test_a_run_that_is_alive_is_refused(kernel: Kernel, world: World, machine: Machine) -> None:
    """Resuming a run that is alive here or elsewhere is refused, and harms neither the run nor its history."""
    machine.hangs = True
    flow = machine.flow()
    handle = await kernel.start(flow, {"n": 0}, run_id="r")
    await world.settle()
    before = await world.look("r")
    other = await world.kernel()
    with pytest.raises(ConflictError, match=r"run r is held by .*:") as caught:
        await other.resume(machine.flow(), "r")
    assert caught.value.run_id == "r"
    with pytest.raises(ConflictError, match="run r is already executed by this kernel"):
        await kernel.resume(flow, "r")
    assert await world.look("r") == before
    assert len(await other.history("r")) == 2
    assert handle.status().status is RunStatus.RUNNING
    await handle.cancel()


async def test_a_holder_that_died_is_refused_until_its_lease_lapses(
    kernel: Kernel, world: World, machine: Machine
) -> None:
    """Nobody can tell a dead holder from a silent one before its lease has lapsed."""
    machine.hangs = True
    await kernel.start(machine.flow(), {"n": 0}, run_id="r")
    await world.settle()
    await world.crash(kernel)
    machine.hangs = False
    other = await world.kernel()
    with pytest.raises(ConflictError):
        await other.resume(machine.flow(), "r")
    await world.lapse()
    assert (await other.resume(machine.flow(), "r")).data == {"n": 11}


async def test_an_unknown_run(kernel: Kernel, machine: Machine) -> None:
    """There is no run to resume."""
    with pytest.raises(RunNotFoundError, match="the store has no run 'nobody'") as caught:
        await kernel.resume(machine.flow(), "nobody")
    assert caught.value.run_id == "nobody"
    assert isinstance(caught.value, LookupError)


async def test_a_run_of_another_workflow(kernel: Kernel, machine: Machine) -> None:
    """A run goes on under its own workflow only."""
    await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    other = Workflow("x", name="other").register("x", machine.a).add_exit_state("y")  # type: ignore[arg-type]
    with pytest.raises(VersionMismatchError, match="its workflow was named 'flow', this one is 'other'"):
        await kernel.resume(other, "r")


class Loop(enum.Enum):
    """States of a loop."""

    TURN = 1
    CHECK = 2
    DONE = 3


async def test_a_state_visited_again_does_its_work_again(kernel: Kernel, world: World) -> None:
    """After a resume a loop goes on: every turn does its work once, those before and those after the crash."""
    turns: list[tuple[int, str]] = []

    async def turn(store: Any) -> Loop:
        step = current_step()
        store["n"] = store["n"] + 1
        turns.append((step.seq, step.idempotency_key))
        return Loop.CHECK

    async def check(store: Any) -> Loop:
        return Loop.TURN if store["n"] < 5 else Loop.DONE

    flow = Workflow(Loop.TURN).register(Loop.TURN, turn).register(Loop.CHECK, check).add_exit_state(Loop.DONE)
    fault = world.faults(kernel).at_call("commit", 4, after=True).hang()
    await kernel.start(flow, {"n": 0}, run_id="r")
    await fault.reached()
    await world.crash(kernel)
    await world.lapse()
    result = await (await world.kernel()).resume(flow, "r")

    assert result == RunResult("r", Loop.DONE, {"n": 5}, 10)
    assert turns == [(seq, f"r:{seq}") for seq in (1, 3, 5, 7, 9)]


async def test_on_exhausted_keeps_its_error_after_a_crash(kernel: Kernel, world: World) -> None:
    """The state that `on_exhausted` leads to finds the error, also in the process that takes over."""
    seen: list[BaseException | None] = []

    async def breaks(store: Any) -> str:
        raise ValueError("broken")

    async def tidy(store: Any) -> str:
        seen.append(current_step().error)
        return "end"

    flow = Workflow("start", name="tidy").add_exit_state("end").register("tidy", tidy)
    flow.register("start", breaks, config=TaskConfig(on_exhausted="tidy"))
    fault = world.faults(kernel).at_call("commit", after=True).hang()
    await kernel.start(flow, run_id="r")
    await fault.reached()
    await world.crash(kernel)
    await world.lapse()
    await (await world.kernel()).resume(flow, "r")

    assert isinstance(seen[0], TaskError)
    assert (str(seen[0]), seen[0].state) == ("task 'breaks' failed: ValueError: broken", "start")
    assert "caused by ValueError: broken" in seen[0].__notes__
    assert 'in breaks\n    raise ValueError("broken")\nValueError: broken\n' in str(seen[0].traceback)
    assert (await world.look("r")).own == {}


async def test_the_end_of_a_resumed_run_is_in_the_store(kernel: Kernel, world: World, machine: Machine) -> None:
    """A run that crashed after its last commit has nothing left to do: its success is in the store."""
    fault = world.faults(kernel).at_call("commit", 2, after=True).hang()
    await kernel.start(machine.flow(), {"n": 0}, run_id="r")
    await fault.reached()
    await world.crash(kernel)
    other = await world.kernel()
    assert await other.resume(machine.flow(), "r") == RunResult("r", S.DONE, {"n": 11}, 2)
    assert await other.recover(machine.flow()) == []
    assert len(machine.did) == 2


async def test_what_a_resume_asks_of_the_store_does_not_grow(world: World) -> None:
    """However many transitions a run has made, resuming it takes the same few calls."""

    async def turn(store: Any) -> str:
        store["n"] = store["n"] + 1
        return "turn" if store["n"] < store["length"] else "last"

    async def last(store: Any) -> str:
        if fails:
            raise ValueError
        return "end"

    flow = Workflow("turn", name="long").register("turn", turn).register("last", last).add_exit_state("end")
    calls = []
    for length in (10, 1000):
        fails = True
        with pytest.raises(TaskError):
            await (await world.kernel()).run(flow, {"n": 0, "length": length}, run_id=f"r{length}")
        fails = False
        kernel = await world.kernel()
        assert (await kernel.resume(flow, f"r{length}")).steps == length + 1
        calls.append(dict(world.faults(kernel).calls))
    assert calls[0] == calls[1]
    assert sum(calls[0].values()) < 15


# the traceback


async def test_the_traceback_is_kept_until_the_run_goes_on(kernel: Kernel, world: World, machine: Machine) -> None:
    """Another process reads where a task failed, with its source line. A resumed run drops the text with its error."""
    machine.fails = True
    with pytest.raises(TaskError):
        await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    other = await world.kernel()
    with pytest.raises(TaskError) as caught:
        await other.run(machine.flow(), run_id="r")

    text = caught.value.traceback
    assert text is not None
    assert (
        f'File "{__file__}", line {Machine.b.__code__.co_firstlineno + 5}, in b\n    raise ValueError("broken")' in text
    )
    assert text in caught.value.__notes__
    assert "traceback" in (await world.look("r")).own

    await kernel.fork("r", 1, "fork")
    machine.fails = False
    await other.resume(machine.flow(), "r")
    assert [(await world.look(run_id)).own.get("traceback") for run_id in ("r", "fork")] == [None, None]


async def test_a_traceback_that_cannot_be_read_hides_no_error(kernel: Kernel, world: World, machine: Machine) -> None:
    """The run can be asked for, and resumed; only the text is missing."""
    machine.fails = True
    with pytest.raises(TaskError):
        await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    record, backend = await world.look("r"), world.store(kernel)
    token = await backend.claim("r", "damage", world.clock.time(), world.clock.time() + 1)
    assert token is not None
    await backend.commit(
        Commit(
            "r", token, record.seq, record.seq, record.state, record.status, error=record.error, release=True,
            own={"traceback": b"\xc1"},
        )
    )  # fmt: skip
    with pytest.raises(TaskError) as caught:
        await kernel.run(machine.flow(), run_id="r")
    assert caught.value.traceback is None
    machine.fails = False
    assert (await kernel.resume(machine.flow(), "r")).data == {"n": 11}


async def test_a_traceback_is_cut_at_the_limit_of_errors(world: World, machine: Machine) -> None:
    """`SizeLimits.errors` holds for it as for the message."""
    kernel = await world.kernel(limits=SizeLimits(errors=40))
    machine.fails = True
    with pytest.raises(TaskError):
        await kernel.run(machine.flow(), {"n": 0}, run_id="r")
    with pytest.raises(TaskError) as caught:
        await kernel.run(machine.flow(), run_id="r")
    assert str(caught.value.traceback).startswith("Traceback (most recent call last):\n  Fil… (")
