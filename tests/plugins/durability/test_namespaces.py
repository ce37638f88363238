"""Everything that a kernel does stays in its namespace, in memory and in files; encryption binds values to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Kernel,
    KeyValueStore,
    LayerContext,
    Retention,
    RunNotFoundError,
    RunStatus,
    SerializationError,
    Standstill,
    StoreBackend,
    Workflow,
    current_step,
    wait_for,
)
from cano_durability.keys import MARK
from cano_encryption import KEYS_ENV, EncryptionKey, EncryptionLayer, new_key
from cano_scheduler import Scheduler
from cano_sqlite import SqliteBackend

from tests.kernel.kernel.test_namespaces import Surviving

flow = Workflow("ASK", name="order").add_exit_state("DONE")


@flow.on("ASK")
async def ask(store: KeyValueStore) -> Any:
    """Wait for an answer."""
    store["asked"] = True
    return wait_for("answer", then="TAKE")


@flow.on("TAKE")
async def take(store: KeyValueStore) -> str:
    """Store the answer."""
    store["answer"] = current_step().payload
    return "DONE"


Store = Callable[[], StoreBackend]


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A way to name one store again and again."""
    memory = Surviving(strict=True)
    file = tmp_path / "runs.db"
    return lambda: memory if request.param == "memory" else SqliteBackend(file, synchronous="normal")


async def parked(kernel: Kernel, run_id: str = "one") -> None:
    """Start a run, and wait until it is parked."""
    handle = await kernel.start(flow, {"by": kernel.namespace}, run_id=run_id)
    await handle._run.ended()


async def test_every_call_stays_in_its_namespace(store: Store) -> None:
    """Two kernels at once with the same run ids: signals, cancellation, audit, prune and lists meet their own runs."""
    async with (
        Kernel(store=store(), namespace="a", actor="Ada") as one,
        Kernel(store=store(), namespace="b", actor="Bob") as two,
        Kernel(store=store(), actor="Eve") as whole,
    ):
        for kernel in (one, two):
            await parked(kernel)
        await parked(two, "two")
        assert await whole.runs() == []
        with pytest.raises(RunNotFoundError):
            await whole.signal("one", "answer", "from Eve")

        assert await one.signal("one", "answer", "from Ada")
        assert (await one.run(flow, run_id="one")).data["answer"] == "from Ada"
        assert [run.status for run in await two.runs()] == [RunStatus.PARKED] * 2
        assert (await two.explain("one")).reason is Standstill.WAITING_FOR_SIGNAL
        await two.cancel("two")
        assert [entry.actor for entry in await two.audit()] == ["Bob"]
        assert [entry.actor for entry in await one.audit()] == ["Ada"]

        assert await two.prune(Retention(keep_last=0)) == ["two"]
        assert [run.run_id for run in await one.runs()] == ["one"]
        assert await one.prune_audit(timedelta(seconds=1)) == 0
        assert await one.check() == await two.check() == []


async def test_recover_stays_in_its_namespace(store: Store) -> None:
    """A kernel resumes the interrupted runs of its namespace, and those alone."""
    for name in ("a", "b"):
        async with Kernel(store=store(), namespace=name) as kernel:
            await parked(kernel)
            await kernel.signal("one", "answer", name)
            # closed before or while the run goes on
    async with Kernel(store=store(), namespace="a") as kernel, Kernel(store=store(), namespace="b") as other:
        await kernel.recover(flow)
        assert (await kernel.run(flow, run_id="one")).data == {"by": "a", "asked": True, "answer": "a"}
        (run,) = await other.runs()
        assert run.run_id == "one"
        assert (await other.run(flow, run_id="one")).data["answer"] == "b"


async def test_queues_stay_in_their_namespace(store: Store) -> None:
    """Queues with one name in several namespaces have runs, sizes and turns of their own."""
    async with Kernel(store=store(), namespace="a") as kernel, Kernel(store=store(), namespace="b") as other:
        for each, number in ((kernel, 2), (other, 1)):
            for n in range(number):
                await each.submit(flow, {"by": each.namespace}, run_id=f"{n}", queue="mail", key=f"{n}", priority=n)
        await kernel.recover(flow, queues=["mail"])
        for n in range(2):
            run = await kernel.attach(f"{n}")
            await run.signal("answer", "yes")
            assert (await run.result()).data == {"by": "a", "asked": True, "answer": "yes"}
        assert (await other.get("0")).status is RunStatus.QUEUED
        await other.recover(flow, concurrency=1, queues=["none"])
        assert await other.required_keeper().queue_sizes() == {}
        assert (await other.explain("0")).detail.startswith("in queue mail, key '0'; 0 runs")


