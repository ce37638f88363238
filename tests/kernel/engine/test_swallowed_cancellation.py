"""A task swallows a cancellation that came from outside its run: the run ends before its next step."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    JoinConfig,
    JoinStrategy,
    Kernel,
    Node,
    RunStatus,
    SubWorkflow,
    TaskConfig,
    Workflow,
    wait_for,
)
from cano.testing import VirtualClock
from cano_retry import Fixed


class Swallowing:
    """What tasks do: each method swallows one cancellation.

    Attributes:
        waiting: set once the first one waits.
        steps: the names of the states whose tasks have begun.
    """

    def __init__(self) -> None:
        self.waiting = asyncio.Event()
        self.steps: list[str] = []

    async def itself(self) -> None:
        """It awaits what is cancelled."""
        try:
            self.waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass

    async def in_a_task(self) -> None:
        """A task that it awaits swallows the cancellation, so that none is ever raised in it."""
        await asyncio.ensure_future(self.itself())

    async def in_a_clean_up(self) -> None:
        """It awaits more before it returns."""
        await self.itself()
        await asyncio.sleep(0)


WAYS = ["itself", "in_a_task", "in_a_clean_up"]


@pytest.fixture
def swallowing() -> Swallowing:
    """What tasks do."""
    return Swallowing()


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel without plugins, in virtual time."""
    async with Kernel(discover=False, clock=VirtualClock()) as kernel:
        yield kernel


def chain(swallowing: Swallowing, way: str, **config: Any) -> Workflow[str]:
    """A workflow of three steps, the first of which swallows a cancellation."""
    flow = Workflow("one", name="chain", default_config=TaskConfig(**config)).add_exit_state("end")

    @flow.on("one")
    async def one(store: Any) -> str:
        swallowing.steps.append("one")
        await getattr(swallowing, way)()
        return "two"

    for state, following in [("two", "three"), ("three", "end")]:

        async def go_on(store: Any, state: str = state, following: str = following) -> str:
            swallowing.steps.append(state)
            await asyncio.sleep(0)
            return following

        flow.register(state, go_on)
    return flow


