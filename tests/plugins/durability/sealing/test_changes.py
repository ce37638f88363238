"""What someone with write access changes in an encrypted store is refused, by the run that it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from cano import (
    Appended,
    Commit,
    ConfigurationError,
    ConflictError,
    Kernel,
    KeyValueStore,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    StoreUnavailableError,
    StreamChunk,
    TaskError,
    Transition,
    Wait,
    Workflow,
    current_step,
    wait_for,
)
from cano.testing import FaultyStore
from cano.testing.contract_base import LATER, NOW, free_run, new_run, step
from cano_durability.keys import MARK
from cano_durability.sealing.seals import SEAL, sealed_id
from cano_durability.sealing.store import sealed
from cano_encryption import EncryptionLayer, new_key, read_keys
from cano_memory.backend import MemoryBackend

flow = Workflow("PRICE", name="sale").add_exit_state("SOLD")


@flow.on("PRICE")
async def price(store: KeyValueStore) -> str:
    """Set a price, and wait for the payment."""
    store["price"] = 10
    return "RAISE"


@flow.on("RAISE")
async def raised(store: KeyValueStore) -> str:
    """Raise the price, and wait for the payment."""
    store["price"] = 1000
    return wait_for("paid", then="CHECK")


@flow.on("CHECK")
async def check(store: KeyValueStore) -> str:
    """Take the payment, and wait for another one."""
    store["paid"] = store.get("paid", default=0) + current_step().payload
    return "SOLD" if store["paid"] >= store["price"] else wait_for("paid", then="CHECK")


@pytest.fixture
async def kernel() -> AsyncIterator[Kernel]:
    """A kernel on an encrypted store, with the runs one and two parked."""
    async with Kernel(store="memory://?strict=1&codec=encrypt:errors") as kernel:
        for run_id in ("one", "two"):
            handle = await kernel.start(flow, {"buyer": run_id}, run_id=run_id)
            await handle._run.ended()
        yield kernel


def rows(kernel: Kernel) -> dict[str, RunRecord]:
    """Return the store's own dict of records."""
    backend: Any = kernel.backend
    found: dict[str, RunRecord] = backend.inner._runs
    return found


def entries(kernel: Kernel) -> dict[str, list[Any]]:
    """Return the store's own dict of histories."""
    backend: Any = kernel.backend
    found: dict[str, list[Any]] = backend.inner._history
    return found


def data(record: RunRecord, **values: Any) -> RunRecord:
    """Return the record with other values."""
    return record._replace(data={**record.data, **values})


