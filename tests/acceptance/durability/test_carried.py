"""Runs that are carried from one store to another in a file, from and to each store, encrypted ones included."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    ConflictError,
    Kernel,
    RunExistsError,
    RunFileError,
    RunStatus,
    Standstill,
    StoreBackend,
    SubWorkflow,
    TaskConfig,
    VersionMismatchError,
    Wait,
    Workflow,
    current_step,
    sleep_until,
    wait_for,
)
from cano_encryption import KEYS_ENV, new_key

from tests.acceptance.durability.shared import ONLY, Shared

OPTIONS: dict[str, Any] = {**ONLY, "plugins": [*ONLY["plugins"], "encryption", "zstd", "offload"], "poll": 0.05}
STORES = ["memory", "sqlite", "postgres", "redis", "sealed"]


@dataclass
class Card:
    """A value of a class of the program."""

    number: str
    limit: int


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key for encrypted stores."""
    monkeypatch.setenv(KEYS_ENV, new_key())


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, url_of: Callable[[str], str], keys: None) -> str | StoreBackend:
    """An empty store of each kind; one is encrypted."""
    if request.param == "memory":
        return Shared(strict=True)
    return url_of("sqlite") + "?codec=zstd,encrypt" if request.param == "sealed" else url_of(request.param)


@pytest.fixture
def home(tmp_path: Path) -> str:
    """The URL of the developer's own store."""
    return f"sqlite:///{tmp_path / 'home.db'}"


class Order:
    """An order that waits for a payment, and then is shipped.

    Attributes:
        shipped: the idempotency keys of the steps that shipped it.
    """

    def __init__(self) -> None:
        self.shipped: list[str] = []

    def flow(self, *, limit: float | None = None, version: str = "1") -> Workflow[str]:
        """The workflow."""
        flow: Workflow[str] = Workflow(
            "TAKE", name="order", version=version, types=[Card], default_config=TaskConfig.minimal()
        )

        @flow.on("TAKE")
        async def take(store: Any) -> str:
            store.append("log", "taken")
            store["card"] = Card("4000", 3)
            store["gone"] = 1
            return "ASK"

        @flow.on("ASK")
        async def ask(store: Any) -> Any:
            store.append("log", "asked")
            store.remove("gone")
            if limit is not None:
                return wait_for("paid", then="SHIP", timeout=limit, on_timeout="END")
            return wait_for("paid", then="SHIP")

        @flow.on("SHIP")
        async def ship(store: Any) -> str:
            card: Card = store["card"]
            store["paid by"] = f"{current_step().payload} {card.number}"
            if store.get("broken", default=False):
                raise ValueError("no truck")
            self.shipped.append(current_step().idempotency_key)
            return "END"

        return flow.add_exit_state("END")


async def ended(kernel: Kernel, flow: Workflow[Any], run_id: str, *, within: float | None = None, **data: Any) -> None:
    """Start a run, and wait until it is parked or has ended."""
    await (await kernel.start(flow, data, run_id=run_id, timeout=within))._run.ended()


async def exported(kernel: Kernel, run_id: str, **options: Any) -> bytes:
    """The file of a run."""
    return b"".join([part async for part in kernel.export_run(run_id, **options)])


async def contents(kernel: Kernel, run_id: str) -> tuple[Any, ...]:
    """All that a kernel shows of a run, but for the lease and what an import adds."""
    assert kernel.backend is not None
    view, signals = await kernel.get(run_id), await kernel.backend.signals(run_id)
    history = [(*entry[:5], sorted(entry.removed)) for entry in await kernel.history(run_id)]
    error = None if view.error is None else (type(view.error), str(view.error), view.error.traceback)
    record = await kernel.backend.load(run_id)
    assert record is not None
    own = {name: bytes(record.own[name]) for name in record.own if name not in ("seal", "import")}
    return (
        view.workflow, view.version, record.fingerprint, view.state, view.seq, view.data, view.wait, view.payload,
        view.deadline, view.created, view.updated, error, history, [*signals.waiting],
        {*signals.consumed}, {*signals.own_consumed}, own.keys(),
    )  # fmt: skip


