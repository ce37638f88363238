"""What steps emit: when it is stored, what is superseded, and what readers in any process get."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Node,
    RunStatus,
    SerializationError,
    SizeLimitError,
    SizeLimits,
    Step,
    StoreUnavailableError,
    StreamChunk,
    StreamItem,
    TaskConfig,
    Workflow,
    WorkflowError,
    current_step,
    hookimpl,
    task,
    wait_for,
)
from cano_durability.keys import STREAMS
from cano_durability.streaming.chunks import Unit, add_span
from cano_durability.streaming.emitting import BUFFER
from cano_durability.streaming.streams import PAGE

from tests.waiting import until

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Now:
    """A retry strategy that tries again at once, twice."""

    uses_elapsed = False

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """No delay."""
        return 0.0 if attempt < 3 else None


RETRIED = TaskConfig(retry=Now())


def flow_of(function: Callable[..., Any], config: TaskConfig | None = None) -> Workflow[str]:
    """A workflow with one step, in "a"."""
    return Workflow("a", name="emits").add_exit_state("end").register("a", task(function), config=config)


async def all_of(items: AsyncIterator[StreamItem]) -> list[Any]:
    """The values of items; for a mark, the offsets that it supersedes."""
    return [list(map(list, item.superseded)) if item.superseded else item.value async for item in items]


async def now_in(kernel: Kernel, run_id: str = "r", channel: str = "x") -> list[Any]:
    """What a stream has now, though the run has not ended."""
    keeper: Any = kernel.keeper
    items = await keeper.stored.backend.read_stream(run_id, channel, 0, 1000)
    return [(chunk.first, chunk.last) for chunk in items]


async def reached(kernel: Kernel, offset: int, channel: str = "x", run_id: str = "r") -> None:
    """Wait until an item with the offset is stored."""
    keeper: Any = kernel.keeper
    stored = 0
    while stored < offset:
        with keeper._waiters.waiter(run_id) as changed:
            stored = max((last for _, last in await now_in(kernel, run_id, channel)), default=0)
            if stored < offset:
                await changed


async def test_items_are_committed_with_the_step(kernel: Kernel, world: World) -> None:
    """Without `flush` an item is stored by the step's commit; a reader in another process gets each once, in order."""
    begun, gate = asyncio.Event(), asyncio.Event()

    async def emits(store: Any) -> str:
        for number in range(3):
            await current_step().emit("x", {"n": number})
        current_step().emit("y", b"1")
        begun.set()
        await gate.wait()
        return "end"

    handle = await kernel.start(flow_of(emits), {}, run_id="r")
    await begun.wait()
    assert await now_in(kernel) == []
    gate.set()
    await handle.result()
    attached = await (await world.kernel()).attach("r")
    items = [item async for item in attached.stream("x")]
    assert items == [StreamItem(number + 1, {"n": number}) for number in range(3)]
    assert [item.offset async for item in attached.stream("x", after=2)] == [3]
    assert await attached.channels() == ["x", "y"]
    assert await all_of(handle.stream("y")) == [b"1"]
    assert await all_of(handle.stream("nothing")) == []


async def test_flushed_items_are_read_before_the_step_ends(kernel: Kernel, world: World) -> None:
    """With `flush` an item is stored at once, with all that was emitted before; a reader is woken by each."""
    gate, more = asyncio.Event(), asyncio.Queue[str]()

    async def emits(store: Any) -> str:
        step = current_step()
        step.emit("x", "kept back")
        while (word := await more.get()) != "stop":
            await step.emit("x", word, flush=True)
        await gate.wait()
        return "end"

    handle = await kernel.start(flow_of(emits), {}, run_id="r")
    reader = handle.stream("x")
    more.put_nowait("one")
    assert [(await anext(reader)).value for _ in range(2)] == ["kept back", "one"]
    assert (await kernel.get("r")).status is RunStatus.RUNNING
    waiting = asyncio.ensure_future(anext(reader))
    more.put_nowait("two")
    assert (await waiting).value == "two"
    more.put_nowait("stop")
    gate.set()
    assert await all_of(reader) == []
    assert await all_of(handle.stream("x", after=1)) == ["one", "two"]