async def test_schedules_stay_in_their_namespace(store: Store) -> None:
    """The same id is another schedule in another namespace."""
    for name in ("a", "b"):
        async with Kernel(store=store(), namespace=name) as kernel:
            scheduler = Scheduler(kernel)
            scheduler.every("nightly", flow, timedelta(hours=1))
            await scheduler.start()
            if name == "a":
                await scheduler.pause("nightly")
            (info,) = await scheduler.list()
            assert (info.state == "paused") is (name == "a")
            await scheduler.stop()


# encryption


async def test_encrypted_values_belong_to_their_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole namespace that is put into the place of another is refused; put back, it is read."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal&codec=encrypt"
    for name in ("a", "b", None):
        async with Kernel(store=url, namespace=name) as kernel:
            await parked(kernel)
    whole, one, two = (tmp_path / f"runs.db{end}" for end in ("", "@a.db", "@b.db"))
    kept = one.read_bytes()
    for source, target, name in ((one, two, "b"), (one, whole, None), (whole, one, "a")):
        before = target.read_bytes()
        target.write_bytes(source.read_bytes())
        kernel = Kernel(store=url, namespace=name)
        with pytest.raises(SerializationError, match=r"'cano\.store' cannot be read: .*moved here from another place"):
            await kernel.open()
        await kernel.close()
        target.write_bytes(before)
    assert one.read_bytes() == kept
    async with Kernel(store=url, namespace="a") as kernel:
        assert (await kernel.signal("one", "answer")) is True
        assert (await kernel.run(flow, run_id="one")).data["by"] == "a"


async def test_an_encrypted_namespace_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without codec=, an encrypted namespace is refused, as an encrypted store is; its run's record is not shown."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    async with Kernel(store=f"{url}&codec=encrypt", namespace="a") as kernel:
        await parked(kernel)
        assert [run.run_id for run in await kernel.runs()] == ["one"]
        assert kernel.backend is not None
        assert await kernel.backend.load(MARK) is None
    plain = Kernel(store=url, namespace="a")
    with pytest.raises(ConfigurationError, match="in the namespace 'a' is encrypted"):
        await plain.open()
    await plain.close()


async def opened(url: str, namespace: str | None) -> None:
    """Open a kernel, and park a run in it."""
    kernel = Kernel(store=url, namespace=namespace)
    try:
        await kernel.open()
        await parked(kernel)
    finally:
        await kernel.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgres", "redis"])
async def test_a_new_namespace_beside_encrypted_ones_says_how(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Without codec=, what it writes would be plain text by mistake. codec=plain says that it is wanted."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    if kind != "sqlite":
        url = request.getfixturevalue(kind).new_url()
    sign = "&" if "?" in url else "?"
    await opened(url, "before")
    await opened(f"{url}{sign}codec=encrypt", "a")
    await opened(url, "before")  # it has a run
    for name, problem in (
        ("b", "is new, and the store .* is encrypted; add codec=encrypt as"),
        (None, "is encrypted, "),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            await opened(url, name)
    await opened(f"{url}{sign}codec=encrypt", "b")
    await opened(f"{url}{sign}codec=plain", "c")
    await opened(url, "c")
    with pytest.raises(ConfigurationError, match="in the namespace 'a' is encrypted"):
        await opened(f"{url}{sign}codec=plain", "a")
    await opened(f"{url}{sign}codec=encrypt", None)


async def test_a_plain_store_may_have_encrypted_namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has runs is not marked, since its processes name no key; so it does not refuse plain namespaces."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))
    url = f"sqlite:///{tmp_path}/runs.db?synchronous=normal"
    await opened(url, None)
    await opened(f"{url}&codec=encrypt", "a")
    await opened(url, None)
    await opened(url, "b")


async def test_a_plain_namespace_makes_no_whole_store(tmp_path: Path) -> None:
    """To look for a mark creates no file."""
    await opened(f"sqlite:///{tmp_path}/runs.db?synchronous=normal", "a")
    assert not (tmp_path / "runs.db").exists()


def test_places_without_a_namespace_are_as_before() -> None:
    """A value of version 2 that was written before there were namespaces is read; with a namespace it is refused."""
    layer = EncryptionLayer([EncryptionKey("k", bytes(range(32)))])
    stored = bytes.fromhex(BEFORE)
    context = LayerContext("store", "run", "key", 3)
    assert layer.unwrap_in(stored, context) == b"value"
    with pytest.raises(SerializationError, match="moved here from another place"):
        layer.unwrap_in(stored, context._replace(namespace="a"))
    mine = layer.wrap_in(b"value", context._replace(namespace="a"))
    assert layer.unwrap_in(mine, context._replace(namespace="a")) == b"value"
    for other in ("", "b", "a\0b"):
        with pytest.raises(SerializationError, match="moved here from another place"):
            layer.unwrap_in(mine, context._replace(namespace=other))


BEFORE = (
    "c14502016b9a7889af5f4a327840233f7df9162d5d000000000000000306e60d366de27b9b569b88f64659a7b4b16cf6f111"
    "e592d7961c73fc638e394069"
)