async def cancelled(work: Awaitable[Any], swallowing: Swallowing) -> None:
    """Cancel the work while it waits, and see that it ends so."""
    task = asyncio.ensure_future(work)
    await swallowing.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("config", [{}, {"timeout": 5}, {"total_timeout": 5}, {"retry": Fixed(2, 0)}], ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_its_next_step_does_not_begin(
    kernel: Kernel, swallowing: Swallowing, way: str, config: dict[str, Any]
) -> None:
    """The caller gets the CancelledError that it asked for."""
    await cancelled(kernel.run(chain(swallowing, way, **config), {}), swallowing)
    assert swallowing.steps == ["one"]


@pytest.mark.parametrize("way", WAYS)
async def test_on_an_object_of_the_users_own(swallowing: Swallowing, way: str) -> None:
    """The shortest way in is no exception."""
    await cancelled(chain(swallowing, way).orchestrate(object()), swallowing)
    assert swallowing.steps == ["one"]


async def test_in_a_plain_function(kernel: Kernel, swallowing: Swallowing) -> None:
    """A run in a worker thread ends before its next step, too."""
    flow = chain(swallowing, "itself")
    loop = asyncio.get_running_loop()

    async def call(store: Any) -> str:
        try:
            await asyncio.shield(loop.run_in_executor(None, loop.call_soon_threadsafe, swallowing.waiting.set))
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "one"
        raise AssertionError

    before = Workflow("zero").register("zero", call).register("one", flow.tasks["one"].task).add_exit_states(["two"])
    await cancelled(kernel.run(before, {}), swallowing)
    assert swallowing.steps == []


async def test_a_wait_does_not_begin_either(kernel: Kernel, swallowing: Swallowing) -> None:
    """A task that swallowed the cancellation and returns `wait_for` does not park the run: its caller has left."""
    flow: Workflow[str] = Workflow("one").add_exit_state("end")

    @flow.on("one")
    async def ask(store: Any) -> str:
        await swallowing.itself()
        return wait_for("never", then="end")

    await cancelled(kernel.run(flow, {}), swallowing)


async def test_in_a_child(kernel: Kernel, swallowing: Swallowing) -> None:
    """Neither the child makes another step, nor its parent."""
    flow = Workflow("child").register("child", SubWorkflow(chain(swallowing, "itself"), then="after"))

    @flow.on("after")
    async def after(store: Any) -> str:
        swallowing.steps.append("after")
        return "end"

    await cancelled(kernel.run(flow.add_exit_state("end"), {}), swallowing)
    assert swallowing.steps == ["one"]


async def test_in_a_batch(kernel: Kernel, swallowing: Swallowing) -> None:
    """A batch that is cancelled ends with what its runs are doing."""
    batch = ConcurrentWorkflow(chain(swallowing, "in_a_task"), kernel=kernel)
    await cancelled(batch.execute_concurrent([{}, {}]), swallowing)
    assert swallowing.steps == ["one", "one"]


async def test_in_a_split(kernel: Kernel, swallowing: Swallowing) -> None:
    """What comes after the branches does not begin."""
    flow = chain(swallowing, "itself")

    async def branch(store: Any) -> None:
        await swallowing.in_a_task()

    split = Workflow("split").register("two", flow.tasks["two"].task).add_exit_state("three")
    split.register_split("split", [branch, branch], JoinConfig(JoinStrategy.all(), "two"))
    await cancelled(kernel.run(split, {}), swallowing)
    assert swallowing.steps == []


async def test_an_attempt_that_swallows_it_and_then_times_out(kernel: Kernel, swallowing: Swallowing) -> None:
    """It is not repeated: the timeout does not settle the cancellation."""
    attempts: list[int] = []

    async def work(store: Any) -> str:
        attempts.append(1)
        await swallowing.itself()
        await asyncio.Event().wait()
        return "end"

    flow = Workflow("one").register("one", work, config=TaskConfig(retry=Fixed(3, 0), timeout=5)).add_exit_state("end")
    await cancelled(kernel.run(flow, {}), swallowing)
    assert attempts == [1]


async def test_a_cancellation_that_the_task_takes_back(kernel: Kernel) -> None:
    """`asyncio.timeout` cancels its task and takes that back: the run goes on."""
    steps = []

    async def work(store: Any) -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            steps.append("timeout")
        return "two"

    async def two(store: Any) -> str:
        steps.append("two")
        return "end"

    flow = Workflow("one").register("one", work).register("two", two).add_exit_state("end")
    assert (await kernel.run(flow, {})).state == "end"
    assert steps == ["timeout", "two"]


async def failing() -> None:
    """What a group awaits."""
    raise ValueError("no")


class GroupNode(Node[str, None, None]):
    """A node that handles the failure of a group."""

    async def prep(self, store: Any) -> None:
        """Prepare nothing."""

    async def exec(self, prepared: None) -> None:
        """Handle it."""
        await handled()

    async def post(self, store: Any, prepared: None, result: None) -> str:
        """Go on."""
        return "two"


async def handled() -> None:
    """A task group fails, and its task handles that."""
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing())
    except* ValueError:
        pass


async def handle_group(store: Any) -> str:
    """A task that does so."""
    await handled()
    return "two"


async def opened() -> AsyncIterator[asyncio.TaskGroup]:
    """A group that an async generator opens and ends."""
    async with asyncio.TaskGroup() as group:
        yield group


async def handle_in_context(store: Any) -> str:
    """A task whose context manager has the group, as many libraries do it."""
    try:
        async with asynccontextmanager(opened)() as group:
            group.create_task(failing())
    except* ValueError:
        pass
    return "two"


async def handle_in_raising_context(store: Any) -> str:
    """A task that raises in such a context."""
    try:
        async with asynccontextmanager(opened)() as group:
            group.create_task(failing())
            await asyncio.Event().wait()
    except* ValueError:
        pass
    return "two"


async def handle_in_iteration(store: Any) -> str:
    """A task that iterates over a generator with the group."""
    try:
        async for group in opened():
            group.create_task(failing())
    except* ValueError:
        pass
    return "two"


class Operation:
    """An object that can be awaited, as the calls of many clients are, and has the group in its coroutine."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Return the iterator of a coroutine."""
        return handled().__await__()