CHANGES: dict[str, Callable[[RunRecord, RunRecord, list[Any]], RunRecord]] = {
    "an older value of the same key": lambda one, two, past: data(one, price=past[1].changed["price"]),
    "a value of another run": lambda one, two, past: data(one, price=two.data["price"]),
    "a value of another key": lambda one, two, past: data(one, buyer=one.data["price"]),
    "a value more": lambda one, two, past: data(one, more=two.data["price"]),
    "a value less": lambda one, two, past: one._replace(data={k: v for k, v in one.data.items() if k != "price"}),
    "the data of another run": lambda one, two, past: one._replace(data=two.data),
    "an older seal": lambda one, two, past: one._replace(own={**one.own, SEAL: past[1].own[SEAL]}),
    "no seal": lambda one, two, past: one._replace(own={k: v for k, v in one.own.items() if k != SEAL}),
    "a value of the data made one of the engine's own": lambda one, two, past: one._replace(
        data={k: v for k, v in one.data.items() if k != "price"}, own={**one.own, "price": one.data["price"]}
    ),
    "a value of the engine's own less": lambda one, two, past: one._replace(own={SEAL: one.own[SEAL]}),
    "another run as a whole": lambda one, two, past: two._replace(run_id="one"),
    "state": lambda one, two, past: one._replace(state="SOLD"),
    "status": lambda one, two, past: one._replace(status=RunStatus.SUCCEEDED),
    "seq": lambda one, two, past: one._replace(seq=7),
    "an older seq": lambda one, two, past: one._replace(seq=1),
    "workflow": lambda one, two, past: one._replace(workflow="gift"),
    "version": lambda one, two, past: one._replace(version="2"),
    "fingerprint": lambda one, two, past: one._replace(fingerprint="start SOLD"),
    "parent": lambda one, two, past: one._replace(parent="two"),
    "wait": lambda one, two, past: one._replace(wait=Wait("SOLD", "paid")),
    "wait for a signal of the engine's own": lambda one, two, past: one._replace(wait=Wait("CHECK", "paid", own=True)),
    "timeout": lambda one, two, past: one._replace(wait=Wait("CHECK", "paid", 1.0, "SOLD")),
    "error": lambda one, two, past: one._replace(error={"type": "TaskError", "message": "forged"}),
    "payload": lambda one, two, past: one._replace(payload=one.data["price"]),
    "time": lambda one, two, past: one._replace(updated=1.0),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_changed_run_is_refused(
    kernel: Kernel, change: Callable[[RunRecord, RunRecord, list[Any]], RunRecord]
) -> None:
    """It is neither read, resumed nor forked, and takes no signal; the other run ends as it would have."""
    runs = rows(kernel)
    runs["one"] = change(runs["one"], runs["two"], entries(kernel)["one"])
    for call in (
        lambda: kernel.resume(flow, "one"), lambda: kernel.run(flow, run_id="one"), lambda: kernel.history("one"),
        lambda: kernel.fork("one", 1, "three"), lambda: kernel.signal("one", "paid", 1000),
    ):  # fmt: skip
        with pytest.raises(SerializationError, match="one") as caught:
            await call()
        assert caught.value.run_id == "one"
    with suppress(SerializationError):
        assert not await kernel.cancel("one")
    assert [finding.run_id for finding in await kernel.check()] == ["one"]
    await kernel.signal("two", "paid", 1000)
    assert (await kernel.run(flow, run_id="two")).data["paid"] == 1000


@pytest.mark.parametrize(
    "change",
    [
        lambda past: past[:-1],
        lambda past: past[1:],
        lambda past: [past[0], past[2], past[1]],
        lambda past: [past[0], past[1]._replace(state="CHECK"), past[2]],
        lambda past: [past[0], past[1]._replace(changed=past[2].changed), past[2]],
        lambda past: [past[0], past[1]._replace(removed=["buyer"]), past[2]],
        lambda past: [*past, past[2]._replace(seq=3)],
    ],
    ids=["end missing", "beginning missing", "order", "state", "values", "removed", "one more"],
)
async def test_a_changed_history_is_refused(kernel: Kernel, change: Callable[[list[Any]], list[Any]]) -> None:
    """It is neither shown nor forked."""
    histories = entries(kernel)
    histories["one"] = change(histories["one"])
    for call in (lambda: kernel.history("one"), lambda: kernel.fork("one", 1, "three")):
        with pytest.raises(SerializationError, match="one"):
            await call()
    assert len(await kernel.history("two")) == 3


MOVES: dict[str, Callable[[Any, StreamChunk], StreamChunk]] = {
    "from another run": lambda streams, chunk: streams["other"]["x"][0],
    "from another channel": lambda streams, chunk: chunk._replace(value=streams["run"]["y"][0].value),
    "from another offset": lambda streams, chunk: chunk._replace(value=streams["run"]["x"][1].value),
    "with another first offset": lambda streams, chunk: chunk._replace(first=0),
    "as a value of the data": lambda streams, chunk: chunk._replace(value=streams["data"]),
}


@pytest.mark.parametrize("move", MOVES.values(), ids=MOVES)
async def test_a_moved_chunk_is_refused(
    kernel: Kernel, move: Callable[[dict[str, Any], StreamChunk], StreamChunk]
) -> None:
    """A chunk of another run, channel or offset is refused by the name of the run; other channels can be read."""
    backend: Any = kernel.backend
    for run_id in ("run", "other"):
        await backend.create(new_run(run_id, data={"n": b"1"}))
        some = [StreamChunk(channel, last, last, b"%d" % last) for channel in "xy" for last in (1, 2)]
        await backend.write_stream(run_id, 1, some)
    assert [chunk.value for chunk in await backend.read_stream("run", "x", 0, 9)] == [b"1", b"2"]
    kept = backend.inner._streams
    chunks = kept["run"]["x"]
    chunks[0] = move({**kept, "data": rows(kernel)["run"].data["n"]}, chunks[0])
    with pytest.raises(SerializationError) as caught:
        await backend.read_stream("run", "x", 0, 9)
    assert caught.value.run_id == "run"
    assert [chunk.value for chunk in await backend.read_stream("run", "y", 0, 9)] == [b"1", b"2"]


async def test_a_claim_of_many_verifies_each(kernel: Kernel) -> None:
    """Runs that are claimed together are read as they were stored; one that was changed has no record."""
    backend: Any = kernel.backend
    for run_id in ("changed", "honest"):
        await backend.create(free_run(run_id, data={"price": b"1"}))
    rows(kernel)["changed"] = rows(kernel)["changed"]._replace(state="B")
    found = await backend.claim_ready([(free_run().workflow, "1", free_run().fingerprint)], 9, "me", NOW, LATER)
    records = {each.run_id: each.record for each in found}
    assert records.keys() == {"changed", "honest"}
    assert records["changed"] is None
    assert records["honest"].data == {"price": b"1"}
    await backend.commit(step(1, "honest", changed={"price": b"2"}))
    assert (await backend.load("honest")).data == {"price": b"2"}


async def test_a_claim_of_many_that_fails_claims_none(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the layer cannot read the second of the claimed runs now, no lease stays on any of them."""
    backend: Any = kernel.backend
    for run_id in ("a", "b"):
        await backend.create(free_run(run_id, data={"price": b"1"}))
    asked: list[str] = []

    def unwrap_in(value: bytes, context: Any) -> bytes:
        asked.append(context.run_id)
        if len(set(asked)) == 2:
            raise StoreUnavailableError("the keys cannot be reached")
        plain: bytes = honest(value, context)
        return plain

    honest = backend.layer.unwrap_in
    monkeypatch.setattr(backend.layer, "unwrap_in", unwrap_in)
    with pytest.raises(StoreUnavailableError, match="cannot be reached"):
        await backend.claim_ready([(free_run().workflow, "1", free_run().fingerprint)], 9, "me", NOW, LATER)
    assert [rows(kernel)[run_id].holder for run_id in ("a", "b")] == [None, None]


async def test_a_forged_signal_is_refused(kernel: Kernel) -> None:
    """Signals that no kernel sent, with and without payload, wake no run; nor do those to another run or name."""
    backend: Any = kernel.backend
    await kernel.signal("two", "paid", 1)
    await kernel.signal("two", "other", 1000)
    sent = {signal.name: signal for signal in (await backend.inner.signals("two")).waiting}
    for forged in (
        Signal("a", "paid"),
        Signal("b", "paid", rows(kernel)["one"].data["price"]),
        sent["other"]._replace(name="paid"),
        Signal("c", "paid", sent["other"].payload),
    ):
        await backend.inner.put_signal("one", forged)
        with pytest.raises(SerializationError, match="one"):
            await kernel.run(flow, run_id="one")
        backend.inner._mail.clear()
    await kernel.signal("one", "paid", 1000)
    assert (await kernel.run(flow, run_id="one")).data["paid"] == 1000


async def test_a_consumed_signal_that_is_put_back_is_refused(kernel: Kernel) -> None:
    """A payment counts once, even if its row is restored."""
    backend: Any = kernel.backend
    assert kernel.codec is not None
    await backend.put_signal("one", Signal("first", "paid", kernel.codec.encode(600)))
    sent = (await backend.inner.signals("one")).waiting[0]
    handle = await kernel.start(flow, run_id="one")
    await handle._run.ended()
    assert (await backend.signals("one")).consumed == ["first"]
    backend.inner._mail["one"].waiting[False, None, "first"] = sent
    with pytest.raises(SerializationError, match="its consumed signals are not those that it consumed"):
        await kernel.run(flow, run_id="one")
    del backend.inner._mail["one"].waiting[False, None, "first"]
    await kernel.signal("one", "paid", 600)
    assert (await kernel.run(flow, run_id="one")).data["paid"] == 1200


async def test_a_signal_to_another_wait_is_refused(kernel: Kernel) -> None:
    """A signal to one wait cannot be made one to another, or to any; nor can a consumed one."""
    backend: Any = kernel.backend
    await backend.put_signal("one", Signal("x", "paid", to=1))
    box = backend.inner._mail["one"]
    sealed = box.waiting.pop((False, 1, "x"))
    for forged in (sealed._replace(to=2), sealed._replace(to=None), sealed._replace(to=None, id="\0wait 1 x")):
        box.waiting[forged.key] = forged
        with pytest.raises(SerializationError, match="one"):
            await backend.signals("one")
        del box.waiting[forged.key]
    box.waiting[sealed.key] = sealed
    assert [signal.key for signal in (await backend.signals("one")).waiting] == [sealed.key]

    handle = await kernel.start(flow, run_id="one")
    await handle._run.ended()
    record = await backend.load("one")
    token = await backend.claim("one", "me", NOW, LATER)
    await backend.commit(
        Commit("one", token, record.seq, record.seq, record.state, RunStatus.RUNNING, answered=[(1, "x")])
    )
    assert list((await backend.signals("one")).answered) == [(1, "x")]
    for key in ((False, 2, "x"), (False, None, "x"), (False, None, "\0wait 1 x"), (True, None, "x")):
        box.seen ^= {key, sealed.key}
        with pytest.raises(SerializationError, match="its consumed signals are not those that it consumed"):
            await backend.signals("one")
        box.seen ^= {key, sealed.key}


def test_seals_of_earlier_versions_have_the_same_ids() -> None:
    """The ids in their seals had the wait's seq. Every other id has another form."""
    assert sealed_id((False, 1, "x")) == "\0wait 1 x"
    assert sealed_id((False, None, "x")) == sealed_id((True, None, "x")) == "x"
    odd = ["\0wait 1 x", "\0\0wait 1 x", "\0", "\0\0", ""]
    assert len({sealed_id((False, to, id)) for to in (None, 1, 2) for id in odd}) == 15


async def test_a_run_of_another_store_is_refused(kernel: Kernel) -> None:
    """The key is the same, but the store is not."""
    async with Kernel(store="memory://?strict=1&codec=encrypt:errors") as other:
        backend: Any = other.backend
        backend.inner._runs["one"] = rows(kernel)["one"]
        with pytest.raises(SerializationError, match="run one, seal: it was moved here from another place"):
            await other.run(flow, run_id="one")


async def test_errors_are_encrypted_if_asked(kernel: Kernel) -> None:
    """With `encrypt:errors` the store has no text of an error, and callers read it all the same."""
    failing = Workflow("FAIL", name="failing").add_exit_state("NEVER")

    @failing.on("FAIL")
    async def fail(store: KeyValueStore) -> str:
        raise ValueError("the card 4111")

    with pytest.raises(Exception, match="the card 4111"):
        await kernel.run(failing, {}, run_id="three")
    assert "4111" not in repr(rows(kernel)["three"])
    assert "4111" in (await kernel.explain("three")).detail
    (listed,) = await kernel.runs(workflow="failing")
    assert listed.error is not None
    assert "4111" in str(listed.error)
    rows(kernel)["three"] = rows(kernel)["three"]._replace(error={**(rows(kernel)["three"].error or {}), "sealed": "x"})
    (listed,) = await kernel.runs(workflow="failing")
    assert listed.error is not None
    assert "cannot be read" in str(listed.error)


async def test_tracebacks_are_encrypted() -> None:
    """The store has no text of a traceback, even if it has that of the error; callers read both."""
    failing = Workflow("FAIL", name="failing").add_exit_state("NEVER")

    @failing.on("FAIL")
    async def fail(store: KeyValueStore) -> str:
        card = 4111
        raise ValueError(card)

    async with Kernel(store="memory://?strict=1&codec=encrypt") as kernel:
        for _ in range(2):
            with pytest.raises(TaskError) as caught:
                await kernel.run(failing, {}, run_id="three")
        assert "raise ValueError(card)" in str(caught.value.traceback)
        assert "traceback" in rows(kernel)["three"].own
        assert "raise ValueError(card)" not in repr(rows(kernel)["three"])


async def test_the_store_keeps_its_own_record_to_itself(kernel: Kernel) -> None:
    """No list shows it, no call reads, replaces or deletes it, and no run can have its id."""
    backend: Any = kernel.backend
    assert MARK in rows(kernel)
    assert {run.run_id for run in await kernel.runs()} == {"one", "two"}
    assert (await backend.load(MARK), await backend.delete(MARK), await backend.history(MARK)) == (None, False, [])
    with pytest.raises(ConfigurationError, match="choose another"):
        await kernel.run(flow, {}, run_id=MARK)


async def test_two_processes_that_seal_a_store_at_once() -> None:
    """A process that finds no mark, and then runs that another one has sealed meanwhile, takes that one's mark."""
    inner, layer = MemoryBackend(strict=True), EncryptionLayer(read_keys(new_key()))
    first, second = (sealed(inner, layer, ["encrypt"]) for _ in range(2))
    await inner.open()
    load = inner.load

    async def overtaken(run_id: str) -> RunRecord | None:
        record = await load(run_id)
        if record is None and run_id == MARK:
            inner.load = load  # type: ignore[method-assign]
            await first.open()
            await first.create(new_run())
        return record

    inner.load = overtaken  # type: ignore[method-assign]
    await second.open()
    assert await second.load("run") == new_run()


async def test_no_store_has_a_run_with_the_id_of_a_mark() -> None:
    """A store that is not encrypted refuses the id, too; encrypting a store that has such a run names the remedy."""
    inner = MemoryBackend(strict=True)
    async with Kernel(store=inner) as plain:
        with pytest.raises(ConfigurationError, match="kept for encrypted stores; choose another"):
            await plain.run(flow, {}, run_id=MARK)
        await (await plain.start(flow, {}, run_id="one"))._run.ended()
        with pytest.raises(ConfigurationError, match="kept for encrypted stores; choose another"):
            await plain.fork("one", 0, MARK)
    inner = MemoryBackend(strict=True)
    await inner.open()
    await inner.create(new_run(MARK))
    with pytest.raises(ConfigurationError, match="which encrypted stores need; delete it"):
        await sealed(inner, EncryptionLayer(read_keys(new_key())), ["encrypt"]).open()


async def test_a_stale_commit_is_a_conflict(kernel: Kernel) -> None:
    """A holder whose lease another one has claimed is refused as ever."""
    assert kernel.backend is not None
    token = await kernel.backend.claim("one", "me", 0, 1)
    assert token is not None
    stale = Commit("one", token - 1, 2, 3, "CHECK", RunStatus.RUNNING)
    with pytest.raises(ConflictError, match="one"):
        await kernel.backend.commit(stale)


async def test_a_record_read_during_a_failed_commit_is_not_continued() -> None:
    """A commit whose answer was lost may be applied after another task read the run: the next commit reads it again."""
    layer = EncryptionLayer(read_keys(new_key()))
    inner = FaultyStore(MemoryBackend(strict=True))
    store = sealed(inner, layer, ["encrypt"])
    await store.open()
    new = RunRecord("one", "sale", "1", "f", "PRICE", holder="me", expires=100.0, token=1)
    await store.create(new)
    held = inner.faults.at_call("commit").hang()
    inner.faults.at_call("commit", after=True).fail(StoreUnavailableError("the connection broke"))
    read = inner.faults.at_call("load", after=True).hang()
    save = Commit("one", 1, 0, 0, "PRICE", RunStatus.RUNNING, own={"phases": b"1"})
    committing = asyncio.ensure_future(store.commit(save))
    await held.reached()
    reading = asyncio.ensure_future(store.load("one"))
    await read.reached()
    held.release()
    with pytest.raises(StoreUnavailableError):
        await committing
    read.release()
    await reading

    await store.commit(Commit("one", 1, 0, 1, "RAISE", RunStatus.RUNNING))
    found = await store.load("one")
    assert found is not None
    assert (found.state, dict(found.own)) == ("RAISE", {"phases": b"1"})


async def test_the_history_of_a_run_that_is_just_deleted(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process deletes the run between two reads: it has no history then, and is not corrupt."""
    backend: Any = kernel.backend
    load = backend.inner.load

    async def deleted_after(run_id: str) -> RunRecord | None:
        record: RunRecord | None = await load(run_id)
        await backend.inner.delete(run_id)
        return record

    monkeypatch.setattr(backend.inner, "load", deleted_after)
    assert await backend.history("one") == []


LOG = Workflow("ADD", name="adding").add_exit_state("DONE")


@LOG.on("ADD")
async def add(store: KeyValueStore) -> str:
    """Append an item, and wait after three."""
    store.append("log", len(store.get("log", list, [])))
    return "ADD" if len(store.get("log", list)) < 4 else wait_for("go", then="DONE")


def with_log(run: RunRecord, change: Callable[[list[bytes]], list[bytes]]) -> RunRecord:
    """Return a run with other parts of its list."""
    return data(run, log=Appended(change(list(run.data["log"]))))


PARTS: dict[str, Callable[[RunRecord, list[Any]], tuple[RunRecord, list[Any]]]] = {
    "the last part less": lambda run, past: (with_log(run, lambda log: log[:-1]), past),
    "an inner part less": lambda run, past: (with_log(run, lambda log: [*log[:1], *log[2:]]), past),
    "a part twice": lambda run, past: (with_log(run, lambda log: [*log, log[-1]]), past),
    "another order": lambda run, past: (with_log(run, lambda log: [log[0], log[2], log[1], log[3]]), past),
    "only one part": lambda run, past: (data(run, log=run.data["log"][0]), past),
    "an entry that sets": lambda run, past: (run, [*past[:-1], with_set(past[-1])]),
    "an entry with another part": lambda run, past: (run, [*past[:-1], past[-1]._replace(changed=past[-2].changed)]),
}


def with_set(entry: Transition) -> Transition:
    """Return an entry that sets what it appended."""
    return entry._replace(changed={"log": entry.changed["log"][0]})


@pytest.mark.parametrize("change", PARTS.values(), ids=PARTS)
async def test_changed_parts_are_refused(
    kernel: Kernel, change: Callable[[RunRecord, list[Any]], tuple[RunRecord, list[Any]]]
) -> None:
    """Parts of a list are neither dropped, repeated, moved nor taken for a whole list, in a run or its history."""
    handle = await kernel.start(LOG, run_id="log")
    await handle._run.ended()
    assert len(await kernel.history("log")) == 5
    runs, histories = rows(kernel), entries(kernel)
    runs["log"], histories["log"] = change(runs["log"], histories["log"])
    with pytest.raises(SerializationError, match="log"):
        await kernel.history("log")


async def test_parts_are_encrypted_again(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Encrypting again keeps each part, and the order of the keys; the run goes on to append."""
    handle = await kernel.start(LOG, {"a": 1, "log": [0], "b": 2}, run_id="log")
    await handle._run.ended()
    backend: Any = kernel.backend
    before = Appended.gathered(rows(kernel)["log"].data)
    monkeypatch.setattr(backend.layer, "is_current", lambda data: data not in before["log"][1:2])
    found = {each.run_id: each async for each in backend.reencrypted("me", lambda: 1000.0)}
    assert (found["log"].values, found["log"].problem) == (3, None)  # `b` comes after the list, the history
    after = Appended.gathered(rows(kernel)["log"].data)
    assert (list(after), len(after["log"]), after["a"]) == (list(before), len(before["log"]), before["a"])
    assert set(after["log"]).isdisjoint(before["log"])
    await kernel.signal("log", "go")
    assert (await kernel.run(LOG, run_id="log")).data == {"a": 1, "log": [0, 1, 2, 3], "b": 2}


async def test_reencrypting_is_killed_after_a_commit(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit releases the lease, so that no run waits for a killed process."""
    backend: Any = kernel.backend

    async def killed(run_id: str, token: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend.inner, "release", killed)
    monkeypatch.setattr(backend.layer, "is_current", lambda data: False)
    with pytest.raises(KeyboardInterrupt):
        [each async for each in backend.reencrypted("me", lambda: 1000.0)]
    assert {run.holder for run in rows(kernel).values()} == {None}


async def test_reencrypting_takes_time(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run is claimed at the time of its turn; one that another process claims meanwhile is left out."""
    backend: Any = kernel.backend
    claim, claims, time = backend.inner.claim, [], [1000.0]

    async def claimed(run_id: str, holder: str, now: float, expires: float) -> int | None:
        token: int | None = await claim(run_id, holder, now, expires)
        claims.append((run_id, now, expires))
        time[0] += 100
        if run_id == "two":
            assert await claim(run_id, "another", expires + 1, expires + 100) is not None
        return token

    monkeypatch.setattr(backend.inner, "claim", claimed)
    monkeypatch.setattr(backend.layer, "is_current", lambda data: False)
    found = [each async for each in backend.reencrypted("me", lambda: time[0])]
    assert claims == [("two", 1000, 1060), ("one", 1100, 1160)]
    assert [(each.run_id, each.values > 0, each.problem) for each in found] == [
        ("two", False, "another holds it for 60.0 s, and longer if it lives; repeat the command then"),
        ("one", True, None),
    ]


def test_every_field_is_decided() -> None:
    """Each is authenticated, but for the lease. Who adds a field decides, in `seals`, and writes it down here."""
    lease, values = {"holder", "expires", "token"}, {"data", "own"}
    fixed = {"run_id", "workflow", "version", "fingerprint", "parent", "created"}
    changing = {"state", "seq", "status", "error", "wait", "payload", "updated"}
    # what lists find runs by is made from `own`, and stores do not return it; a lane only says when a run begins
    assert {*RunRecord._fields} == lease | values | fixed | changing | {"attributes", "lane"}
    assert {*Transition._fields} == {
        "seq",
        "state",
        "status",
        "at",
        "changed",
        "removed",
        "own",
        "own_removed",
        "origin",
    }
    assert {*Signal._fields} == {"id", "name", "payload", "own", "to"}
