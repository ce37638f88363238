"""The in-memory backend beyond the contract: the number of runs it keeps, strictness, threads."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cano_memory
import pytest
from cano import (
    Capabilities,
    Commit,
    ConfigurationError,
    ConflictError,
    Kernel,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    StoreBackend,
    StoreUnavailableError,
    Workflow,
)
from cano_memory import MemoryBackend

DURABLE = Capabilities(
    durable=True,
    encoded=True,
    strict=True,
    pages=True,
    prune=True,
    claims=True,
    history_pages=True,
    namespaces=True,
    signal_limit=True,
    filters=True,
    attributes=True,
    ready_filters=True,
    streams=True,
    orders=True,
    outcomes=True,
    queues=True,
    slots=True,
    audit=True,
    appends=True,
)
FORGETFUL = Capabilities(
    durable=False,
    encoded=False,
    strict=False,
    pages=True,
    prune=True,
    claims=True,
    history_pages=True,
    namespaces=True,
    signal_limit=True,
    filters=True,
    attributes=True,
    ready_filters=True,
    streams=True,
    orders=True,
    outcomes=True,
    queues=True,
    slots=True,
)


def run_of(run_id: str, **fields: Any) -> RunRecord:
    """Return a new run without a holder."""
    return RunRecord(run_id=run_id, workflow="flow", version="1", fingerprint="f", state="S", **fields)


def commit_to(run_id: str, status: RunStatus = RunStatus.RUNNING, **fields: Any) -> Commit:
    """Return a commit to such a run, without a transition."""
    given: dict[str, Any] = {"token": 0, "expected_seq": 0, "seq": 0, "state": "S"}
    return Commit(run_id=run_id, status=status, **given | fields)


async def ids(store: MemoryBackend) -> list[str]:
    """Return the ids of all runs, sorted."""
    return sorted(run.run_id for run in await store.runs(RunFilter()))


def test_public_names() -> None:
    """The package exports its two stores and nothing else."""
    assert cano_memory.__all__ == ["MemoryBackend", "MemoryStore"]


def test_it_is_a_store() -> None:
    """It implements the protocol. Its capabilities are not durable, unless it is strict."""
    assert isinstance(MemoryBackend(), StoreBackend)
    assert MemoryBackend().capabilities == FORGETFUL
    assert MemoryBackend(strict=True).capabilities == DURABLE


async def test_repr() -> None:
    """The `repr` shows the number of runs and whether the store is strict, but no data."""
    store = MemoryBackend(strict=True)
    await store.create(run_of("secret"))

    assert repr(store) == "<MemoryBackend of 1 run(s), strict>"
    assert repr(MemoryBackend()) == "<MemoryBackend of 0 run(s)>"


@pytest.mark.parametrize("keep", [-1, 1.5, "3", None, True])
def test_keep_is_a_number_of_runs(keep: Any) -> None:
    """A wrong number of runs is refused with an error that shows it."""
    with pytest.raises(ConfigurationError, match=f"keep must be .* not {keep!r}"):
        MemoryBackend(keep=keep)


async def test_the_run_that_finished_first_is_dropped() -> None:
    """Of more than `keep` finished runs, the one that finished first is dropped with its history and signals."""
    store = MemoryBackend(keep=2)
    for run_id in "abcd":
        await store.create(run_of(run_id))
    await store.put_signal("c", Signal("1", "go"))
    for run_id, status in (("c", RunStatus.FAILED), ("a", RunStatus.SUCCEEDED), ("d", RunStatus.CANCELLED)):
        await store.commit(commit_to(run_id, status))

    assert await ids(store) == ["a", "b", "d"]
    assert await store.history("c") == []
    assert await store.next_signal("c", "go") is None


async def test_runs_that_have_not_finished_are_never_dropped() -> None:
    """Running and parked runs are kept, and do not count; a failed one that was resumed is running again."""
    store = MemoryBackend(keep=1)
    for run_id in "abc":
        await store.create(run_of(run_id))
    await store.commit(commit_to("a", RunStatus.FAILED))
    await store.commit(commit_to("a", RunStatus.RUNNING))
    await store.commit(commit_to("b", RunStatus.PARKED))
    await store.commit(commit_to("c", RunStatus.SUCCEEDED))
    assert await ids(store) == ["a", "b", "c"]

    await store.commit(commit_to("a", RunStatus.SUCCEEDED))
    assert await ids(store) == ["a", "b"]


async def test_a_deleted_run_does_not_count() -> None:
    """A finished run that was deleted makes room for another."""
    store = MemoryBackend(keep=1)
    await store.create(run_of("a", status=RunStatus.SUCCEEDED))
    await store.delete("a")
    await store.create(run_of("b", status=RunStatus.SUCCEEDED))

    assert await ids(store) == ["b"]


async def test_keep_may_be_nothing() -> None:
    """With keep=0 a run is dropped as soon as it has finished."""
    store = MemoryBackend(keep=0)
    await store.create(run_of("a"))
    await store.commit(commit_to("a", RunStatus.SUCCEEDED))
    assert await ids(store) == []


async def test_a_strict_store_drops_nothing() -> None:
    """A strict store keeps every finished run, as a durable one does."""
    store = MemoryBackend(strict=True, keep=0)
    await store.create(run_of("a"))
    await store.commit(commit_to("a", RunStatus.SUCCEEDED))

    assert await ids(store) == ["a"]


@pytest.mark.parametrize("value", [1, "text", None, bytearray(b"x")])
async def test_a_strict_store_keeps_bytes_alone(value: Any) -> None:
    """A strict store refuses a value that is not bytes; the error names the key, and nothing changes."""
    store = MemoryBackend(strict=True)
    kind = type(value).__name__
    await store.create(run_of("run"))
    for call in (store.create(run_of("new", data={"k": value})), store.commit(commit_to("run", changed={"k": value}))):
        with pytest.raises(SerializationError, match=f"key 'k' is a {kind}") as caught:
            await call
        assert (caught.value.key, caught.value.actual) == ("k", type(value))

    assert await ids(store) == ["run"]
    assert await store.load("run") == run_of("run")


async def test_a_strict_store_keeps_payloads_of_bytes_or_none() -> None:
    """In a strict store a payload must be bytes or None."""
    store = MemoryBackend(strict=True)
    await store.create(run_of("run", payload=None))
    await store.put_signal("run", Signal("1", "go", None))
    with pytest.raises(SerializationError, match="a payload is a int"):
        await store.put_signal("run", Signal("2", "go", 5))
    with pytest.raises(SerializationError, match="a payload is a int"):
        await store.commit(commit_to("run", payload=5, consumed=["1"]))

    assert await store.next_signal("run", "go") == Signal("1", "go")


@dataclass
class Order:
    """A mutable value."""

    lines: list[str] = field(default_factory=list)


async def test_objects_are_copied_as_far_as_they_can_change() -> None:
    """Containers and dataclasses are copied when stored and returned; other objects are shared."""
    store, order, client = MemoryBackend(), Order(["a"]), object()
    await store.create(run_of("run", data={"order": order, "client": client}))
    order.lines.append("b")
    run = await store.load("run")
    assert run is not None
    run.data["order"].lines.append("c")

    again = await store.load("run")
    assert again is not None
    assert again.data == {"order": Order(["a"]), "client": client}


async def test_a_closed_store_cannot_be_opened_again() -> None:
    """A closed store has deleted everything and refuses every call."""
    store = MemoryBackend()
    await store.open()
    await store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        await store.open()


def test_threads_may_share_it() -> None:
    """Threads, each with an event loop of its own, use one store: of two commits to one seq one wins, none is lost."""
    store, threads, transitions = MemoryBackend(), 8, 100
    asyncio.run(store.create(run_of("run")))

    async def race(name: int) -> int:
        won = 0
        while (run := await store.load("run")) is not None and run.seq < transitions:
            try:
                await store.commit(
                    commit_to("run", expected_seq=run.seq, seq=run.seq + 1, changed={f"k{run.seq}": name})
                )
                won += 1
            except ConflictError:
                pass
        return won

    with ThreadPoolExecutor(threads) as pool:
        won = list(pool.map(lambda name: asyncio.run(race(name)), range(threads)))
    run, history = asyncio.run(store.load("run")), asyncio.run(store.history("run"))

    assert sum(won) == transitions
    assert run is not None
    assert len(run.data) == transitions
    assert [line.seq for line in history] == list(range(transitions + 1))


async def test_a_dropped_run_id_runs_again_after_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """The id of a dropped run executes the run again. The store warns once, when it drops the first run."""
    executed = 0

    async def work(store: Any) -> str:
        nonlocal executed
        executed += 1
        return "end"

    flow = Workflow("start").register("start", work).add_exit_state("end")
    async with Kernel(store=MemoryBackend(keep=2)) as kernel:
        for run_id in ("a", "b", "a"):
            await kernel.run(flow, run_id=run_id)
        assert (executed, caplog.messages) == (2, [])
        for run_id in ("c", "d", "a"):
            await kernel.run(flow, run_id=run_id)

    assert executed == 5
    assert [message for message in caplog.messages if "drops the earliest" in message] == [
        "the memory store has more than 2 finished runs and drops the earliest; the run id of a dropped run can run "
        "again; raise keep=, or use a durable store"
    ]