async def test_a_failed_attempt_is_superseded(kernel: Kernel) -> None:
    """What a failed attempt has flushed is followed by one mark; what it has not, is dropped."""
    tries: list[int] = []

    async def emits(store: Any) -> str:
        tries.append(1)
        attempt, step = len(tries), current_step()
        await step.emit("x", f"flushed {attempt}", flush=True)
        if attempt < 3:
            await reached(kernel, 2 * attempt - 1)
        step.emit("x", f"kept back {attempt}")
        if attempt < 3:
            raise ValueError(attempt)
        return "end"

    handle = await kernel.start(flow_of(emits, RETRIED), {}, run_id="r")
    await handle.result()
    assert await all_of(handle.stream("x")) == ["flushed 1", [[1]], "flushed 2", [[3]], "flushed 3", "kept back 3"]


async def test_a_failed_run_supersedes_its_step_only(kernel: Kernel) -> None:
    """The last step's items are superseded in the commit that ends the run; those of committed steps stay."""

    async def emits(store: Any) -> str:
        await current_step().emit("x", "good", flush=True)
        return "b"

    async def fails(store: Any) -> str:
        await current_step().emit("x", "bad", flush=True)
        await reached(kernel, 2)
        raise ValueError("no")

    flow = flow_of(emits).register("b", task(fails), config=TaskConfig.minimal())
    handle = await kernel.start(flow, {}, run_id="r")
    assert await all_of(handle.stream("x")) == ["good", "bad", [[2]]]
    with pytest.raises(Exception, match="no"):
        await handle.result()


async def test_a_crash_supersedes_what_was_not_committed(kernel: Kernel, world: World) -> None:
    """After a crash the next process marks the flushed items of the step, once, and the reader goes on."""
    gate, crashed = asyncio.Event(), asyncio.Event()

    async def first(store: Any) -> str:
        current_step().emit("x", "committed")
        await current_step().emit("x", "and flushed", flush=True)
        return "b"

    async def second(store: Any) -> str:
        await current_step().emit("x", "again", flush=True)
        current_step().emit("y", "new", flush=True)
        if not crashed.is_set():
            await reached(kernel, 1, "y")
            gate.set()
            await asyncio.Event().wait()
        return "end"

    flow = flow_of(first).register("b", task(second))
    await kernel.start(flow, {}, run_id="r")
    await gate.wait()
    await world.crash(kernel)
    crashed.set()
    other = await world.kernel()
    reader = (await other.attach("r")).stream("x")
    assert [(await anext(reader)).value for _ in range(3)] == ["committed", "and flushed", "again"]
    await world.clock.advance(61)
    await other.recover(flow)
    assert await all_of(reader) == [[[3]], "again"]
    assert await all_of((await other.attach("r")).stream("y")) == ["new", [[1]], "new"]


async def test_a_run_cancelled_elsewhere_is_marked(kernel: Kernel, world: World) -> None:
    """A process that cancels a run which no process executes supersedes its open items."""
    begun = asyncio.Event()

    async def emits(store: Any) -> str:
        await current_step().emit("x", 1, flush=True)
        await reached(kernel, 1)
        begun.set()
        await asyncio.Event().wait()
        return "end"

    await kernel.start(flow_of(emits), {}, run_id="r")
    await begun.wait()
    await world.crash(kernel)
    await world.clock.advance(61)
    other = await world.kernel()
    await other.cancel("r")
    assert await all_of((await other.attach("r")).stream("x")) == [1, [[1]]]