class Generated:
    """The same, but its `__await__` is a generator."""

    def __await__(self) -> Generator[Any, Any, None]:
        """Yield from the iterator of a coroutine."""
        yield from handled().__await__()


async def handle_in_operation(store: Any) -> str:
    """A task that awaits such an object."""
    await Operation()
    return "two"


async def handle_in_generated(store: Any) -> str:
    """A task that awaits the other one."""
    await Generated()
    return "two"


GROUPS = [
    lambda: handle_group,
    GroupNode,
    lambda: handle_in_context,
    lambda: handle_in_raising_context,
    lambda: handle_in_iteration,
    lambda: handle_in_operation,
    lambda: handle_in_generated,
]
GROUP_IDS = ["task", "node", "context", "raising context", "iteration", "operation", "generated"]


@pytest.mark.parametrize("make", GROUPS, ids=GROUP_IDS)
async def test_a_group_that_failed_cancels_nothing(kernel: Kernel, make: Callable[[], Any]) -> None:
    """Before Python 3.13 a group leaves its cancellation behind. The next step begins, and its attempts go on."""
    attempts = []

    async def two(store: Any) -> str:
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")
        return "end"

    flow = Workflow("one").register("one", make()).register("two", two, config=TaskConfig(retry=Fixed(3, 0)))
    assert (await kernel.run(flow.add_exit_state("end"), {})).state == "end"
    assert attempts == [1, 1, 1]


async def test_a_group_in_a_branch(kernel: Kernel) -> None:
    """Its attempts go on as well."""
    attempts = []

    async def branch(store: Any) -> None:
        await handled()
        attempts.append(1)
        if len(attempts) < 3:
            raise ValueError("not yet")

    flow = Workflow("one").add_exit_state("end")
    flow.register_split("one", [branch], JoinConfig(JoinStrategy.all(), "end"), config=TaskConfig(retry=Fixed(3, 0)))
    assert (await kernel.run(flow, {})).state == "end"
    assert attempts == [1, 1, 1]


@pytest.mark.parametrize("in_body", [False, True], ids=["after the body", "in the body"])
async def test_a_cancellation_while_a_failed_group_ends(kernel: Kernel, swallowing: Swallowing, in_body: bool) -> None:
    """The group takes back only its own one, which has ended the body, if that was still waiting."""

    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowing.waiting.set()
            await asyncio.Event().wait()

    async def work(store: Any) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(slow())
                await asyncio.sleep(0)
                group.create_task(failing())
                if in_body:
                    await asyncio.Event().wait()
        except* (ValueError, asyncio.CancelledError):
            pass
        return "two"

    flow = chain(swallowing, "itself")
    flow = Workflow("one").register("one", work).register("two", flow.tasks["two"].task).add_exit_state("three")
    task = asyncio.ensure_future(kernel.run(flow, {}))
    await swallowing.waiting.wait()
    await asyncio.sleep(0)
    for other in asyncio.all_tasks() - {asyncio.current_task(), task}:
        if "slow" in repr(other):
            task.cancel()
            other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert swallowing.steps == []


@pytest.mark.parametrize("url", ["memory://?strict=1", "sqlite"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_stored_run_is_interrupted(swallowing: Swallowing, way: str, url: str, tmp_path: Path) -> None:
    """As if the task had not swallowed it; the step that did is committed, and a resumed run continues after it."""
    url = f"sqlite:///{tmp_path}/runs.db" if url == "sqlite" else url
    flow = chain(swallowing, way)
    async with Kernel(store=url) as kernel:
        before = asyncio.all_tasks()
        handle = await kernel.start(flow, {}, run_id="x")
        await swallowing.waiting.wait()
        (driver,) = [task for task in asyncio.all_tasks() - before if "drive" in repr(task)]
        driver.cancel()  # as asyncio.run does with all tasks at its end
        with pytest.raises(asyncio.CancelledError):
            await handle.result()
        assert handle.status().status is RunStatus.INTERRUPTED
        assert [record.status for record in await kernel.runs()] == [RunStatus.INTERRUPTED]
        assert swallowing.steps == ["one"]
        assert (await kernel.resume(flow, "x")).state == "end"
    assert swallowing.steps == ["one", "two", "three"]