async def test_a_run_is_carried_from_and_to_each_store(place: str | StoreBackend, home: str) -> None:
    """Data, history, signals, waits, errors and times are the same in another store; and again on the way back."""
    order, flow = Order(), Order().flow()
    async with Kernel(store=place, **OPTIONS) as kernel:
        kernel.bind(flow)
        await ended(kernel, flow, "parked", within=1000)
        await kernel.signal("parked", "later", Card("1", 1), id="one")
        await ended(kernel, flow, "failed", broken=True)
        await kernel.signal("failed", "paid", "Ada")
        with pytest.raises(Exception, match="no truck"):
            await kernel.run(flow, run_id="failed")
        await ended(kernel, flow, "done")
        await kernel.signal("done", "paid", "Bob")
        await kernel.run(flow, run_id="done")
        files = {run_id: await exported(kernel, run_id, plain=True) for run_id in ("parked", "failed", "done")}
        sealed = {run_id: await exported(kernel, run_id) for run_id in files}
        before = {run_id: await contents(kernel, run_id) for run_id in files}
    async with Kernel(store=home, **OPTIONS) as kernel:
        kernel.bind(flow)
        for run_id, file in files.items():
            assert await kernel.import_run(file) == run_id
            assert await contents(kernel, run_id) == before[run_id]
            assert (await kernel.audit(run_id))[-1][1:3] == ("import", kernel.actor)
        statuses = {run.run_id: run.status.value for run in await kernel.runs()}
        assert statuses == {"parked": "parked", "failed": "failed", "done": "succeeded"}
        assert await kernel.check() == []
        await kernel.fork("done", 2, "waits")  # as the run itself waited there
        assert (await kernel.get("waits")).wait == Wait("SHIP", "paid")
        back = await exported(kernel, "parked")
    async with Kernel(store=place, **OPTIONS) as kernel:
        kernel.bind(flow)
        await kernel.import_run(back, "again")
        assert (await contents(kernel, "again"))[:6] == before["parked"][:6]
        await kernel.import_run([sealed["failed"][:9], sealed["failed"][9:]], "sealed")
        assert await contents(kernel, "sealed") == (*before["failed"][:11], *(await contents(kernel, "sealed"))[11:])
        assert await kernel.check() == []
    assert order.shipped == []


