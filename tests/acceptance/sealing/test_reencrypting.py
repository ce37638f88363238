"""Encrypting again: afterwards the store needs the new key only, whenever the process was killed meanwhile."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from cano import (
    Appended,
    Commit,
    ConflictError,
    Kernel,
    KeyValueStore,
    RunRecord,
    RunStatus,
    Signal,
    StreamChunk,
    StreamingStore,
    Wait,
    Workflow,
    wait_for,
)
from cano.engine.ports import new_holder
from cano_durability.sealing import renewing
from cano_encryption import KEYS_ENV, EncryptionLayer, new_key, read_keys

from tests.acceptance.sealing import reencrypter
from tests.acceptance.sealing.contents import Contents, Database, File, Keys, Memory, kernel_on
from tests.acceptance.sealing.flows import GOODS, act, begin, flow, outcome, send

log = Workflow("LOG", name="log").add_exit_state("DONE")


@log.on("LOG")
async def write(store: KeyValueStore) -> str:
    """Append a line, and ask for more after each fourth."""
    store.append("lines", len(store.get("lines", list, default=[])))
    store["last"] = len(store["lines"])
    if store["last"] == 12:
        return "DONE"
    return wait_for("more", then="LOG") if store["last"] % 4 == 0 else "LOG"


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """An old and a new key; the old one is set."""
    keys = new_key("old"), new_key("new")
    monkeypatch.setenv(KEYS_ENV, keys[0])
    return keys


@pytest.fixture
def contents(request: pytest.FixtureRequest, tmp_path: Path, keys: tuple[str, str]) -> Contents:
    """An empty store of a kind."""
    if request.param == "memory":
        return Memory(EncryptionLayer(read_keys(keys[0])))
    if request.param == "sqlite":
        return File(tmp_path)
    return (Database if request.param == "postgres" else Keys)(request.getfixturevalue(request.param))


def use(contents: Contents, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    """Open the store with these keys from now on."""
    monkeypatch.setenv(KEYS_ENV, keys)
    if isinstance(contents, Memory):
        contents._layer = EncryptionLayer(read_keys(keys))


async def fill(contents: Contents) -> None:
    """Bring about runs of every status, long histories, signals that wait, and some for ids that no run has."""
    for part in (begin, act, send):
        async with kernel_on(contents) as kernel:
            await part(kernel)
    async with kernel_on(contents) as kernel:
        assert await outcome(kernel, "sent") is not None
        for run_id in ("ended", "waiting"):
            handle = await kernel.start(log, {}, run_id=run_id)
            await handle._run.ended()
        for _ in range(2):
            await kernel.signal("ended", "more")
            handle = await kernel.start(log, run_id="ended")
            await handle._run.ended()
        assert kernel.backend is not None
        record = await kernel.backend.load("waiting")
        inner: Any = kernel.backend
        if hasattr(inner.inner, "rewrite_stream") and record is not None:
            chunks = [StreamChunk("news", last, last, b"item %d" % last) for last in range(1, 8)]
            await cast(StreamingStore, kernel.backend).write_stream("waiting", record.token, chunks)
        for number, payload in enumerate((None, b"payload")):
            await kernel.backend.put_signal("unborn", Signal(str(number), "more", payload))
        await kernel.backend.put_signal("unborn", Signal("0", "more", b"own", own=True))


async def everything(kernel: Kernel) -> Any:
    """Return all that can be read of a store."""
    backend: Any = kernel.backend
    found: dict[str, Any] = {}
    for run_id in sorted([*GOODS, "ended", "waiting"]):
        record = await backend.load(run_id)
        lease = dict.fromkeys(("holder", "expires"), None) | {"token": 0}
        found[run_id] = plain(record._replace(**lease)), list(map(plain, await backend.history(run_id)))
    if hasattr(backend.inner, "rewrite_stream"):
        found["news"] = [each.value for each in await backend.read_stream("waiting", "news", 0, 100)]
        assert len(found["news"]) == 7
    mail = {run_id: await backend.signals(run_id) for run_id in ("unborn", *GOODS, "ended", "waiting")}
    found["mail"] = {run_id: (list(each.waiting), sorted(each.consumed)) for run_id, each in mail.items()}
    return found


def plain(record: Any) -> dict[str, Any]:
    """Return a record or an entry as a dict."""
    return {name: dict(each) if isinstance(each, Mapping) else each for name, each in record._asdict().items()}


def encrypted_by(key: str, value: Any) -> bool:
    """Return whether a value or part of it is encrypted with the key of this id."""
    if isinstance(value, bytes):
        return b"\xc1E\x02" + bytes([len(key)]) + key.encode() in value
    if isinstance(value, Mapping):
        return any(encrypted_by(key, each) for each in value.values())
    return isinstance(value, list | tuple) and any(encrypted_by(key, each) for each in value)


async def ends(kernel: Kernel) -> None:
    """Let the runs that can go on do so, as they would have."""
    for run_id, goods in (("paid", 6), ("half", 4), ("failed", 12)):
        data = await outcome(kernel, run_id)
        assert data is not None
        assert data["sent"][:2] == [run_id, goods]
    for _ in range(2):
        await kernel.signal("waiting", "more")
        handle = await kernel.start(log, run_id="waiting")
        await handle._run.ended()
    assert (await handle.result()).data["lines"] == [*range(12)]
    await kernel.fork("ended", 7, "fork")
    assert (await kernel.history("fork"))[0].changed["last"] == 7


@pytest.mark.parametrize("contents", ["memory", "sqlite", "postgres", "redis"], indirect=True)
async def test_no_row_needs_the_old_key(
    contents: Contents, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All values are encrypted with the new key, in several groups, and none has another meaning."""
    old, new = keys
    monkeypatch.setattr(renewing, "FEW", 3)
    await fill(contents)
    use(contents, monkeypatch, f"{new},{old}")
    async with kernel_on(contents) as kernel:
        before = await everything(kernel)
        backend: Any = kernel.backend
        results = [each async for each in backend.reencrypted("me", kernel.clock.time)]
        assert [(each.problem, each.left) for each in results if each.problem or each.left] == []
        assert [each async for each in backend.reencrypted("me", kernel.clock.time) if each.values] == []
        assert await everything(kernel) == before
    rows = contents.read()
    assert not encrypted_by("old", list(rows.values()))
    assert encrypted_by("new", list(rows.values()))
    use(contents, monkeypatch, new)
    async with kernel_on(contents) as kernel:
        assert await everything(kernel) == before
        assert isinstance(before["ended"][1][-1]["changed"]["lines"], Appended)
        await ends(kernel)


