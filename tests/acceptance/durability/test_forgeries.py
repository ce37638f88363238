"""What comes from outside cannot speak in the engine's own voice: in data, keys and signals; on any store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from cano import (
    CanoError,
    ConcurrentWorkflow,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Key,
    KeyValueStore,
    RunCancelledError,
    RunStatus,
    SerializationError,
    Signal,
    StoreBackend,
    SubWorkflow,
    TaskConfig,
    WaitStrategy,
    Workflow,
    wait_for,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore
from cano_scheduler import Scheduler

NAMES = (
    "branch 1 0:check", "outcome", "deadline", "definition", "retry", "phases", "takeovers", "error", "wait", "payload",
    "carried", "origin", "awaited", "seal", "cancel",
)  # fmt: skip
"""The names that the engine uses for its own values."""
DONE = {"1": "ok"}
FORGED = {
    "branch 1 0:check": ["ok", DONE, {"approved": True}],
    "outcome": [[["0:check", "ok", None, None]], False],
    "deadline": [1.0, 1.0],
    "definition": ["9", "start DONE; exit DONE"],
}


def form(*names: str, prefix: str = "\\u0000") -> dict[str, Any]:
    """Return what a web page makes of a form that an attacker has sent: JSON with keys of his choice."""
    fields = ", ".join(f'"{prefix}{name}": {json.dumps(FORGED.get(name, [1, 1]))}' for name in names)
    parsed: dict[str, Any] = json.loads("{" + fields + "}")
    return parsed | {"amount": 9999}


class Order:
    """An order whose fraud check fails, however often it is made."""

    def __init__(self) -> None:
        self.checks = 0

    def flow(self) -> Workflow[str]:
        """The workflow: it ships what was checked."""

        async def check(store: KeyValueStore) -> None:
            self.checks += 1
            raise ValueError("fraud")

        async def stock(store: KeyValueStore) -> None:
            store["stock"] = 1

        flow = Workflow("CHECK", name="order", default_config=TaskConfig.minimal())
        flow.register_split("CHECK", [check, stock], JoinConfig(JoinStrategy.all(), "SHIPPED"))
        return flow.add_exit_state("SHIPPED")


async def test_a_form_cannot_forge_that_a_check_passed(store: str | StoreBackend) -> None:
    """The form is refused before anything is stored. With the same names, but no NUL, each check is made anyway."""
    order = Order()
    async with Kernel(store=store) as kernel:
        with pytest.raises(ConfigurationError, match=r"must not begin with NUL, but '\\x00branch 1 0:check' does"):
            await kernel.run(order.flow(), form(*NAMES), run_id="forged")
        assert await kernel.runs() == []
        with pytest.raises(JoinError):
            await kernel.run(order.flow(), form(*NAMES, prefix=""), run_id="plain")
    async with Kernel(store=store) as kernel:
        with pytest.raises(JoinError):
            await kernel.resume(order.flow(), "plain")
        assert kernel.backend is not None
        record = await kernel.backend.load("plain")
        assert record is not None
        assert {*NAMES} <= record.data.keys()
    assert order.checks == 2


async def test_a_row_with_keys_of_an_earlier_version_means_nothing(store: str | StoreBackend) -> None:
    """Data that came around the doors, with a key that was the engine's own once, is data and nothing else."""
    order = Order()
    async with Kernel(store=store) as kernel:
        with pytest.raises(JoinError):
            await kernel.run(order.flow(), run_id="honest")
        assert kernel.backend is not None
        assert kernel.codec is not None
        record = await kernel.backend.load("honest")
        assert record is not None
        data = {f"\0{name}": kernel.codec.encode(value) for name, value in FORGED.items()}
        await kernel.backend.create(record._replace(run_id="forged", data=data, holder=None, expires=None))
        with pytest.raises(JoinError):
            await kernel.resume(order.flow(), "forged")
        found = await kernel.backend.load("forged")
        assert found is not None
        assert (found.version, found.status) == ("1", RunStatus.FAILED)
    assert order.checks == 2


def put(store: KeyValueStore) -> None:
    """Put it."""
    store.put("\0deadline", [1.0, 1.0])


def put_text(store: KeyValueStore) -> None:
    """Put what takes the shortest way through a view."""
    store["\0retry"] = 5


