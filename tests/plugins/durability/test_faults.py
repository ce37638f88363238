"""Fault injection: at any call of the store, and at any attempt of a task."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Key,
    Node,
    Retention,
    RunInterruptedError,
    StoreBackend,
    StoreUnavailableError,
    SubWorkflow,
    Task,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    task,
)
from cano.model.code_reading import types_of
from cano.testing import Faults, VirtualClock
from cano_memory import MemoryBackend

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Twice:
    """Two attempts, a second apart."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """A second, once."""
        return 1.0 if attempt < 2 else None


async def one(store: Any) -> str:
    """The first step."""
    store.append("did", f"one {current_step().attempt}")
    return "two"


async def two(store: Any) -> str:
    """The second."""
    store.append("did", f"two {current_step().attempt}")
    return "end"


def flow() -> Workflow[str]:
    """Two steps of two attempts each."""
    made = Workflow("one", name="flow", default_config=TaskConfig(retry=Twice()))
    return made.register("one", one).register("two", two).add_exit_state("end")


# stores


async def test_without_faults(world: World) -> None:
    """A faulty store without faults is the store that it was given, but that it notifies of nothing."""
    kernel = await world.kernel()
    store = world.store(kernel)
    assert isinstance(store, StoreBackend)
    assert store.capabilities == store.backend.capabilities._replace(notify=False)
    assert (await kernel.run(flow(), run_id="r")).data == {"did": ["one 1", "two 1"]}
    assert store.faults.calls["create"] == 1
    assert store.faults.calls["commit"] == 2


async def test_calls_that_not_all_stores_have(world: World) -> None:
    """A faulty store prunes and audits as its store does, and these calls have faults, too."""
    kernel = await world.kernel()
    await kernel.run(flow(), run_id="r")
    faults = [
        world.faults(kernel).at_call(call, after=True).fail(StoreUnavailableError(f"lost: {call}"))
        for call in ("expired", "delete_finished", "audit", "prune_audit")
    ]
    for call in ("expired", "delete_finished"):
        with pytest.raises(StoreUnavailableError, match=f"lost: {call}"):
            await kernel.prune(Retention(on_terminal="delete"))
    assert await kernel.prune(Retention(on_terminal="delete")) == []
    for make in (kernel.audit, lambda: kernel.prune_audit(1)):
        with pytest.raises(StoreUnavailableError, match="lost"):
            await make()
    assert [entry.action for entry in await kernel.audit()] == ["prune", "audit pruned"]
    assert [fault.met for fault in faults] == [1] * 4


@pytest.mark.parametrize("nth", [1, 2])
async def test_the_nth_call_fails(world: World, nth: int) -> None:
    """The nth call from now on fails, and no other; before it was made."""
    kernel = await world.kernel()
    fault = world.faults(kernel).at_call("commit", nth).fail(StoreUnavailableError("gone"))
    assert fault.met == 0
    with pytest.raises(StoreUnavailableError, match="gone"):
        await kernel.run(flow(), run_id="r")
    assert fault.met == 1
    assert (await world.look("r")).seq == nth - 1
    assert (await kernel.resume(flow(), "r")).data == {"did": ["one 1", "two 1"]}


async def test_the_answer_is_lost(world: World) -> None:
    """A fault after the call leaves what the store has done."""
    kernel = await world.kernel()
    world.faults(kernel).at_call("commit", after=True).fail(StoreUnavailableError("lost"))
    with pytest.raises(StoreUnavailableError):
        await kernel.run(flow(), run_id="r")
    assert (await world.look("r")).seq == 1


async def test_every_call(world: World) -> None:
    """`nth=None` means every call."""
    kernel = await world.kernel()
    fault = world.faults(kernel).at_call("load", None).fail(StoreUnavailableError("never"))
    for _ in range(3):
        with pytest.raises(StoreUnavailableError):
            await kernel.explain("r")
    assert fault.met == 3


async def test_delays_and_hangs(world: World) -> None:
    """A delay takes its time from the clock; a hang lasts until it is released."""
    kernel = await world.kernel()
    hang = world.faults(kernel).at_call("commit").hang()
    world.faults(kernel).at_call("commit", 2).delay(5)
    handle = await kernel.start(flow(), run_id="r")
    await hang.reached()
    await world.clock.advance(3)
    assert (await world.look("r")).seq == 0
    hang.release()
    await world.clock.advance(4)
    assert (await world.look("r")).seq == 1
    await world.clock.advance(1)
    assert (await handle.result()).state == "end"


async def test_several_things_in_order(world: World) -> None:
    """A fault does what it was told, in that order, and is given what it was met at."""
    kernel = await world.kernel()
    seen: list[Any] = []
    fault = world.faults(kernel).at_call("commit").do(lambda commit: seen.append(commit.state)).delay(1)
    fault.do(lambda commit: seen.append(world.clock.monotonic())).fail(StoreUnavailableError("then"))
    handle = await kernel.start(flow(), run_id="r")
    await world.clock.advance(1)
    with pytest.raises(StoreUnavailableError, match="then"):
        await handle.result()
    assert seen == ["two", 1]


async def test_crash(world: World) -> None:
    """After a crash nothing reaches the store any more."""
    kernel = await world.kernel()
    gate = asyncio.Event()
    world.faults(kernel).at_call("commit").do(lambda commit: gate.set()).hang()
    handle = await kernel.start(flow(), run_id="r")
    await gate.wait()
    before = await world.look("r")
    await world.crash(kernel)
    with pytest.raises((RunInterruptedError, StoreUnavailableError)):
        await handle.result()
    assert await world.look("r") == before
    assert before.holder is not None


def test_calls_that_there_are_not() -> None:
    """A misspelt call, and a number that is none, are refused."""
    faults = Faults()
    with pytest.raises(ConfigurationError, match="a store has no call 'comit'; it has: open, close, create"):
        faults.at_call("comit")
    for nth in (0, -1, True, 1.5):
        with pytest.raises(ConfigurationError, match="nth counts from 1"):
            faults.at_call("commit", nth)  # type: ignore[arg-type]  # wrong on purpose


# tasks


async def kernel_in_memory(clock: VirtualClock) -> Kernel:
    """A kernel whose time jumps by itself."""
    kernel = Kernel(store=MemoryBackend(), discover=False, clock=clock)
    await kernel.open()
    return kernel


async def test_an_attempt_fails() -> None:
    """An error at (state, attempt) is the task's own: it is retried, and nothing of the attempt is kept."""
    clock = VirtualClock()
    faults = Faults(clock)
    first = faults.at_task("two", attempt=1).fail(TimeoutError("slow"))
    async with await kernel_in_memory(clock) as kernel:
        assert (await kernel.run(faults.into(flow()))).data == {"did": ["one 1", "two 2"]}
        faults.at_task("two", attempt=None).fail(TimeoutError("always"))
        with pytest.raises(TaskError, match="always"):
            await kernel.run(faults.into(flow()))
    assert first.met == 2