@pytest.mark.parametrize("contents", ["sqlite", "postgres"], indirect=True)
async def test_it_is_killed(contents: Contents, keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After SIGKILL at any write, all can be read, and the next process goes on at once."""
    old, new = keys
    await fill(contents)
    monkeypatch.setenv(KEYS_ENV, f"{new},{old}")
    async with kernel_on(contents) as kernel:
        before = await everything(kernel)

    async def process(number: int) -> int:
        command = [sys.executable, "-m", reencrypter.__name__, str(contents.store()), str(number)]
        child = await asyncio.create_subprocess_exec(*command, str(random.random() / 200), stdout=-1)
        said, _ = await child.communicate()
        assert said == b""
        return child.returncode or 0

    for first, last in ((2, 9), (5, 15), (2, 12)):  # there are about fifty writes, and what is done stays done
        assert await process(random.randint(first, last)) == -signal.SIGKILL
        async with kernel_on(contents) as kernel:
            assert await everything(kernel) == before
    assert await process(10**9) == 0
    assert not encrypted_by("old", list(contents.read().values()))
    monkeypatch.setenv(KEYS_ENV, new)
    async with kernel_on(contents) as kernel:
        assert await everything(kernel) == before
        await ends(kernel)


async def test_a_history_is_read_meanwhile(keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that sees the run from before and the history from after reads both again."""
    contents = Memory(EncryptionLayer(read_keys(keys[0])))
    await fill(contents)
    use(contents, monkeypatch, f"{keys[1]},{keys[0]}")
    async with kernel_on(contents) as kernel, kernel_on(contents) as other:
        expected = await kernel.history("ended")
        backend: Any = kernel.backend
        history = backend.inner.history
        results: list[Any] = []

        async def late(run_id: str) -> Any:
            if not results:
                monkeypatch.setattr(backend.inner, "history", history)
                results.extend([each async for each in other.backend.reencrypted("me", other.clock.time)])  # type: ignore[union-attr]
            return await history(run_id)

        monkeypatch.setattr(backend.inner, "history", late)
        assert await kernel.history("ended") == expected
        assert sum(each.values for each in results) > 0


async def test_a_writer_without_a_lease_is_fenced(keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that was sealed before the run was rewritten is refused, also of a schedule, which needs no lease."""
    contents = Memory(EncryptionLayer(read_keys(keys[0])))
    fields: dict[str, Any] = {"status": RunStatus.PARKED, "data": {"state": b"0"}, "wait": Wait("active")}
    record = RunRecord("schedule:one", "schedule", "1", "", "active")._replace(**fields)
    use(contents, monkeypatch, keys[0])
    async with kernel_on(contents) as kernel:
        assert kernel.backend is not None
        await kernel.backend.create(record)
    use(contents, monkeypatch, f"{keys[1]},{keys[0]}")
    async with kernel_on(contents) as kernel, kernel_on(contents) as other:
        backend: Any = kernel.backend
        schedules: Any = other.backend
        rewrite, refused = backend.inner.rewrite, 0

        async def commit(run_id: str) -> None:
            found = await schedules.load(run_id)
            await schedules.commit(
                Commit(
                    run_id, found.token, found.seq, found.seq + 1, "active", RunStatus.PARKED, wait=Wait("active"),
                    changed={"state": b"%d" % (found.seq + 1)},
                )
            )  # fmt: skip

        async def late(stored: Commit, *entries: Any) -> None:
            nonlocal refused
            if stored.run_id != "schedule:one":  # the store's own record
                await rewrite(stored, *entries)
                return
            sealed, written = asyncio.Event(), asyncio.Event()

            async def waiting(stored: Commit, *audit: Any) -> None:
                sealed.set()
                await written.wait()
                await honest(stored, *audit)

            honest = schedules.inner.commit
            with monkeypatch.context() as patch:
                patch.setattr(schedules.inner, "commit", waiting)
                task = asyncio.create_task(commit(stored.run_id))
                await sealed.wait()
            await rewrite(stored, *entries)
            written.set()
            with pytest.raises(ConflictError):
                await task
            refused += 1

        monkeypatch.setattr(backend.inner, "rewrite", late)
        (result,) = [each async for each in backend.reencrypted("me", kernel.clock.time)]
        assert (result.problem, refused) == (None, 2)
        await commit("schedule:one")
        assert [entry.changed["state"] for entry in await backend.history("schedule:one")] == [b"0", b"1"]


async def test_who_holds_a_run_is_named(keys: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A living holder is named as one; one of another machine may be alive; of a dead one the run is taken over."""
    contents = Memory(EncryptionLayer(read_keys(keys[0])))
    async with kernel_on(contents) as kernel:
        for run_id in ("here", "elsewhere", "dead"):
            handle = await kernel.start(flow, {"goods": 1}, run_id=run_id)
            await handle._run.ended()
    use(contents, monkeypatch, f"{keys[1]},{keys[0]}")
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await child.wait()
    mine = new_holder()
    dead = mine.replace(f":{mine.split('@')[0].split(':')[1]}@", f":{child.pid}@")
    async with kernel_on(contents) as kernel:
        backend: Any = kernel.backend
        now = kernel.clock.time()
        for run_id, holder in (("here", mine), ("elsewhere", "host:1@:random"), ("dead", dead)):
            assert await backend.inner.claim(run_id, holder, now, now + 50) is not None
        problems = {each.run_id: each.problem async for each in backend.reencrypted("me", lambda: now)}
    assert problems == {
        "here": f"{mine} executes it; repeat the command when it has ended or is parked",
        "elsewhere": "host:1@:random holds it for 50.0 s, and longer if it lives; repeat the command then",
        "dead": None,
    }
