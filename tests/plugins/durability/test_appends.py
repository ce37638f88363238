"""`store.append` stores the new items only, if the store keeps them in parts; and the whole list wherever it must."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cano import (
    Appended,
    AuditEntry,
    Commit,
    JoinConfig,
    JoinStrategy,
    Kernel,
    KeyValueStore,
    SerializationError,
    StoreBackend,
    Workflow,
)
from cano.testing import Faults, FaultyStore

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World

STEPS = 40


class Noting(FaultyStore):
    """A store that notes what each commit changes."""

    def __init__(self, backend: StoreBackend, faults: Faults | None = None) -> None:
        super().__init__(backend, faults)
        self.changed: list[dict[str, Any]] = []

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """Note it."""
        self.changed.append(dict(commit.changed))
        await super().commit(commit, audit)


class Whole(Noting):
    """One that keeps no parts, and refuses them."""

    def __init__(self, backend: StoreBackend, faults: Faults | None = None) -> None:
        super().__init__(backend, faults)
        self.capabilities = self.capabilities._replace(appends=False)

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """Refuse parts."""
        assert Appended not in map(type, commit.changed.values())
        await super().commit(commit, audit)


def appending(steps: int = STEPS, **options: Any) -> Workflow[str]:
    """A workflow that appends an item in each step."""
    flow = Workflow("step", name="appending", **options).add_exit_state("end")

    @flow.on("step")
    async def step(store: KeyValueStore) -> str:
        store.append("log", "hello world")
        return "step" if len(store.peek("log", list)) < steps else "end"

    return flow


def sizes(kernel: Kernel, key: str = "log") -> list[int]:
    """The bytes that each commit had for a key; negative ones for a whole value."""
    assert isinstance(kernel.backend, Noting)
    found = [changed[key] for changed in kernel.backend.changed if key in changed]
    return [sum(map(len, value)) if value.__class__ is Appended else -len(value) for value in found]


async def test_each_step_stores_its_item(world: World) -> None:
    """The first append makes the list; each further one stores its item, however long the list is by then."""
    kernel = await world.kernel(kind=Noting)
    await kernel.run(appending(), run_id="r")

    first, *others = sizes(kernel)
    assert first < 0
    assert others == [-first] * (STEPS - 1)
    changed = [entry.changed for entry in await kernel.history("r")]
    assert changed == [{}, {"log": ["hello world"]}, *[{"log": Appended(["hello world"])}] * (STEPS - 1)]
    (record,) = [await world.look("r")]
    assert len(record.data["log"]) == STEPS


async def test_another_process_appends_further(world: World) -> None:
    """A process that takes a run over appends to the parts that it finds."""
    one, hangs = await world.kernel(kind=Noting), asyncio.Event()
    flow = Workflow("step", name="appending").add_exit_state("end")

    @flow.on("step")
    async def step(store: KeyValueStore) -> str:
        store.append("log", "hello world")
        if len(store.peek("log", list)) == STEPS // 2 and not hangs.is_set():
            hangs.set()
            await asyncio.Event().wait()
        return "step" if len(store.peek("log", list)) < STEPS else "end"

    await one.start(flow, run_id="r")
    await hangs.wait()
    await world.crash(one)
    await world.lapse()

    two = await world.kernel(kind=Noting)
    await two.recover(flow)
    assert (await two.run(flow, run_id="r")).data["log"] == ["hello world"] * STEPS
    assert min(sizes(two)) > 0


async def test_a_store_without_parts_gets_the_list(world: World) -> None:
    """To a store that does not promise `appends`, the whole list is committed."""
    kernel = await world.kernel(kind=Whole)
    assert (await kernel.run(appending(), run_id="r")).data["log"] == ["hello world"] * STEPS

    assert max(sizes(kernel)) < 0
    assert (await kernel.history("r"))[-1].changed == {"log": ["hello world"] * STEPS}


async def test_a_list_that_is_changed_otherwise_is_stored_as_a_whole(world: World) -> None:
    """In-place changes, puts, removals and `clear` store the list; a list that is only read is appended to."""
    kernel, flow = await world.kernel(kind=Noting), Workflow("reads", name="f").add_exit_state("end")

    @flow.on("reads")
    async def reads(store: KeyValueStore) -> str:
        assert store["log"] == [1]
        store.append("log", 2)
        assert store["log"] == [1, 2]
        return "changes"

    @flow.on("changes")
    async def changes(store: KeyValueStore) -> str:
        store["log"][0] = 0
        store.append("log", 3)
        return "puts"

    @flow.on("puts")
    async def puts(store: KeyValueStore) -> str:
        store["log"] = [*store["log"], 4]
        store.append("log", 5)
        return "removes"

    @flow.on("removes")
    async def removes(store: KeyValueStore) -> str:
        store.remove("log")
        store.append("log", 6)
        return "clears"

    @flow.on("clears")
    async def clears(store: KeyValueStore) -> str:
        store.clear()
        store.append("log", 7)
        return "appends"

    @flow.on("appends")
    async def appends(store: KeyValueStore) -> str:
        store.append("log", 8)
        store.append("log", 9)
        return "end"

    result = await kernel.run(flow, {"log": [1]}, run_id="r")

    assert result.data == {"log": [7, 8, 9]}
    assert [entry.changed.get("log") for entry in await kernel.history("r")] == [
        [1], Appended([2]), [0, 2, 3], [0, 2, 3, 4, 5], [6], [7], Appended([8, 9]),
    ]  # fmt: skip


async def test_branches_append(world: World) -> None:
    """What the branches of a split append is one change of the join, in the order of the merge."""
    kernel, flow = await world.kernel(kind=Noting), Workflow("split", name="f").add_exit_state("end")

    async def left(store: KeyValueStore) -> None:
        store.append("log", "left")

    async def right(store: KeyValueStore) -> None:
        store.append("log", "right")
        store.append("log", "right")

    flow.register_split("split", [left, right], JoinConfig(JoinStrategy.all(), "end"))
    result = await kernel.run(flow, {"log": ["first"]}, run_id="r")

    assert result.data == {"log": ["first", "left", "right", "right"]}
    assert (await kernel.history("r"))[-1].changed == {"log": Appended(["left", "right", "right"])}


async def test_a_run_that_is_stored_at_its_end(world: World) -> None:
    """With `durability="exit"` the steps store nothing, so the end stores the whole list."""
    kernel = await world.kernel(kind=Noting)
    await kernel.run(appending(durability="exit"), {"log": ["first"]}, run_id="r")

    (size,) = sizes(kernel)
    assert size < -STEPS
    assert [entry.changed for entry in await kernel.history("r")] == [
        {"log": ["first"]}, {"log": ["first", *["hello world"] * (STEPS - 1)]},
    ]  # fmt: skip


async def test_a_part_that_is_not_a_list(world: World) -> None:
    """A value whose parts do not make a list is corrupt, and the error names it."""
    kernel = await world.kernel()
    await kernel.run(appending(2), run_id="r")
    record = await world.look("r")
    assert kernel.codec is not None
    odd = record._replace(run_id="odd", data={"log": Appended([*record.data["log"], kernel.codec.encode(1)])})
    await world.store(kernel).backend.create(odd._replace(holder=None, expires=None))

    with pytest.raises(SerializationError, match="run odd, key 'log': a part of it is not a list"):
        await kernel.run(appending(2), run_id="odd")