async def test_threads_emit_and_wait_for_room(kernel: Kernel) -> None:
    """A plain function emits many items in its worker thread; never more than the buffer wait, and none is lost."""
    most: list[int] = []

    def emits(store: Any) -> str:
        step = current_step()
        assert threading.current_thread() is not threading.main_thread()
        emitter: Any = None
        for number in range(3 * BUFFER):
            step.emit("x", number, flush=True)
            emitter = emitter or step.run.emitter
            most.append(len(emitter._waiting))
        return "end"

    handle = await kernel.start(flow_of(emits), {}, run_id="r")
    assert await all_of(handle.stream("x")) == list(range(3 * BUFFER))
    assert max(most) <= BUFFER


async def test_coroutines_wait_for_room(kernel: Kernel) -> None:
    """A coroutine that awaits `emit` has at most the buffer waiting; one that does not gets an error in the end."""
    most: list[int] = []

    async def emits(store: Any) -> str:
        step = current_step()
        for number in range(3 * BUFFER):
            await step.emit("x", number, flush=True)
            emitter: Any = step.run.emitter
            most.append(len(emitter._waiting))
        return "end"

    handle = await kernel.start(flow_of(emits), {}, run_id="r")
    assert await all_of(handle.stream("x")) == list(range(3 * BUFFER))
    assert max(most) <= BUFFER


async def test_the_bytes_that_wait_are_limited(world: World) -> None:
    """Items that wait to be stored have at most `SizeLimits.emitted` bytes together; the error says so."""
    kernel = await world.kernel(limits=SizeLimits(emitted=1000))

    async def emits(store: Any) -> str:
        for _ in range(4):
            current_step().emit("x", "x" * 300)
        return "end"

    with pytest.raises(Exception, match="raise the limit") as failed:
        await kernel.run(flow_of(emits, TaskConfig.minimal()), {}, run_id="r")
    assert isinstance(failed.value.__cause__, SizeLimitError)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_large_items_wait_for_room(world: World, in_thread: bool) -> None:
    """Who flushes large items, and waits, never reaches the limit of the bytes, however many items there are."""
    kernel = await world.kernel(limits=SizeLimits(emitted=1000))

    async def emits(store: Any) -> str:
        for number in range(20):
            await current_step().emit("x", f"{number:300}", flush=True)
        return "end"

    def emits_in_thread(store: Any) -> str:
        for number in range(20):
            current_step().emit("x", f"{number:300}", flush=True)
        return "end"

    handle = await kernel.start(flow_of(emits_in_thread if in_thread else emits, TaskConfig.minimal()), {}, run_id="r")
    assert await all_of(handle.stream("x")) == [f"{number:300}" for number in range(20)]


async def test_what_cannot_be_encoded_is_refused_at_once(kernel: Kernel) -> None:
    """An item that the codec does not know, and a channel without a name, are errors in the task."""

    async def emits(store: Any) -> str:
        with pytest.raises(SerializationError, match="channel 'x'"):
            current_step().emit("x", object())
        with pytest.raises(ConfigurationError, match="channel"):
            current_step().emit("", 1)
        return "end"

    assert (await kernel.run(flow_of(emits), {}, run_id="r")).state == "end"


class Phases(Node[str, int, int]):
    """A node that emits in each phase. Its `post` fails once."""

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.failed = False

    async def prep(self, store: Any) -> int:
        """Emit."""
        await current_step().emit("x", "prep", flush=True)
        return 1

    async def exec(self, prepared: int) -> int:
        """Emit."""
        await current_step().emit("x", "exec", flush=True)
        return 2

    async def post(self, store: Any, prepared: int, result: int) -> str:
        """Fail at first."""
        await current_step().emit("x", "post", flush=True)
        await reached(self.kernel, 3)
        if not self.failed:
            self.failed = True
            raise ValueError("again")
        return "end"


async def test_phases_that_are_kept_are_not_superseded(kernel: Kernel) -> None:
    """If `post` is tried again, the items of the earlier phases count, since these are not executed again."""
    flow: Workflow[str] = Workflow("a", name="phases").add_exit_state("end")
    handle = await kernel.start(flow.register("a", Phases(kernel), config=RETRIED), {}, run_id="r")
    assert await all_of(handle.stream("x")) == ["prep", "exec", "post", [[3]], "post"]