def append(store: KeyValueStore) -> None:
    """Append it."""
    store.append("\0outcome", 1)


def key(store: KeyValueStore) -> None:
    """Name it by a key."""
    store[Key("\0definition", list)] = ["9", "x"]


def mixed(store: KeyValueStore) -> None:
    """Put it when the view has done more than put values."""
    store.append("list", 1)
    store["\0retry"] = 5


@pytest.mark.parametrize("write", [put, put_text, append, key, mixed])
@pytest.mark.parametrize("split", [False, True])
async def test_a_task_cannot_write_such_a_key(write: Callable[[KeyValueStore], None], split: bool) -> None:
    """Neither in a state nor in a branch, whatever the way: the task fails, and names the key."""

    async def act(store: KeyValueStore) -> Literal["DONE"]:
        write(store)
        return "DONE"

    async def branch(store: KeyValueStore) -> None:
        write(store)

    flow: Workflow[str] = Workflow("ACT", name="act", default_config=TaskConfig.minimal()).add_exit_state("DONE")
    if split:
        flow.register_split("ACT", [branch], JoinConfig(JoinStrategy.all(), "DONE"))
    else:
        flow.register("ACT", act)
    async with Kernel(store="memory://?strict=1") as kernel:
        with pytest.raises(CanoError, match=r"\\x00") as failed:
            await kernel.run(flow, run_id="run")
        assert "must not begin with NUL" in f"{failed.value} {failed.value.__cause__}"
        assert (await kernel.runs())[0].status is RunStatus.FAILED


async def nothing(store: Any) -> Literal["DONE"]:
    """Do nothing."""
    return "DONE"


async def waits(store: Any) -> Any:
    """Wait for a signal."""
    return wait_for("go", then="DONE")


empty: Workflow[str] = Workflow("ACT", name="empty").register("ACT", nothing).add_exit_state("DONE")
waiting: Workflow[str] = Workflow("WAIT", name="waiting").register("WAIT", waits).add_exit_state("DONE")


async def test_an_id_with_an_address_means_nothing(store: str | StoreBackend) -> None:
    """A signal that came around the doors, whose id was an address once, is for any wait, and is no other's twin."""
    async with Kernel(store=store) as kernel:
        assert kernel.backend is not None
        for run_id in ("any", "one"):
            await (await kernel.start(waiting, run_id=run_id))._run.ended()
        await kernel.backend.put_signal("any", Signal("\0wait 99 x", "go"))  # to another wait, it would stay there
        assert (await kernel.run(waiting, run_id="any")).state == "DONE"

        token = (await kernel.get("one")).wait_token
        assert token is not None
        seq = token.rpartition(":")[2]
        await kernel.backend.put_signal("one", Signal(f"\0wait {seq} x", "another"))
        assert await kernel.signal("one", "go", id="x", wait=token)  # otherwise it would be ignored as repeated
        assert (await kernel.run(waiting, run_id="one")).state == "DONE"
        mail = await kernel.backend.signals("one")
        assert [signal.id for signal in mail.waiting if not signal.own] == [f"\0wait {seq} x"]
        assert (list(mail.consumed), list(mail.answered)) == ([], [(int(seq), "x")])


async def start(kernel: Kernel) -> None:
    """Start a run with it."""
    await kernel.start(empty, {"\0retry": 1})


async def keyed(kernel: Kernel) -> None:
    """Run with a key of a mapping that is no dict."""
    await kernel.run(empty, {Key("\0retry", int): 1})


async def child(kernel: Kernel) -> None:
    """Give it to a child."""
    parent: Workflow[str] = Workflow("ACT", name="parent", default_config=TaskConfig.minimal()).add_exit_state("DONE")
    parent.register("ACT", SubWorkflow(empty, inputs={"a": "\0retry"}, then="DONE"))
    await kernel.run(parent, {"a": 1})


async def back(kernel: Kernel) -> None:
    """Take it from a child."""
    parent: Workflow[str] = Workflow("ACT", name="parent", default_config=TaskConfig.minimal()).add_exit_state("DONE")
    parent.register("ACT", SubWorkflow(empty, inputs={"a": "a"}, outputs={"a": "\0retry"}, then="DONE"))
    await kernel.run(parent, {"a": 1})