async def test_which_time() -> None:
    """`nth` says which time, where a state is visited again, or by several runs."""
    faults = Faults()
    seen: list[int] = []

    async def turn(store: Any) -> str:
        store["n"] = store.get("n", default=0) + 1
        return "turn" if store["n"] < 5 else "end"

    loop = faults.into(Workflow("turn", name="loop").register("turn", turn).add_exit_state("end"))
    faults.at_task("turn", nth=3).do(lambda step: seen.append(step.seq))
    async with Kernel(discover=False) as kernel:
        await kernel.run(loop)
    assert seen == [3]


async def test_a_task_hangs_and_is_delayed() -> None:
    """A hang is ended by the attempt's time limit; a delay takes virtual time."""
    clock = VirtualClock()
    faults = Faults(clock)
    faults.at_task("one").hang()
    faults.at_task("two").delay(100)
    made = Workflow("one", name="flow", default_config=TaskConfig(retry=Twice(), timeout=300))
    made.register("one", one).register("two", two).add_exit_state("end")
    async with await kernel_in_memory(clock) as kernel:
        before = clock.monotonic()
        assert (await kernel.run(faults.into(made))).data == {"did": ["one 2", "two 1"]}
        assert clock.monotonic() - before == 300 + 1 + 100


async def test_every_kind_of_task() -> None:
    """Functions, plain functions, tasks, nodes and branches meet faults alike, with their own configuration."""

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 0.0 if attempt < 2 else None

    config = TaskConfig(retry=Once())

    @task(config=config)
    async def decorated(store: Any) -> str:
        return "plain"

    def plain(store: Any) -> str:
        return "class"

    class Mine(Task[str]):
        async def run(self, store: Any) -> str:
            return "node"

    class MyNode(Node[str, int, int]):
        async def prep(self, store: Any) -> int:
            store["prepared"] = current_step().attempt
            return 1

        async def exec(self, prepared: int) -> int:
            if current_step().attempt < 3:
                raise ValueError
            return 2

        async def post(self, store: Any, prepared: int, result: int) -> str:
            store["result"] = prepared + result
            return "split"

    def branch(store: Any) -> int:
        return 1

    async def other(store: Any) -> int:
        return 2

    class Thrice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 0.0 if attempt < 4 else None

    made: Workflow[Any] = Workflow("decorated", name="kinds", default_config=config)
    made.register("decorated", decorated).register("plain", plain).register("class", Mine())
    made.register("node", MyNode(TaskConfig(retry=Thrice())))
    made.register_split("split", [branch, other], JoinConfig(JoinStrategy.all(), "made"))
    made.register_split("made", lambda store: [other, branch], JoinConfig(JoinStrategy.all(), "child"))
    made.register("child", SubWorkflow(flow(), then="end")).add_exit_state("end")

    faults = Faults()
    states = ("decorated", "plain", "class", "node", "child")
    met = {state: faults.at_task(state).fail(OSError(state)) for state in states}
    met |= {name: faults.at_task("split", branch=name).fail(OSError(name)) for name in ("0:branch", "1:other")}
    met["made"] = faults.at_task("made", branch="1:branch").fail(OSError("made"))
    twin = faults.into(made)
    assert twin.fingerprint() == made.fingerprint()
    assert (twin.name, twin.version) == (made.name, made.version)
    async with Kernel(discover=False) as kernel:
        result = await kernel.run(twin)
        assert {name: fault.met for name, fault in met.items()} == dict.fromkeys(met, 1)
        assert (result.data["prepared"], result.data["result"]) == (2, 3)
        assert (await kernel.run(made)).state == "end"  # the original meets none
    assert sum(fault.met for fault in met.values()) == len(met)


