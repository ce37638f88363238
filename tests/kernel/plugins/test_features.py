"""Concurrency and durability are plugins: they can be listed, blocked, and replaced by a third party's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    Run,
    RunResult,
    RunStatus,
    Step,
    StoreView,
    SubWorkflow,
    WaitStrategy,
    Workflow,
    hookimpl,
    wait_for,
)
from cano.engine.ports import BoundState, BoundWorkflow, Host, RunKeeper, Work
from cano_memory import MemoryBackend


async def done(store: KeyValueStore) -> str:
    """End."""
    store["done"] = True
    return "done"


async def one(store: KeyValueStore) -> None:
    """A branch."""
    store.append("branches", 1)


async def two(store: KeyValueStore) -> None:
    """Another branch."""
    store.append("branches", 2)


async def ask(store: KeyValueStore) -> str:
    """Wait for an answer."""
    return wait_for("answer", then="done")


def plain() -> Workflow[str]:
    """One task."""
    return Workflow("work", name="plain").register("work", done).add_exit_state("done")


def split() -> Workflow[str]:
    """Two branches."""
    flow = Workflow("split", name="split").add_exit_state("done")
    return flow.register_split("split", [one, two], JoinConfig(JoinStrategy.all(), "done"))


def parent() -> Workflow[str]:
    """A workflow as a task."""
    flow = Workflow("work", name="parent").add_exit_state("done")
    return flow.register("work", SubWorkflow(plain(), then="done"))


def asking() -> Workflow[str]:
    """A run that waits."""
    return Workflow("work", name="asking").register("work", ask).add_exit_state("done")


# listed


def test_both_are_listed() -> None:
    """`kernel.load` lists them with their hooks: the built-in one of the kernel, and that of a distribution."""
    infos = {info.name: info for info in Kernel(discover=False).load()}

    assert (infos["concurrency"].origin, infos["concurrency"].hooks) == ("cano built-in", ("cano_bind_state",))
    assert infos["durability"].origin.startswith("cano-durability ")
    assert infos["durability"].hooks == (
        "cano_codec_layer", "cano_keep_runs", "cano_kernel_started", "cano_seal_store", "cano_watch_lateness",
    )  # fmt: skip


# blocked


@pytest.mark.parametrize("flow", [split(), parent()], ids=lambda flow: flow.name)
async def test_without_concurrency_what_needs_it_is_refused(flow: Workflow[str]) -> None:
    """A plain workflow runs; binding a split or a sub-workflow names the blocked plugin, workflow and state."""
    async with Kernel(discover=False, block=["concurrency"]) as kernel:
        assert (await kernel.run(plain())).state == "done"
        with pytest.raises(ConfigurationError) as caught:
            await kernel.run(flow)

    assert (
        str(caught.value) == "the plugin 'concurrency', which executes this task, is blocked by block=; remove it there"
    )
    assert caught.value.__notes__[0].startswith(f"in workflow {flow.name!r}, state {flow.start}")


async def test_without_concurrency_a_batch_is_refused() -> None:
    """A batch names the blocked plugin before it begins a run."""
    async with Kernel(discover=False, block=["concurrency"]) as kernel:
        batch = ConcurrentWorkflow(plain(), kernel=kernel)
        with pytest.raises(ConfigurationError, match="a batch needs the plugin 'concurrency', which is blocked"):
            await batch.execute_concurrent([{}], WaitStrategy.forever())


async def test_without_durability_runs_live_in_memory() -> None:
    """Runs work, named ones too; what needs a stored run names the blocked plugin."""
    async with Kernel(block=["durability"], discover=False, plugins=["memory"]) as kernel:
        assert (await kernel.run(split(), run_id="r")).data == {"branches": [1, 2]}
        problem = (
            "needs runs in a store: the plugin 'durability', which keeps runs in the store 'memory://', is blocked"
        )
        with pytest.raises(ConfigurationError, match=rf"wait_for\('answer'\).* {problem}"):
            await kernel.run(asking())
        with pytest.raises(ConfigurationError, match=f"this {problem}"):
            await kernel.signal("r", "answer")
        with pytest.raises(ConfigurationError, match=f"this {problem}"):
            await kernel.runs()


async def test_without_durability_a_store_is_refused() -> None:
    """A store that was asked for, and that nothing would use, is an error when the kernel opens; it stays closed."""
    kernel = Kernel(store=MemoryBackend(), discover=False, block=["durability"])

    with pytest.raises(ConfigurationError, match="the plugin 'durability', which keeps runs in the store <"):
        await kernel.open()


async def test_a_store_that_no_plugin_takes_is_closed_again() -> None:
    """A plugin that could keep runs, and does not want to, is asked with the open store."""

    class Unwilling:
        @hookimpl
        def cano_keep_runs(self, kernel: Host) -> None:
            assert kernel.backend is backend

    backend = MemoryBackend()
    kernel = Kernel(store=backend, plugins=[Unwilling()], discover=False, block=["durability"])
    with pytest.raises(ConfigurationError, match="the plugin 'durability', which keeps runs in the store <"):
        await kernel.open()
    with pytest.raises(Exception, match="closed"):
        await backend.load("r")


# replaced


class InOrder:
    """Executes the branches of a split one after another, on the run's own store."""

    @hookimpl
    def cano_bind_state(self, state: BoundState, kernel: Host) -> Work | None:
        """Answer for whatever has branches."""
        branches = getattr(state.task, "branches", None)
        return self.work if branches else None

    async def work(self, run: Run, state: BoundState) -> Any:
        """One after another."""
        task: Any = state.task
        for branch in reversed(task.branches):
            await branch(run.store)
        return task.join.next_state