async def test_an_imported_run_does_not_move_by_itself(place: str | StoreBackend, home: str) -> None:
    """Neither workers nor signals nor actions on many runs continue it; a resume does, and so does a fork."""
    order = Order()
    flow = order.flow()
    async with Kernel(store=home, **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        file = await exported(kernel, "one")
    async with Kernel(store=place, **OPTIONS) as kernel:
        await kernel.import_run(file)
        await kernel.recover(flow)
        await kernel.signal("one", "paid", "Ada")
        assert (await kernel.resume_many(flow, "status = parked")).refused.keys() == {"one"}
        assert "it was imported" in (await kernel.explain("one")).detail
        assert (await kernel.get("one")).status is RunStatus.PARKED
        with pytest.raises(ConfigurationError, match=r"to continue it, call kernel\.resume\(flow, 'one'\)"):
            await kernel.run(flow, run_id="one")
        with pytest.raises(VersionMismatchError):
            await kernel.resume(order.flow(version="2"), "one")
        assert await kernel.recover(flow) == []
    assert order.shipped == []
    async with Kernel(store=place, **OPTIONS) as kernel:
        assert await kernel.recover(flow) == []
        await kernel.fork("one", 2, "two")
        await kernel.signal("two", "paid", "Bob")
        assert (await kernel.run(flow, run_id="two")).data["paid by"] == "Bob 4000"
        assert (await kernel.resume(flow, "one")).data["paid by"] == "Ada 4000"
        assert len(order.shipped) == 2
        if kernel.backend is not None and kernel.backend.capabilities.audit:
            assert [entry.action for entry in await kernel.audit("one")] == ["import", "signal", "resume"]


async def test_a_running_run_comes_as_an_interrupted_one(place: str | StoreBackend, home: str) -> None:
    """A run that is executed while it is exported is interrupted in the other store, and not executed there."""
    reached, gate = asyncio.Event(), asyncio.Event()
    steps: list[str] = []
    flow: Workflow[str] = Workflow("A", name="slow").add_exit_state("END")

    @flow.on("A")
    async def first(store: Any) -> str:
        store["a"] = 1
        return "B"

    @flow.on("B")
    async def second(store: Any) -> str:
        steps.append("B")
        reached.set()
        await gate.wait()
        return "END"

    async with Kernel(store=place, **OPTIONS) as kernel, Kernel(store=home, **OPTIONS) as other:
        handle = await kernel.start(flow, run_id="one")
        await reached.wait()
        await other.import_run(await exported(kernel, "one", plain=True))
        view = await other.get("one")
        assert (view.status, view.state, view.data) == (RunStatus.INTERRUPTED, "B", {"a": 1})
        assert (await other.explain("one")).reason is Standstill.INTERRUPTED
        assert [run.run_id for run in await other.runs(status="interrupted")] == ["one"]
        assert (await other.recover(flow), steps) == ([], ["B"])
        gate.set()
        await handle.result()
        assert (await other.resume(flow, "one")).state == "END"
        assert steps == ["B", "B"]
        await other.import_run(await exported(kernel, "one", plain=True), "two")
        assert (await other.get("two")).status is RunStatus.SUCCEEDED


async def test_an_imported_run_can_be_cancelled_and_deleted(place: str | StoreBackend) -> None:
    """Cancelling it needs no process that executes it."""
    flow = Order().flow()
    async with Kernel(store=place, **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        await kernel.import_run(await exported(kernel, "one"), "two")
        assert await kernel.cancel("two")
        assert (await kernel.get("two")).status is RunStatus.CANCELLED
        await kernel.delete("two")
        assert [run.run_id for run in await kernel.runs()] == ["one"]


async def test_waits_and_children_of_imported_runs(place: str | StoreBackend, home: str) -> None:
    """The times of waits and deadlines stay; a fork renews them. A run that waits for its child starts another one."""
    order = Order()
    flow, child = order.flow(limit=500), order.flow()
    parent: Workflow[str] = Workflow("CALL", name="parent", default_config=TaskConfig.minimal()).add_exit_state("END")
    parent.register("CALL", SubWorkflow(child, outputs={"paid by": "paid by"}, then="END"))
    night: Workflow[str] = Workflow("SLEEP", name="night").add_exit_state("END")
    night.register("SLEEP", lambda store: sleep_until(4_000_000_000, then="END"))
    async with Kernel(store=place, **OPTIONS) as kernel:
        await ended(kernel, flow, "timed")
        await ended(kernel, parent, "parent")
        await ended(kernel, night, "night")
        files = [await exported(kernel, run_id, plain=True) for run_id in ("timed", "parent", "night")]
        until = (await kernel.get("timed")).wait
    async with Kernel(store=home, **OPTIONS) as kernel:
        for file in files:
            await kernel.import_run(file)
        assert (await kernel.get("timed")).wait == until
        await kernel.fork("timed", 2, "forked")
        renewed = (await kernel.get("forked")).wait
        assert until is not None
        assert until.until is not None
        assert renewed is not None
        assert renewed.until is not None
        assert renewed.until > until.until
        assert (await kernel.get("night")).wait == (await kernel.get("night")).wait
        view = await kernel.get("parent")
        assert (view.status, view.wait) == (RunStatus.INTERRUPTED, None)
        resuming = asyncio.create_task(kernel.resume(parent, "parent"))
        while not (children := await kernel.runs(parent="parent", status="parked")):  # noqa: ASYNC110
            await asyncio.sleep(0)
        await kernel.signal(children[0].run_id, "paid", "Eve")
        assert (await resuming).data["paid by"] == "Eve 4000"


async def test_ids_in_use(place: str | StoreBackend) -> None:
    """The same file under the same id is imported once, whatever has become of the run; another run is not touched."""
    flow = Order().flow()
    async with Kernel(store=place, **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        file = await exported(kernel, "one")
        with pytest.raises(RunExistsError, match="run one cannot be imported as 'one': another run has this id"):
            await kernel.import_run(file)
        assert await kernel.import_run(file, "two") == await kernel.import_run(file, "two") == "two"
        await kernel.signal("two", "paid", "Ada")
        await kernel.resume(flow, "two")
        assert await kernel.import_run(file, "two") == "two"
        assert (await kernel.get("two")).state == "END"
        with pytest.raises(RunExistsError):
            await kernel.import_run(await exported(kernel, "two"), "two")
        with pytest.raises(ConfigurationError):
            await kernel.import_run(file, "a\0b")
        with pytest.raises(ConfigurationError, match="this id is kept for encrypted stores"):
            await kernel.import_run(file, "cano.store")
        gate = asyncio.Event()
        brief: Workflow[str] = Workflow("WAIT", name="brief").add_exit_state("END")

        @brief.on("WAIT")
        async def wait(store: Any) -> str:
            await gate.wait()
            return "END"

        handle = await kernel.start(brief, run_id="brief", keep=False)
        with pytest.raises(RunExistsError, match="this kernel executes a run with this id"):
            await kernel.import_run(file, "brief")
        gate.set()
        await handle.result()
        if kernel.backend is not None and kernel.backend.capabilities.audit:
            entries = [entry for entry in await kernel.audit("two") if entry.action == "import"]
            assert [entry.detail for entry in entries] == ["of run one"]


async def test_runs_whose_first_entries_were_discarded(url_of: Callable[[str], str], home: str) -> None:
    """Such a run is imported as it is; its history begins there, so that no fork lacks data of before."""
    flow = Order().flow()
    async with Kernel(store=url_of("sqlite"), **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        store: Any = kernel.backend
        await store.discard_history("one", 2)
        first = (await kernel.history("one"))[0].seq
        assert first > 0
        file = await exported(kernel, "one")
    async with Kernel(store=home, **OPTIONS) as kernel:
        kernel.bind(flow)
        await kernel.import_run(file)
        view = await kernel.get("one")
        assert [entry.seq for entry in await kernel.history("one")] == [2]
        await kernel.fork("one", 2, "two")
        assert (await kernel.get("two")).data == view.data == {"log": ["taken", "asked"], "card": Card("4000", 3)}
        assert (await kernel.get("two")).wait == view.wait


async def test_encrypting_again_keeps_an_imported_run(url_of: Callable[[str], str], keys: None) -> None:
    """A new key encrypts an imported run, too, and no worker can take it meanwhile or afterwards."""
    order = Order()
    flow, url = order.flow(), url_of("sqlite") + "?codec=encrypt"
    async with Kernel(store=url, **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        await kernel.import_run(await exported(kernel, "one"), "two")
    os.environ[KEYS_ENV] = f"{new_key('second')},{os.environ[KEYS_ENV]}"
    async with Kernel(store=url, **OPTIONS) as kernel:
        store: Any = kernel.backend
        results = {each.run_id: each.problem async for each in store.reencrypted("me:1@:x", kernel.clock.time)}
        assert results == {"one": None, "two": None}
        await kernel.signal("two", "paid", "Ada")
        assert await kernel.recover(flow) == []
        assert (await kernel.get("two")).status is RunStatus.PARKED
        assert (await kernel.resume(flow, "two")).data["paid by"] == "Ada 4000"


# redaction and encryption


async def test_secrets_stay_where_they_are(place: str | StoreBackend, home: str) -> None:
    """A redacted file has no secret: not in data, history, payloads, errors or tracebacks; the rest is as it was."""
    flow: Workflow[str] = Workflow("A", name="login", default_config=TaskConfig.minimal()).add_exit_state("END")

    @flow.on("A")
    async def first(store: Any) -> str:
        store["password"] = "s3cret"
        store["n"] = [1, 2]
        store.append("logins", {"user": "ada", "token": "s3cret"})
        store["pin"] = "s3cret"
        return "B"

    @flow.on("B")
    async def second(store: Any) -> str:
        store.append("logins", {"user": "bob", "token": "s3cret"})
        raise ValueError("cannot open https://ada:s3cret@example.org/")

    async with Kernel(store=place, **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        await kernel.signal("one", "login", {"password": "s3cret", "n": 1})
        file = await exported(kernel, "one", redact=["pin"])
        assert b"s3cret" not in file
        if getattr(kernel.backend, "is_sealed", False):
            assert b"ada" not in await exported(kernel, "one")
            assert b"s3cret" in await exported(kernel, "one", plain=True)
    async with Kernel(store=home, **OPTIONS) as kernel:
        await kernel.import_run(file)
        view = await kernel.get("one")
        assert view.data == {
            "password": "[redacted]", "n": [1, 2], "logins": [{"user": "ada", "token": "[redacted]"}],
            "pin": "[redacted]",
        }  # fmt: skip
        assert "https://[redacted]@example.org/" in str(view.error)


async def test_a_file_of_an_encrypted_store(url_of: Callable[[str], str], home: str, keys: None) -> None:
    """A kernel without the key cannot import it; a changed file is refused."""
    async with Kernel(store=url_of("sqlite") + "?codec=zstd,encrypt", **OPTIONS) as kernel:
        await ended(kernel, Order().flow(), "one")
        file = await exported(kernel, "one")
    assert b"order" not in file
    head = file.index(b"\n") + 1
    async with Kernel(store=home, **OPTIONS) as kernel:
        with pytest.raises(
            RunFileError, match=r"import it into a store with \?codec=zstd,encrypt and its keys"
        ) as info:
            await kernel.import_run(file)
        assert (info.value.problem, info.value.offset) == ("encrypted", 0)
        assert await kernel.runs() == []
    async with Kernel(store=home + "x?codec=encrypt,zstd", **OPTIONS) as kernel:
        await kernel.import_run(file)
        one = int.from_bytes(file[head : head + 4]) + 8
        swapped = file[:head] + file[head + one :] + file[head : head + one]
        with pytest.raises(RunFileError, match="cannot be decrypted"):
            await kernel.import_run(swapped, "two")
    os.environ[KEYS_ENV] = new_key()
    async with Kernel(store=home + "y?codec=encrypt", **OPTIONS) as kernel:
        with pytest.raises(RunFileError, match="append the missing key"):
            await kernel.import_run(file)


async def test_layers_that_may_hide_values(url_of: Callable[[str], str], tmp_path: Path) -> None:
    """Values that a layer keeps in files come along. A layer that may hide values is only removed if asked."""

    class Rot:
        """A layer of a third party."""

        def wrap(self, data: bytes) -> bytes:
            return bytes(byte ^ 1 for byte in data)

        unwrap = wrap

    class Plugin:
        """Its plugin."""

        @staticmethod
        def cano_codec_layer(spec: str) -> Rot | None:
            return Rot() if spec == "rot" else None

    from cano import hookimpl

    Plugin.cano_codec_layer = staticmethod(hookimpl(Plugin.cano_codec_layer))  # type: ignore[method-assign]
    plugins = [*OPTIONS["plugins"], Plugin()]
    url = url_of("sqlite")
    async with Kernel(store=f"{url}?codec=rot", **{**OPTIONS, "plugins": plugins}) as kernel:
        await ended(kernel, Order().flow(), "one")
        with pytest.raises(ConfigurationError, match="the layer Rot may hide values"):
            await exported(kernel, "one")
        file = await exported(kernel, "one", plain=True)
    async with Kernel(store=f"{url}2?codec=zstd,offload:1KiB:{tmp_path / 'blobs'}", **OPTIONS) as kernel:
        await kernel.import_run(file, "one")
        await ended(kernel, Order().flow(), "two", large="x" * 100 + os.urandom(4000).hex())
        file = await exported(kernel, "two")
    async with Kernel(store=f"{url}3", **OPTIONS) as kernel:
        await kernel.import_run(file)
        assert len((await kernel.get("two")).data["large"]) == 8100


# files


async def test_a_file_can_come_in_any_form(url_of: Callable[[str], str], tmp_path: Path) -> None:
    """Bytes, parts of any size, a file, one that cannot be read twice, and an asynchronous iterator are the same."""

    async def parts(file: bytes) -> AsyncIterator[bytes]:
        for at in range(len(file)):
            yield file[at : at + 1]

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    async with Kernel(store=url_of("sqlite"), **OPTIONS) as kernel:
        await ended(kernel, Order().flow(), "one")
        file = await exported(kernel, "one")
        (tmp_path / "one.cano").write_bytes(file)
        with (tmp_path / "one.cano").open("rb") as opened:
            forms: list[Any] = [file, [file], parts(file), opened, Pipe(file), iter([file])]
            for number, form in enumerate(forms):
                await kernel.import_run(form, str(number))
        with pytest.raises(ConfigurationError, match="source must be"):
            await kernel.import_run("one.cano")  # type: ignore[arg-type]
        assert len(await kernel.runs()) == 1 + len(forms)


async def test_a_file_that_changes_meanwhile(url_of: Callable[[str], str], tmp_path: Path) -> None:
    """A file that another process replaces between the check and the import is not imported."""
    flow = Order().flow()
    async with Kernel(store=url_of("sqlite"), **OPTIONS) as kernel:
        await ended(kernel, flow, "one")
        files = [await exported(kernel, "one"), await exported(kernel, "one")]

        class Replaced(io.BytesIO):
            """The other file, when it is read for the second time."""

            reads = 0

            def seek(self, at: int, whence: int = 0) -> int:
                self.reads += at == 0
                if self.reads == 2:
                    self.reads += 1
                    self.getbuffer()[:] = files[1]
                return super().seek(at, whence)

        assert len(files[0]) == len(files[1])
        with pytest.raises(ConflictError, match="the file was changed while its run was imported"):
            await kernel.import_run(Replaced(files[0]), "two")
        assert [run.run_id for run in await kernel.runs()] == ["one"]


async def test_corrupt_files_leave_nothing(url_of: Callable[[str], str]) -> None:
    """A file that is cut off or changed at any byte is refused, with the place; and nothing of it is stored."""
    async with Kernel(store=url_of("sqlite"), **OPTIONS) as kernel:
        await ended(kernel, Order().flow(), "one")
        await kernel.signal("one", "more", 1)
        file = await exported(kernel, "one")
        for bad, problems in _corrupt(file):
            with pytest.raises(RunFileError) as info:
                await kernel.import_run(bad, "two")
            assert info.value.problem in problems
            assert 0 <= info.value.offset <= len(bad)
            assert f"at byte {info.value.offset}, nothing of it is stored" in str(info.value)
        assert [run.run_id for run in await kernel.runs()] == ["one"]
        assert kernel.backend is not None
        assert await kernel.backend.load("two") is None
        assert not (await kernel.backend.signals("two")).waiting


def _corrupt(file: bytes) -> Iterator[tuple[bytes, set[str]]]:
    for at in range(0, len(file), 7):
        yield file[:at], {"truncated", "not a run file"}
    for at in range(0, len(file), 5):
        changed = bytearray(file)
        changed[at] ^= 0x41
        yield bytes(changed), {"corrupt", "not a run file", "truncated", "too large", "newer version", "encrypted"}
    yield file + b"x", {"corrupt"}
    yield file.replace(b'"version": 1', b'"version": 2', 1), {"newer version"}
    yield b"PK\3\4" + bytes(100), {"not a run file"}
    yield b"\x1f\x8b" + bytes(100), {"not a run file"}
    yield b"{" * 5000, {"not a run file"}
    head = file.index(b"\n") + 1
    yield file[:head] + b"\xff\xff\xff\xff" + bytes(20), {"too large"}
    yield file[:head] + b"\x00\xff\xff\xff" + bytes(20), {"truncated"}
