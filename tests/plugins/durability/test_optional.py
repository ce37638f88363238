"""Stores that keep no history, or delete nothing: what needs that says so, and all else works."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from cano import (
    AuditEntry,
    Capabilities,
    ConfigurationError,
    Kernel,
    Retention,
    RunStatus,
    StoreError,
    TaskError,
    Transition,
    Workflow,
    hookimpl,
    wait_for,
)
from cano_sqlite import SqliteBackend

(_CODEC,) = entry_points(group="cano", name="msgspec")
DECLINED = Capabilities(history=False, retention=False)


class Sparse(SqliteBackend):
    """A store on disk that keeps no history, and deletes nothing."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.capabilities = DECLINED

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Nothing, ever."""
        return ()

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """Refuse."""
        raise StoreError("this store keeps everything")


class Plugin:
    """Opens such stores."""

    __name__ = "sparse"

    def __init__(self, path: Path) -> None:
        self.path = path

    @hookimpl
    def cano_open_store(self, url: str) -> Sparse | None:
        """The one at the path."""
        return Sparse(self.path) if url.startswith("sparse:") else None


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """A kernel on such a store, whose URL has a password in it."""
    plugins = [_CODEC.load(), Plugin(tmp_path / "runs.db")]
    return Kernel(store="sparse://ada:s3@cret@host/runs?password=s3cret", discover=False, plugins=plugins)


def flow(broken: list[int]) -> Workflow[str]:
    """A workflow that fails as long as it is broken, and then waits."""

    async def one(store: Any) -> Any:
        store["one"] = 1
        if broken:
            raise ValueError("no")
        return wait_for("go", then="two")

    async def two(store: Any) -> str:
        store["two"] = store["one"] + 1
        return "end"

    made = Workflow("one", name="flow").add_exit_state("end")
    return made.register("one", one).register("two", two)


async def test_what_needs_a_history_says_so(kernel: Kernel) -> None:
    """`history` and `fork` name the store, what it lacks and what to do, but no secret; of unknown runs too."""
    async with kernel:
        for call in (kernel.history("r"), kernel.fork("r", 1, "f")):
            with pytest.raises(ConfigurationError) as refused:
                await call
            said = str(refused.value)
            assert said.startswith("the store 'sparse://host/runs' keeps no history")
            assert repr(kernel).startswith("<Kernel on 'sparse://host/runs', open")
            assert "cano plugins" in said
        assert await kernel.runs() == []


async def test_what_needs_retention_says_so(kernel: Kernel) -> None:
    """`prune` says that the store keeps everything, whatever is to be kept, and leaves the runs alone."""
    async with kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow([1]), run_id="r")
        before = await kernel.runs()
        for retention in (Retention(), Retention(on_terminal="delete")):
            with pytest.raises(ConfigurationError, match=r"'sparse://host/runs' keeps everything.*cano plugins"):
                await kernel.prune(retention)
        assert await kernel.runs() == before


async def test_a_store_that_is_an_object_is_named_too(tmp_path: Path) -> None:
    """Where the kernel was given a store and no URL, the message shows that."""
    async with Kernel(store=Sparse(tmp_path / "runs.db"), discover=False, plugins=[_CODEC.load()]) as kernel:
        with pytest.raises(ConfigurationError, match=r"the store <Sparse .*runs.db.*> keeps no history"):
            await kernel.history("r")


async def test_everything_else_works(kernel: Kernel) -> None:
    """Runs fail, are resumed, wait for signals, end, are explained and checked."""
    broken = [1]
    async with kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow(broken), run_id="r")
        broken.clear()
        await kernel.signal("r", "go")
        result = await kernel.resume(flow(broken), "r")

        assert result.data == {"one": 1, "two": 2}
        assert [run.status for run in await kernel.runs()] == [RunStatus.SUCCEEDED]
        assert await kernel.check() == []
        assert "success" in str(await kernel.explain("r"))