@pytest.mark.parametrize("block", [(), ("concurrency",)], ids=["before it", "in its place"])
async def test_concurrency_can_be_replaced(block: tuple[str, ...]) -> None:
    """A plugin that answers for splits is asked before the built-in one, and is enough where that one is blocked."""
    async with Kernel(discover=False, plugins=[InOrder()], block=block) as kernel:
        result = await kernel.run(split())

    assert (result.state, result.data) == ("done", {"branches": [2, 1]})


class Notebook:
    """Keeps runs as lines of text, and can neither park nor resume them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    @hookimpl
    def cano_keep_runs(self, kernel: Host) -> RunKeeper | None:
        """Keep them here."""
        self.kernel = kernel
        keeper: Any = self
        return keeper  # type: ignore[no-any-return]  # it has what the test needs of a keeper

    def keeps(self, run_id: str | None) -> bool:
        """Every run."""
        return True

    def view(self, data: dict[str, Any], plan: BoundWorkflow) -> StoreView:
        """As it is."""
        return StoreView(data)

    async def begin(
        self,
        plan: BoundWorkflow,
        view: Any,
        run_id: str,
        *,
        timeout: float | None = None,
        parent: Step | None = None,
        on_existing: str | None = None,
        origin: str | None = None,
    ) -> Run | None:
        """A new run."""
        run = Run(self.kernel, plan, run_id, view, timeout=timeout)
        run.journal = Line(self.lines)
        self.run = run
        return run

    async def settled(self, plan: BoundWorkflow, run_id: str) -> RunResult:
        """The result of the last run."""
        await self.run.ended()
        return self.run.result(self.run.bound.state)

    def stopped_driving(self, run: Run) -> None:
        """Note it."""
        self.lines.append(f"{run.run_id} {run.status.value}")

    async def close(self) -> None:
        """Note it."""
        self.lines.append("closed")


class Line:
    """A run in the notebook. It is a `Journal`."""

    commits_steps = True
    ended = False
    state = ""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines

    async def transition(self, run: Run, target: BoundState) -> None:
        """Note it."""
        run.view.commit()
        self.lines.append(f"{run.run_id} -> {target.name} {dict(run.view)}")

    def check_lease(self) -> None:
        """Nothing."""

    async def wait_to_retry(self, run: Run, delay: float) -> None:
        """Nothing."""

    def remember(self, name: str, value: Any) -> None:
        """Note the name."""
        self.lines.append(f"remember {name}")

    def remember_error(self, run: Run, error: BaseException) -> None:
        """Nothing."""

    async def save(self, values: Mapping[str, Any]) -> None:
        """Note the names."""
        self.lines.append(f"save {', '.join(values)}")

    def carry(self, texts: Mapping[str, str]) -> None:
        """Nothing."""

    async def end(self, run: Run) -> None:
        """Nothing."""


async def test_durability_can_be_replaced() -> None:
    """A plugin that keeps runs is asked before cano-durability, and gets every step and its values."""
    notebook = Notebook()
    async with Kernel(store=MemoryBackend(), discover=False, plugins=[notebook]) as kernel:
        result = await kernel.run(split(), run_id="r")

    assert (result.state, result.data) == ("done", {"branches": [1, 2]})
    assert notebook.run.status is RunStatus.SUCCEEDED
    assert notebook.lines == [
        "save branch 1 0:one",
        "save branch 1 1:two",
        "remember outcome",
        "r -> done {'branches': [1, 2]}",
        "r succeeded",
        "closed",
    ]
