"""Random steps that set, append to, change and remove lists, against a plain model: also after takeovers, and in forks.

A store keeps what was appended apart from the list. So whatever reads a run must put the parts together alike: the
steps, the process that takes the run over, the history, and a fork of each transition.
"""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from cano import Appended, JoinConfig, JoinStrategy, Kernel, KeyValueStore, StoreBackend, Workflow
from cano_encryption import KEYS_ENV, new_key
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.acceptance.durability.shared import Shared

EXAMPLES = {"memory": 25, "sqlite": 12, "sealed": 6, "postgres": 4, "redis": 6}
MORE = 50 if os.environ.get("CANO_SOAK") else 1
NAMES = {"msgspec", "sqlite", "postgres", "redis", "encryption", "zstd"}
PLUGINS = [point.load() for point in entry_points(group="cano") if point.name in NAMES]  # to find them takes long
SPLIT, CRASH = "split", "crash"

KEYS = st.sampled_from(["a", "b", "c"])
ITEMS = st.one_of(st.integers(-3, 300), st.text(max_size=3), st.lists(st.integers(0, 2), max_size=2))
ACTS = st.one_of(
    st.tuples(st.just("append"), KEYS, ITEMS),
    st.tuples(st.just("append"), KEYS, ITEMS),
    st.tuples(st.just("put"), KEYS, st.lists(ITEMS, max_size=3)),
    st.tuples(st.just("grow"), KEYS, ITEMS),
    st.tuples(st.just("look"), KEYS, ITEMS),
    st.tuples(st.just("remove"), KEYS, st.none()),
    st.tuples(st.just("clear"), KEYS, st.none()),
)
STEPS = st.lists(
    st.one_of(st.lists(ACTS, max_size=3), st.lists(ACTS, max_size=3), st.sampled_from([SPLIT, CRASH])), max_size=14
)


def act(store: Any, name: str, key: str, item: Any) -> None:
    """Do one thing to the store of a task."""
    if name == "append":
        store.append(key, item)
    elif name == "put":
        store[key] = item
    elif name == "grow" and key in store:
        store[key].append(item)
    elif name == "look" and key in store:
        assert len(store[key]) == len(store.peek(key))
        store.append(key, item)
    elif name == "remove" and key in store:
        store.remove(key)
    elif name == "clear":
        count = store["i"]
        store.clear()
        store["i"] = count


def modelled(data: dict[str, Any], name: str, key: str, item: Any) -> None:
    """Do the same to a dict."""
    if name == "append" or (name in ("grow", "look") and key in data):
        data.setdefault(key, []).append(item)
    elif name == "put":
        data[key] = copy.copy(item)
    elif name == "remove":
        data.pop(key, None)
    elif name == "clear":
        count = data["i"]
        data.clear()
        data["i"] = count


class Script:
    """A random script: the workflow that follows it, and the data of the model after each transition."""

    def __init__(self, steps: list[Any]) -> None:
        self.steps = steps
        self.hangs = False
        self.hanging = asyncio.Event()
        self.flow: Workflow[str] = Workflow("step", name="script")
        self.flow.register("step", self.step)
        self.flow.register_split("split", [self.left, self.right], JoinConfig(JoinStrategy.all(), "joined"))
        self.flow.register("joined", self.joined)
        self.flow.add_exit_state("end")
        data: dict[str, Any] = {"i": 0, "a": ["first"]}
        self.states = [copy.deepcopy(data)]
        for step in [None, *steps]:
            if step == SPLIT:
                data.setdefault("a", []).extend(["left", "right"])
                data.setdefault("b", []).append("right")
                self.states.append(copy.deepcopy(data))
            for one in step if isinstance(step, list) else ():
                modelled(data, *one)
            data["i"] += 1
            self.states.append(copy.deepcopy(data))

    def then(self, store: KeyValueStore) -> str:
        """Count the step, and return the next state."""
        store["i"] = count = store.get("i", int) + 1
        return "end" if count > len(self.steps) else "split" if self.steps[count - 1] == SPLIT else "step"

    async def step(self, store: KeyValueStore) -> str:
        """Do the step's acts; hang at a crash."""
        count = store.get("i", int)
        step = self.steps[count - 1] if count else None
        if step == CRASH and self.hangs:
            store.append("a", "lost")
            self.hanging.set()
            await asyncio.Event().wait()
        for one in step if isinstance(step, list) else ():
            act(store, *one)
        return self.then(store)

    async def left(self, store: KeyValueStore) -> None:
        """Append in a branch."""
        store.append("a", "left")

    async def right(self, store: KeyValueStore) -> None:
        """Append in another branch, to two lists."""
        store.append("a", "right")
        store.append("b", "right")

    async def joined(self, store: KeyValueStore) -> str:
        """Go on after the split."""
        return self.then(store)


async def follow(make: Callable[[], str | StoreBackend], steps: list[Any]) -> None:
    """Let kernels follow a script on a store, each until it hangs; then fork each transition."""
    script, store = Script(steps), make()
    kernels = []

    async def kernel() -> Kernel:
        kernels.append(Kernel(store=store, discover=False, plugins=PLUGINS, grace=0))
        await kernels[-1].open()
        return kernels[-1]

    try:
        one = await kernel()
        script.hangs = CRASH in steps
        handle = await one.start(script.flow, script.states[0], run_id="r")
        if script.hangs:
            await script.hanging.wait()
            script.hangs = False
            other = await kernel()
            assert other.backend is not None
            record = await other.backend.load("r")
            assert record is not None
            await other.backend.release("r", record.token)
            await other.recover(script.flow)
            handle = await other.start(script.flow, run_id="r")
        result = await handle.result()
        assert result.data == script.states[-1]

        last = await kernel()
        replayed: dict[str, Any] = {}
        for entry, expected in zip(await last.history("r"), script.states, strict=True):
            for key in entry.removed:
                replayed.pop(key, None)
            for key, value in entry.changed.items():
                replayed[key] = [*replayed[key], *value] if isinstance(value, Appended) else value
            assert replayed == expected
            await last.fork("r", entry.seq, f"fork {entry.seq}")
            if entry.state != "end":
                assert (await last.run(script.flow, run_id=f"fork {entry.seq}")).data == script.states[-1]
    finally:
        for each in kernels:
            await each.close()


@pytest.mark.parametrize("kind", EXAMPLES)
def test_lists_are_as_in_a_model(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Every kernel, history and fork has the lists that plain dicts would have."""
    keys = pytest.MonkeyPatch()
    keys.setenv(KEYS_ENV, new_key())
    names = iter(range(10**6))

    def make() -> str | StoreBackend:
        if kind == "memory":
            return Shared(strict=True)
        if kind in ("sqlite", "sealed"):
            layers = "&codec=zstd,encrypt" if kind == "sealed" else ""
            return f"sqlite:///{tmp_path}/{next(names)}.db?snapshot_every=3&synchronous=normal{layers}"
        server = request.getfixturevalue(kind)
        return str(server.new_url(snapshot_every=3) if kind == "postgres" else server.new_url())

    @settings(max_examples=EXAMPLES[kind] * MORE, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def test(steps: list[Any]) -> None:
        asyncio.run(follow(make, steps))

    with keys.context():
        test()
    keys.undo()
