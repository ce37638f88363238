"""Attempts, the limits of a step, and the finished phases of a node outlive the process that made them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Commit,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Node,
    RetryExhaustedError,
    RunStatus,
    StepTimeoutError,
    StoreUnavailableError,
    SubWorkflow,
    TaskConfig,
    Workflow,
    current_step,
    sleep_until,
)
from cano_durability.keeper import Keeper

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Every:
    """A retry strategy that records what it is asked: `retries` attempts more, `seconds` apart."""

    def __init__(self, retries: int, seconds: float = 1.0) -> None:
        self.retries = retries
        self.seconds = seconds
        self.asked: list[tuple[int, float]] = []

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        self.asked.append((attempt, elapsed))
        return self.seconds if attempt <= self.retries else None


class Script:
    """What the attempts of a step do, one after the other: "fail", "hang", or a state to return.

    Attributes:
        begun: the number and the idempotency key of each attempt that has begun.
    """

    def __init__(self, *acts: str) -> None:
        self.acts = list(acts)
        self.begun: list[tuple[int, str]] = []

    async def __call__(self, store: Any) -> str:
        """Make an attempt."""
        self.begun.append((current_step().attempt, current_step().idempotency_key))
        return await self.act()

    async def act(self) -> str:
        """Do what comes next."""
        act = self.acts.pop(0)
        if act == "fail":
            raise ConnectionError("not yet")
        if act == "hang":
            await asyncio.Event().wait()
        return act

    @property
    def attempts(self) -> list[int]:
        """The numbers of the attempts."""
        return [attempt for attempt, _ in self.begun]


def one_step(task: Any, **config: Any) -> Workflow[Any]:
    """A workflow of a step that only prepares, and then the task."""

    async def before(store: Any) -> str:
        return "work"

    flow: Workflow[Any] = Workflow("before", name="one", default_config=TaskConfig(**config))
    return flow.register("before", before).register("work", task).add_exit_state("end").add_exit_state("late")


async def crashed(world: World, flow: Workflow[Any], seconds: float, run_id: str = "r") -> None:
    """Let a new kernel execute the run for a while, and kill it; then let its lease expire."""
    kernel = await world.kernel()
    await kernel.start(flow, run_id=run_id)
    await world.clock.advance(seconds)
    await world.crash(kernel)
    await world.lapse()


async def in_time(world: World, flow: Workflow[Any], run_id: str = "r") -> Any:
    """Return the run's result in a new kernel. Time passes until it has ended."""
    running = asyncio.ensure_future((await world.kernel()).run(flow, run_id=run_id))
    await world.settle()
    while not running.done():
        await world.clock.advance(1)
    return await running


async def test_attempts_continue(world: World) -> None:
    """A process that is killed in attempt 2 of 4 leaves three attempts; number, key, delay and `elapsed` continue."""
    script, retry = Script("fail", "hang", "fail", "fail", "fail"), Every(3, 10)
    flow = one_step(script, retry=retry)
    await crashed(world, flow, 15)
    with pytest.raises(RetryExhaustedError) as caught:
        await in_time(world, flow)
    assert caught.value.attempts == 4
    assert script.begun == [(attempt, "r:2") for attempt in (1, 2, 2, 3, 4)]
    assert retry.asked == [(1, 0), (2, 46), (3, 56), (4, 66)]


class Phases(Node[str, Any, Any]):
    """A node whose phases record their attempts, and follow a script each."""

    def __init__(self, config: TaskConfig, prepared: Any = (1, 2), **acts: list[str]) -> None:
        super().__init__(config)
        self.prepared = prepared
        self.scripts = {name: Script(*todo) for name, todo in acts.items()}
        self.begun: list[str] = []

    async def _do(self, phase: str) -> str:
        self.begun.append(f"{phase} {current_step().attempt}")
        return await self.scripts[phase].act() if phase in self.scripts else "end"

    async def prep(self, store: Any) -> Any:
        """Write, and return what is prepared."""
        store["prepared"] = current_step().attempt
        store.append("list", "prep")
        await self._do("prep")
        return self.prepared

    async def exec(self, prepared: Any) -> Any:
        """Return a result of the attempt."""
        await self._do("exec")
        return {"made from": prepared}

    async def post(self, store: Any, prepared: Any, result: Any) -> str:
        """Write the result."""
        store.append("list", "post")
        store["result"] = result
        return await self._do("post")


async def test_a_phase_that_was_stored_is_not_repeated(world: World) -> None:
    """The result of `prep`, and what it has written, are stored with the failed `exec`, and kept over kills."""
    node = Phases(TaskConfig(retry=Every(5)), exec=["fail", "hang", "fail", "end"])
    flow = one_step(node)
    await crashed(world, flow, 5)
    result = await in_time(world, flow)
    assert node.begun == ["prep 1", "exec 1", "exec 2", "exec 2", "exec 3", "post 3"]
    assert result.data == {"prepared": 1, "list": ["prep", "post"], "result": {"made from": (1, 2)}}