async def batch(kernel: Kernel) -> None:
    """Give it to a batch, one run of which is parked."""
    results, _ = await ConcurrentWorkflow(waiting, kernel=kernel).execute_concurrent(
        [{"\0retry": 1}], WaitStrategy.forever()
    )
    raise results[0].error  # type: ignore[union-attr]  # it has failed


async def memory_store(kernel: Kernel) -> None:
    """Put it into a store of the user's own."""
    await kernel.orchestrate(waiting, MemoryStore({"\0retry": 1}))


async def schedule(kernel: Kernel) -> None:
    """Schedule it."""
    Scheduler(kernel).every("each", empty, 60, data={"\0retry": 1})


async def fork(kernel: Kernel) -> None:
    """Fork to an id like that."""
    await kernel.run(empty, run_id="run")
    await kernel.fork("run", 0, "\0run")


async def run_id(kernel: Kernel) -> None:
    """Run under such an id."""
    await kernel.run(empty, run_id="\0run")


async def signal(kernel: Kernel) -> None:
    """Send a signal with the engine's name."""
    await kernel.signal("run", "\0cancel")


async def signal_id(kernel: Kernel) -> None:
    """Send a signal with the engine's id."""
    await kernel.signal("run", "go", id="\0cancel 1")


async def signals(kernel: Kernel) -> None:
    """Send signals with the engine's name to many runs."""
    await kernel.signal_many("status = parked", "\0cancel")


async def signals_id(kernel: Kernel) -> None:
    """Send signals with the engine's id to many runs."""
    await kernel.signal_many("status = parked", "go", id="\0wait 1 x")


async def forks(kernel: Kernel) -> None:
    """Fork with such a key."""
    await kernel.run(empty, run_id="run")
    await kernel.fork("run", 0, "fork", changes={"\0retry": 1})


async def wait(kernel: Kernel) -> None:
    """Wait for the engine's signal."""
    wait_for("\0cancel", then="DONE")


async def state(kernel: Kernel) -> None:
    """Name a state like the engine's."""
    Workflow("\0start", name="x")


async def name(kernel: Kernel) -> None:
    """Name a workflow like that."""
    Workflow("START", name="\0x")


DOORS = (
    start, keyed, child, back, batch, memory_store, schedule, fork, run_id, signal, signal_id, signals,
    signals_id, forks, wait, state, name,
)  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_refuses_nul(door: Callable[[Kernel], Any]) -> None:
    """A key, a name or an id that begins with NUL is refused with an error that shows it."""
    async with Kernel(store="memory://?strict=1", clock=VirtualClock()) as kernel:
        with pytest.raises((ConfigurationError, SerializationError), match=r"NUL"):
            await door(kernel)


async def test_a_signal_with_the_engines_name_cancels_nothing(store: str | StoreBackend) -> None:
    """A signal with the engine's name and id neither cancels a run nor keeps another process from cancelling it."""
    async with Kernel(store=store) as kernel:
        handle = await kernel.start(waiting, run_id="run")
        await kernel.active["run"].ended()
        for id in ("cancel 1", "cancel 2", "cancel with parent 1", "cancel with parent 2"):
            assert await kernel.signal("run", "cancel", id=id)
        assert await kernel.signal("run", "child run:1/x", id="child run:1/x 1")
        assert (await kernel.runs())[0].status is RunStatus.PARKED
    async with Kernel(store=store) as kernel:
        await kernel.recover(waiting)
        assert (await kernel.runs())[0].status is RunStatus.PARKED
        assert await kernel.cancel("run")
        with pytest.raises(RunCancelledError):
            await kernel.run(waiting, run_id="run")
        assert kernel.backend is not None
        assert not any(each.own for each in (await kernel.backend.signals("run")).waiting)
    assert handle is not None


async def test_the_engines_signal_wakes_no_user(store: str | StoreBackend) -> None:
    """A run that waits for a signal of a user is not woken by one of the engine's own with the same name."""
    async with Kernel(store=store) as kernel:
        await kernel.start(waiting, run_id="run")
        await kernel.active["run"].ended()
        assert kernel.backend is not None
        await kernel.backend.put_signal("run", Signal("1", "go", own=True))
        assert await kernel.recover(waiting) == []
        assert (await kernel.runs())[0].status is RunStatus.PARKED
        await kernel.signal("run", "go")
        assert (await kernel.run(waiting, run_id="run")).state == "DONE"
