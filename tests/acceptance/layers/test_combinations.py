"""Every combination of layers on SQLite: runs resumed by another kernel, history, forks, payloads, new keys, errors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cano import CanoError, Commit, ConfigurationError, Kernel, RunStatus, SerializationError, Standstill
from cano_encryption import KEYS_ENV, new_key

from tests.acceptance.layers.flows import END, LONG, NOISE, SECRET, flow, parked, signalled

LAYERS = ("zstd:9", "encrypt", "limit:1MiB", "offload:1KiB:FOLDER")
SOME = [each for number in range(1, 4) for each in itertools.combinations(LAYERS, number)]
OFFLOAD, ENCRYPT = LAYERS.index("offload:1KiB:FOLDER"), LAYERS.index("encrypt")
ORDERS = [each for each in itertools.permutations(LAYERS) if each.index(LAYERS[OFFLOAD]) > each.index(LAYERS[ENCRYPT])]
Url = Callable[..., str]


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Url:
    """Return a function that makes the URL of a store with those layers. A key is set."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))

    def made(*layers: str) -> str:
        codec = ",".join(layers).replace("FOLDER", str(tmp_path / "blobs"))
        return f"sqlite:///{tmp_path}/runs.db?synchronous=normal" + (f"&codec={codec}" if layers else "")

    return made


def on_disk(folder: Path) -> bytes:
    """Return the content of all files."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("layers", [*SOME, *ORDERS], ids=",".join)
async def test_a_durable_run(url: Url, tmp_path: Path, layers: tuple[str, ...]) -> None:
    """A run is started in one kernel, finished in another, and inspected and forked in a third."""
    store = url(*layers)
    async with Kernel(store=store) as kernel:
        await parked(kernel)
        await signalled(kernel)
    async with Kernel(store=store) as kernel:
        result = await kernel.run(flow, run_id="one")
        assert result.data == END
    async with Kernel(store=store) as kernel:
        first, second, third, *_ = await kernel.history("one")
        assert (first.changed, second.changed["noise"], third.changed) == (
            {"given": SECRET}, NOISE, {"more": [LONG, NOISE]},
        )  # fmt: skip
        await kernel.fork("one", 2, "two")
        assert (await kernel.resume(flow, "two")).data == END
        assert (await kernel.explain("two")).reason is Standstill.SUCCEEDED
        assert await kernel.check() == []
    if "encrypt" in layers:
        assert SECRET.encode() not in on_disk(tmp_path)
    assert (tmp_path / "blobs").exists() is (LAYERS[OFFLOAD] in layers)


async def test_offloading_before_encrypting_is_refused(url: Url, tmp_path: Path) -> None:
    """The files would hold plain text, so the store is not even opened; such a store of an earlier version is read."""
    store = url("offload:1KiB:FOLDER", "zstd", "encrypt")
    with pytest.raises(
        ConfigurationError, match=r"names OffloadLayer before EncryptionLayer, .* migrate-store OLD_URL"
    ):
        await Kernel(store=store).open()
    assert on_disk(tmp_path) == b""
    backend, layers = Kernel().store_at(store)
    assert (backend is not None, len(layers)) == (True, 2)


@pytest.mark.parametrize("layer", LAYERS)
async def test_corrupt_values(url: Url, layer: str) -> None:
    """The run and `check` name the run and key of a corrupt value; `explain` and other runs still work."""
    store = url(layer)
    async with Kernel(store=store) as kernel:
        await parked(kernel)
        await parked(kernel, "other")
        await signalled(kernel, "other")
    backend, _ = Kernel().store_at(store.partition("&codec")[0])
    assert backend is not None
    await backend.open()
    token = await backend.claim("one", "me", 0, 1)
    record = await backend.load("one")
    assert record is not None
    assert token is not None
    corrupt = record.data["long"][:-1] + b"?"
    await backend.commit(
        Commit(
            run_id="one", token=token, expected_seq=record.seq, seq=record.seq, state=record.state,
            status=RunStatus.PARKED, wait=record.wait, changed={"long": corrupt}, release=True,
        )
    )  # fmt: skip
    await backend.close()

    async with Kernel(store=store) as kernel:
        waits = Standstill.UNREADABLE if layer == "encrypt" else Standstill.WAITING_FOR_SIGNAL
        assert (await kernel.explain("one")).reason is waits
        assert (await kernel.run(flow, run_id="other")).data == END
        (finding,) = await kernel.check()
        assert (finding.kind, finding.run_id) == ("corrupt", "one")
        assert "key 'long'" in finding.detail
        with suppress(SerializationError):  # a run that is verified is refused at once
            await signalled(kernel)
        with pytest.raises(SerializationError, match=r"^run one, key 'long': ") as caught:
            await kernel.run(flow, run_id="one")
        assert (caught.value.run_id, caught.value.key) == ("one", "long")


async def test_keys_are_rotated_over_restarts(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values under the old key can be read as long as it is set; afterwards the error names run, key and key id."""
    old, new = new_key("old"), new_key("new")
    store = url("zstd", "encrypt")
    monkeypatch.setenv(KEYS_ENV, old)
    async with Kernel(store=store) as kernel:
        await parked(kernel)
    monkeypatch.setenv(KEYS_ENV, f"{new},{old}")
    async with Kernel(store=store) as kernel:
        await signalled(kernel)
        assert (await kernel.run(flow, run_id="one")).data == END
        assert kernel.backend is not None
        record = await kernel.backend.inner.load("one")  # type: ignore[attr-defined]  # of a sealed store
        assert record is not None
        assert {key: value[4:7] for key, value in record.data.items() if key in END} == {
            "given": b"old", "long": b"new", "noise": b"old", "small": b"old", "more": b"new",
        }  # fmt: skip
    monkeypatch.setenv(KEYS_ENV, new)
    async with Kernel(store=store) as kernel:
        with pytest.raises(SerializationError, match=r"^run one, key '\w+': it is encrypted with the key 'old'"):
            await kernel.run(flow, run_id="one")