@dataclass
class Order:
    """What a phase prepares."""

    number: int


async def test_a_class_that_the_node_names_is_stored(world: World) -> None:
    """The types of the phases' annotations keep their values."""

    class Ordering(Phases):
        async def prep(self, store: Any) -> Order:
            await self._do("prep")
            return Order(7)

        async def post(self, store: Any, prepared: Order, result: dict[str, Order]) -> str:
            assert (prepared, result) == (Order(7), {"made from": Order(7)})
            return await self._do("post")

    node = Ordering(TaskConfig(retry=Every(5)), exec=["fail", "hang", "end"], post=["fail", "hang", "end"])
    flow = one_step(node)
    for _ in range(2):
        await crashed(world, flow, 5)
    await in_time(world, flow)
    assert node.begun == ["prep 1", "exec 1", "exec 2", "exec 2", "post 2", "post 3", "post 3"]


async def test_exec_is_not_repeated_for_post(world: World) -> None:
    """The result of `exec` is stored with the failed `post`; a kill in `exec` before that repeats `prep`."""
    node = Phases(TaskConfig(retry=Every(5)), exec=["hang", "end"], post=["fail", "hang", "end"])
    flow = one_step(node)
    await crashed(world, flow, 5)
    assert node.begun == ["prep 1", "exec 1"]
    await crashed(world, flow, 5)
    result = await in_time(world, flow)
    assert node.begun[2:] == ["prep 1", "exec 1", "post 1", "post 2", "post 2"]
    assert result.data == {"prepared": 1, "list": ["prep", "post"], "result": {"made from": (1, 2)}}


async def changed_by(world: World, monkeypatch: pytest.MonkeyPatch, flow: Workflow[Any]) -> list[list[str]]:
    """Return the names of the engine's own values that each commit of a run sets."""
    kernel, commits = await world.kernel(), list[list[str]]()
    commit = world.store(kernel).commit

    async def counted(one: Commit) -> None:
        commits.append([*one.own])
        await commit(one)

    monkeypatch.setattr(world.store(kernel), "commit", counted)
    assert (await kernel.run(flow, run_id="r")).state == "end"
    return commits


async def test_only_failures_are_committed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that succeeds is one commit, whatever its limits; each failed attempt before another one is one more."""
    flow = one_step(Script("fail", "fail", "end"), retry=Every(3, 0), timeout=10, total_timeout=100)
    assert await changed_by(world, monkeypatch, flow) == [[], ["retry"], ["retry"], []]
    assert (await world.look("r")).data == {}


async def test_a_phase_is_stored_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result is not written with each failed attempt."""
    node = Phases(TaskConfig(retry=Every(9, 0)), exec=["fail", "fail", "end"], post=["fail", "fail", "end"])
    phases, again = ["retry", "phases"], ["retry"]
    assert await changed_by(world, monkeypatch, one_step(node)) == [[], phases, again, phases, again, []]


async def test_children_of_phases_keep_their_ids(world: World) -> None:
    """A phase counts its child runs after those of the stored phases."""

    async def quick(store: Any) -> str:
        return "end"

    child: Workflow[Any] = Workflow("quick", name="child").register("quick", quick).add_exit_state("end")

    class Parent(Phases):
        async def prep(self, store: Any) -> Any:
            return await SubWorkflow(child, then="prepared").run({})

        async def post(self, store: Any, prepared: Any, result: Any) -> str:
            return await SubWorkflow(child, then="end").run({})

    flow = one_step(Parent(TaskConfig(retry=Every(5)), exec=["fail", "hang", "end"]))
    await crashed(world, flow, 5)
    await in_time(world, flow)
    records = await (await world.kernel()).runs(workflow="child")
    assert {record.run_id for record in records} == {"r:2/child", "r:2.2/child"}


async def test_a_phase_that_cannot_be_stored_is_repeated(world: World) -> None:
    """The attempts are stored without it."""

    class Client(Phases):
        async def post(self, store: Any, prepared: Any, result: Any) -> str:
            return await self._do("post")

    node = Client(TaskConfig(retry=Every(5)), prepared=object(), exec=["fail", "hang", "fail", "end"])
    flow = one_step(node)
    await crashed(world, flow, 5)
    await in_time(world, flow)
    assert node.begun == ["prep 1", "exec 1", "exec 2", "prep 2", "exec 2", "exec 3", "post 3"]