async def test_branches_have_their_own_items(kernel: Kernel) -> None:
    """A branch that fails, or loses, has its items superseded; those of the others in the same channel count."""

    async def wins(store: Any) -> str:
        await current_step().emit("x", "wins", flush=True)
        await reached(kernel, 2)
        return "won"

    async def loses(store: Any) -> str:
        await current_step().emit("x", "loses", flush=True)
        await asyncio.Event().wait()
        return "lost"

    flow: Workflow[str] = Workflow("a", name="split").add_exit_state("end")
    flow.register_split("a", [task(wins), task(loses)], JoinConfig(JoinStrategy.any(), "end"))
    handle = await kernel.start(flow, {}, run_id="r")
    assert await all_of(handle.stream("x")) == ["wins", "loses", [[2]]]


async def asks(store: Any) -> Any:
    """Emit, and wait for a signal."""
    current_step().emit("x", "asks")
    return wait_for("go", then="b")


async def goes(store: Any) -> str:
    """Emit, and end the run."""
    current_step().emit("x", "goes")
    return "end"


def asking_flow() -> Workflow[str]:
    """A workflow that waits between two items."""
    return flow_of(asks).register("b", task(goes))


async def test_a_wait_and_a_fork(kernel: Kernel) -> None:
    """A stream goes on after a wait; a fork begins with empty streams."""
    handle = await kernel.start(asking_flow(), {}, run_id="r")
    reader = handle.stream("x")
    assert (await anext(reader)).value == "asks"
    await kernel.signal("r", "go")
    assert await all_of(reader) == ["goes"]
    await kernel.fork("r", 1, "f")
    await kernel.signal("f", "go")
    attached = await kernel.attach("f")
    await attached.result()
    assert await all_of(attached.stream("x")) == ["goes"]


async def test_two_readers_learn_of_the_end_at_once(kernel: Kernel) -> None:
    """Each reader asks whether the run has ended as soon as it stops here, and nothing of readers is kept after."""

    handle = await kernel.start(asking_flow(), {}, run_id="r")
    readers = [handle.stream("x") for _ in range(2)]
    assert [(await anext(reader)).value for reader in readers] == ["asks", "asks"]
    rest = [asyncio.create_task(all_of(reader)) for reader in readers]
    await kernel.signal("r", "go")
    assert await asyncio.gather(*rest) == [["goes"], ["goes"]]  # the clock does not move
    keeper: Any = kernel.keeper
    assert keeper._streams._stops == {}


async def test_a_slow_reader_reads_several_pages_of_a_run_that_has_stopped(kernel: Kernel) -> None:
    """It asks for the end as soon as it has read the last page, although it has asked once, early in the run."""
    began, read = asyncio.Event(), asyncio.Event()

    async def emits(store: Any) -> str:
        await began.wait()
        for number in range(3 * PAGE):
            await current_step().emit("x", number, flush=True)
            await reached(kernel, number + 1)  # so that each item is a chunk
            if number == 0:
                await read.wait()
        return "end"

    handle = await kernel.start(flow_of(emits), {}, run_id="r")
    reader = handle.stream("x")
    first = asyncio.ensure_future(anext(reader))
    keeper: Any = kernel.keeper
    await until(lambda: "r" in keeper._waiters.run_ids)  # it has asked, and waits
    began.set()
    assert (await first).value == 0
    read.set()
    await handle.result()
    assert await all_of(reader) == list(range(1, 3 * PAGE))  # the clock does not move


def test_successive_chunks_of_a_unit_are_one_span() -> None:
    """A step that writes items for hours keeps one span of them, until another unit or a mark comes between."""
    task_unit, branch = Unit(1, None, None), Unit(1, "a", None)
    spans: list[Any] = []
    emitted = ((task_unit, 1, 2), (task_unit, 3, 3), (branch, 4, 4), (task_unit, 5, 5), (task_unit, 7, 8))
    for unit, first, last in emitted:
        add_span(spans, unit, StreamChunk("x", first, last, b""))
    assert spans == [(task_unit, (1, 3)), (branch, (4, 4)), (task_unit, (5, 5)), (task_unit, (7, 8))]