async def test_layers_are_turned_on_later(url: Url) -> None:
    """Layers added later read the values from before; encryption only does so if it is migrating."""
    async with Kernel(store=url()) as kernel:
        await parked(kernel)
    with pytest.raises(SerializationError, match="not encrypted, so anyone with write access may have forged it"):
        await Kernel(store=url("zstd", "encrypt", "offload:1KiB:FOLDER")).open()
    async with Kernel(store=url()) as kernel:
        await signalled(kernel)  # the refused kernel did not mark the store
    async with Kernel(store=url("zstd", "encrypt:migrating", "offload:1KiB:FOLDER")) as kernel:
        assert (await kernel.run(flow, run_id="one")).data == END


async def test_layers_are_turned_off(url: Url) -> None:
    """Without a layer its values cannot be read; the error names run, key and `codec=`."""
    async with Kernel(store=url("zstd")) as kernel:
        await parked(kernel)
        await signalled(kernel)
    async with Kernel(store=url()) as kernel:
        with pytest.raises(SerializationError, match=r"run one, key 'long': .*codec="):
            await kernel.run(flow, run_id="one")


async def test_a_value_over_the_limit(url: Url) -> None:
    """A value over the limit fails the run with one error that names key, size and limit; `explain` shows it."""
    async with Kernel(store=url("limit:4KiB")) as kernel:
        with pytest.raises(
            SerializationError, match=r"^run one, key 'long': its 5608 bytes exceed .* limit of 4 KiB \(4096 "
        ):
            await kernel.run(flow, {"given": SECRET}, run_id="one")
        explained = await kernel.explain("one")
        assert explained.reason is Standstill.FAILED
        assert "key 'long'" in explained.detail
    async with Kernel(store=url("limit:1MiB")) as kernel:
        handle = await kernel.start(flow, {}, run_id="two")
        await signalled(kernel, "two")
        await handle.cancel()


async def test_a_disk_that_is_full(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk interrupts the run instead of failing it; later it resumes from its last commit."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("cano_offload.folder._write_atomically", full)
        async with Kernel(store=url("offload:1KiB:FOLDER")) as kernel:
            with pytest.raises(CanoError, match="No space left on device"):
                await kernel.run(flow, {"given": SECRET}, run_id="one")
            assert (await kernel.explain("one")).reason is Standstill.INTERRUPTED
    async with Kernel(store=url("offload:1KiB:FOLDER")) as kernel:
        await signalled(kernel)
        assert (await kernel.run(flow, run_id="one")).data == END


async def test_a_limit_for_payloads(url: Url) -> None:
    """A signal with a payload over the limit is refused where it is sent, and the run keeps waiting."""
    async with Kernel(store=url("limit:6KiB")) as kernel:
        await parked(kernel)
        with pytest.raises(SerializationError, match=r"the payload of signal .*: its 8612 bytes exceed"):
            await signalled(kernel)
        assert (await kernel.explain("one")).reason is Standstill.WAITING_FOR_SIGNAL


async def test_a_kernel_without_a_key_does_not_start(url: Url, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key the kernel does not start; the error names the variable and how to make a key."""
    monkeypatch.delenv(KEYS_ENV)
    with pytest.raises(ConfigurationError, match=f"{KEYS_ENV} holds no key; python -m cano_encryption prints"):
        await Kernel(store=url("encrypt")).open()