@pytest.mark.parametrize(
    "stored",
    [
        [],
        ["exec"],
        ["never", 1, 2, None, {}],
        ["exec", 1, 2, [False, [], {"n": 1}, 4], {}],
        ["post", 1, 2, None, 3],
        b"\xff",
    ],
)  # fmt: skip
async def test_phases_that_cannot_be_read_are_repeated(world: World, stored: Any) -> None:
    """Such as those of another program: the run continues all the same."""
    node = Phases(TaskConfig(retry=Every(5)), exec=["fail", "hang", "end"])
    flow = one_step(node)
    await crashed(world, flow, 5)
    kernel = await world.kernel()
    assert kernel.backend is not None
    assert isinstance(kernel.keeper, Keeper)
    own = {"phases": stored if isinstance(stored, bytes) else kernel.keeper.stored.values.encode("", stored)}
    now = world.clock.time()
    token = await kernel.backend.claim("r", "another", now, now + 1)
    assert token is not None
    await kernel.backend.commit(Commit("r", token, 1, 1, "work", RunStatus.RUNNING, own=own, release=True, at=now))
    result = await in_time(world, flow)
    assert node.begun == ["prep 1", "exec 1", "exec 2", "prep 2", "exec 2", "post 2"]
    assert result.data == {"prepared": 2, "list": ["prep", "post"], "result": {"made from": (1, 2)}}
    assert await kernel.check() == []


@pytest.mark.parametrize("failures", [0, 1])
async def test_the_limit_of_a_step_counts_over_crashes(world: World, failures: int) -> None:
    """`total_timeout` counts from the commit before the step, in whatever process."""
    script = Script(*["fail"] * failures, "hang", "hang")
    flow = one_step(script, retry=Every(5, 10), total_timeout=100, on_exhausted="late")
    begun = world.clock.time()
    await crashed(world, flow, 20)
    assert (await in_time(world, flow)).state == "late"
    assert world.clock.time() - begun == pytest.approx(100, abs=1)
    assert script.attempts == [*range(1, failures + 2), failures + 1]


async def test_two_crashes_count_from_the_same_commit(world: World) -> None:
    """The commit of a takeover does not begin the step again."""
    script = Script("hang", "hang", "hang")
    flow = one_step(script, total_timeout=100, on_exhausted="late")
    begun = world.clock.time()
    for _ in range(2):
        await crashed(world, flow, 5)
    assert (await in_time(world, flow)).state == "late"
    assert world.clock.time() - begun == pytest.approx(100, abs=1)


async def test_a_limit_that_has_passed_meanwhile(world: World) -> None:
    """No further attempt begins."""
    script = Script("hang")
    flow = one_step(script, total_timeout=20)
    await crashed(world, flow, 5)
    with pytest.raises(StepTimeoutError, match="took longer than 20 s, retries included"):
        await in_time(world, flow)
    assert script.attempts == [1]


async def test_a_limit_does_not_count_a_wait(world: World) -> None:
    """A step after a wait begins when the wait is over."""

    async def before(store: Any) -> Any:
        return sleep_until(world.clock.time() + 1000, then="work")

    script = Script("hang", "end")
    flow: Workflow[Any] = Workflow("before", name="late", default_config=TaskConfig(total_timeout=100))
    flow.register("before", before).register("work", script).add_exit_state("end")
    await crashed(world, flow, 1)
    await world.clock.advance(1000)
    await crashed(world, flow, 5)
    assert (await in_time(world, flow)).state == "end"
    assert script.attempts == [1, 1]


async def test_a_failed_run_that_is_resumed_begins_again(world: World) -> None:
    """All attempts, phases and seconds are allowed once more."""
    node = Phases(TaskConfig(retry=Every(1), total_timeout=50), exec=["fail", "hang", "fail", "fail", "end"])
    flow = one_step(node)
    await crashed(world, flow, 5)
    with pytest.raises(RetryExhaustedError):
        await in_time(world, flow)
    await world.clock.advance(100)
    resuming = asyncio.ensure_future((await world.kernel()).resume(flow, "r"))
    await world.clock.advance(5)
    assert (await resuming).state == "end"
    assert node.begun == [
        "prep 1", "exec 1", "exec 2", "exec 2",
        "prep 1", "exec 1", "exec 2", "post 2",
    ]  # fmt: skip


async def test_a_fork_begins_again(world: World) -> None:
    """A fork has attempts and a limit of its own, from when it is first executed."""
    script = Script("fail", "hang", "hang", "end")
    flow = one_step(script, retry=Every(3), total_timeout=100)
    kernel = await world.kernel()
    await kernel.start(flow, run_id="r")
    await world.clock.advance(5)
    await kernel.fork("r", 1, "fork")
    await world.clock.advance(150)
    await crashed(world, flow, 5, "fork")
    assert (await in_time(world, flow, "fork")).state == "end"
    assert script.begun[2:] == [(1, "fork:2"), (1, "fork:2")]