async def test_a_run_that_emits_nothing_stores_nothing(kernel: Kernel, world: World) -> None:
    """Its commits have no chunk, and its record no value for streams."""
    commits: list[Any] = []
    backend: Any = world.store(kernel).backend
    commit = backend.commit

    async def noted(each: Any, *more: Any) -> None:
        commits.append(each)
        await commit(each, *more)

    backend.commit = noted

    async def quiet(store: Any) -> str:
        return "end"

    await kernel.run(flow_of(quiet), {}, run_id="r")
    assert [(each.chunks, STREAMS in each.own) for each in commits] == [((), False)]


@pytest.mark.parametrize("run_id", [None, "r"])
async def test_a_store_in_memory_has_streams_too(run_id: str | None) -> None:
    """Without a durable store, also for a run that is not kept, a handle reads what was emitted; a wait keeps it."""
    tries: list[int] = []

    async def emits(store: Any) -> Any:
        tries.append(1)
        current_step().emit("x", len(tries))
        await asyncio.sleep(0)
        if len(tries) == 1:
            raise ValueError("again")
        return wait_for("go", then="b")

    def ends(store: Any) -> str:
        current_step().emit("x", "end", flush=True)
        return "end"

    parked = asyncio.Event()

    class Observer:
        @hookimpl
        def cano_run_parked(self, run: Any) -> None:
            parked.set()

    async with Kernel(plugins=[Observer()]) as kernel:
        flow = flow_of(emits, RETRIED).register("b", task(ends))
        handle = await kernel.start(flow, {}, run_id=run_id)
        await parked.wait()
        await kernel.signal(handle.run_id, "go")
        await handle.result()
        values = await all_of(handle.stream("x"))
    assert values[-2:] == [2, "end"]
    assert values in ([1, [[1]], 2, "end"], [2, "end"])


async def test_a_short_run_in_memory_is_read_to_its_end() -> None:
    """A run that never waits may end before its items are in the stream: its reader gets them all the same."""

    async def emits(store: Any) -> str:
        for number in range(3):
            await current_step().emit("x", number, flush=True)
        return "end"

    async with Kernel() as kernel:
        handle = await kernel.start(flow_of(emits), {})
        assert await all_of(handle.stream("x")) == [0, 1, 2]
        assert await all_of(handle.stream("x", after=1)) == [1, 2]


@pytest.mark.parametrize("parks", [False, True])
async def test_nothing_is_written_after_an_end_that_could_not_be_stored(
    world: World, kernel: Kernel, parks: bool
) -> None:
    """If the commit that releases the run fails, what an abandoned branch emits is not tried again and again."""
    steps: list[Step] = []

    async def emits(store: Any) -> Any:
        steps.append(current_step())
        current_step().emit("x", 1, flush=True)
        for call in ("write_stream", "commit"):
            faults.at_call(call, None).fail(StoreUnavailableError("away"))
        if parks:
            return wait_for("go", then="end")
        raise ValueError("broken")

    faults = world.faults(kernel)
    handle = await kernel.start(flow_of(emits, TaskConfig.minimal()), {}, run_id="r")
    await world.clock.advance(10)
    with pytest.raises((WorkflowError, StoreUnavailableError)):
        await handle.result()
    before = faults.calls["write_stream"], faults.calls["commit"]
    emitter: Any = steps[0].run.emitter
    emitter.emit(SimpleNamespace(seq=1, branch="left", phase=None, attempt=1, run_id="r"), "x", 2, True)
    await world.clock.advance(100)
    assert (faults.calls["write_stream"], faults.calls["commit"]) == before
    assert "cano emitter" not in {each.get_name() for each in asyncio.all_tasks()}