async def test_threads_cannot_wait() -> None:
    """A plain function runs in a thread: an error reaches it, a delay or a hang is refused."""

    def plain(store: Any) -> str:
        return "end"

    for action in ("delay", "hang"):
        faults = Faults()
        fault = faults.at_task("x")
        fault.delay(1) if action == "delay" else fault.hang()
        made = Workflow("x", name="x").register("x", plain).add_exit_state("end")
        async with Kernel(discover=False) as kernel:
            with pytest.raises(TaskError, match=f"a plain function cannot {action}"):
                await kernel.run(faults.into(made))


COUNT = Key("count", int)


async def test_a_twin_knows_the_same_types() -> None:
    """A workflow with faults lets a store build what the original would: runs of one go on under the other."""

    async def uses(store: Any) -> str:
        store[COUNT] = 1
        return "end"

    made = Workflow("x", name="x").register("x", uses).add_exit_state("end")
    assert {*types_of(made)} <= {*types_of(Faults().into(made))}


@pytest.mark.parametrize("where", ["at_call('commit')", "at_call('commit', after=True)", "at_task('x')"])
def test_sigkill(where: str) -> None:
    """The process is killed on the spot, with SIGKILL."""
    program = f"""
        import asyncio
        from cano import Kernel, Workflow
        from cano.testing import Faults, FaultyStore
        from cano_memory import MemoryBackend

        async def x(store):
            return "end"

        async def main():
            faults = Faults()
            faults.{where}.kill()
            flow = Workflow("x").register("x", x).add_exit_state("end")
            store = FaultyStore(MemoryBackend(strict=True), faults)
            async with Kernel(store=store, discover=False, plugins=["msgspec"]) as kernel:
                await kernel.run(faults.into(flow))
            print("still alive")

        asyncio.run(main())
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGKILL, "", "")