async def test_phases_of_another_definition_are_repeated(world: World) -> None:
    """A run that has migrated has its attempts, but no results of the old definition."""
    node = Phases(TaskConfig(retry=Every(5)), exec=["fail", "hang", "end"])
    await crashed(world, one_step(node), 5)
    flow: Workflow[Any] = Workflow("work", name="one", version="2", migrate={}, migrate_from=["1"]).register(
        "work", node
    )
    await in_time(world, flow.add_exit_state("end"))
    assert node.begun == ["prep 1", "exec 1", "exec 2", "prep 2", "exec 2", "post 2"]


def split(left: Any, right: Any, retries: int) -> Workflow[Any]:
    """A workflow that is one split of two branches."""
    config = TaskConfig(retry=Every(retries))
    flow: Workflow[Any] = Workflow("split", name="split", default_config=config).add_exit_state("end")
    return flow.register_split("split", [left, right], JoinConfig(JoinStrategy.all(), "end"))


async def left(store: Any) -> str:
    """A branch."""
    return await SCRIPTS["left"](store)


async def right(store: Any) -> str:
    """Another."""
    return await SCRIPTS["right"](store)


SCRIPTS: dict[str, Script] = {}


async def test_branches(world: World) -> None:
    """The attempts of each branch continue, too."""
    SCRIPTS.update(left=Script("fail", "hang", "fail", "end"), right=Script("fail", "fail", "end"))
    flow = split(left, right, 2)
    await crashed(world, flow, 5)
    assert (await in_time(world, flow)).state == "end"
    assert SCRIPTS["left"].attempts == [1, 2, 2, 3]
    assert SCRIPTS["right"].attempts == [1, 2, 3]
    assert [*(await world.look("r")).own] == ["outcome"]


async def test_branches_of_a_failed_run_begin_again(world: World) -> None:
    """If the run is resumed, the branch that has failed has all its attempts once more."""
    SCRIPTS.update(left=Script("fail", "fail", "fail", "end"), right=Script("end"))
    flow = split(left, right, 1)
    with pytest.raises(JoinError):
        await in_time(world, flow)
    resuming = asyncio.ensure_future((await world.kernel()).resume(flow, "r"))
    await world.clock.advance(5)
    assert (await resuming).state == "end"
    assert (SCRIPTS["left"].attempts, SCRIPTS["right"].attempts) == ([1, 2, 1, 2], [1])


async def test_nodes_in_branches(world: World) -> None:
    """The phases of a branch are not kept: no other branch gets them."""
    nodes = [Phases(TaskConfig(retry=Every(5)), prepared=n, exec=["fail", "hang", "end"]) for n in range(2)]
    for node in nodes:
        node.scripts["prep"] = Script("end", "end")
    flow: Workflow[Any] = Workflow("split", name="split").add_exit_state("end")
    join = JoinConfig(JoinStrategy.all(), "end", reducers={"result": lambda first, second: second})
    flow.register_split("split", list(nodes), join)
    await crashed(world, flow, 5)
    await in_time(world, flow)
    for node in nodes:
        assert node.begun == ["prep 1", "exec 1", "exec 2", "prep 2", "exec 2", "post 2"]


@pytest.mark.parametrize("flow", [split(left, right, 5), one_step(left, retry=Every(5))], ids=["branch", "step"])
async def test_a_store_that_fails_is_no_failure_of_the_step(
    world: World, monkeypatch: pytest.MonkeyPatch, flow: Workflow[Any]
) -> None:
    """If a failed attempt cannot be committed, the run is interrupted, and it continues later."""
    SCRIPTS.update(left=Script("fail", "fail", "end"), right=Script("end"))
    kernel = await world.kernel()
    commit = world.store(kernel).commit

    async def refused(one: Commit) -> None:
        if any(name.startswith("retry") for name in one.own):
            raise StoreUnavailableError("it is away")
        await commit(one)

    monkeypatch.setattr(world.store(kernel), "commit", refused)
    with pytest.raises(StoreUnavailableError):
        await kernel.run(flow, run_id="r")
    assert (await in_time(world, flow)).state == "end"
    assert SCRIPTS["left"].attempts == [1, 1, 2]


async def test_nothing_is_kept_of_a_run_that_commits_at_its_end(world: World) -> None:
    """With durability="exit", a crash repeats everything since the last commit."""
    script = Script("fail", "hang", "fail", "end")
    flow: Workflow[Any] = Workflow("work", name="exit", durability="exit", default_config=TaskConfig(retry=Every(3)))
    flow.register("work", script).add_exit_state("end")
    await crashed(world, flow, 5)
    assert (await in_time(world, flow)).state == "end"
    assert script.attempts == [1, 2, 1, 2]
