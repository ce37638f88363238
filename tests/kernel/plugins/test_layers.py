"""Layers around the codec, as a store's URL names them: order, refusals, and who meets them."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Literal

import pytest
from cano import (
    Codec,
    CodecLayer,
    ConfigurationError,
    Kernel,
    KeyValueStore,
    RetryExhaustedError,
    SerializationError,
    Standstill,
    StoreBackend,
    StoreUnavailableError,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    hookimpl,
    wait_for,
)
from cano.plugins.codec_layers import Layers, split_codec
from cano.testing import VirtualClock
from cano_memory import MemoryBackend
from hypothesis import given
from hypothesis import strategies as st

(_CODEC,) = entry_points(group="cano", name="msgspec")
CODEC = _CODEC.load()


class Tag:
    """A layer that marks what it has wrapped, and refuses what holds a word, or has no mark."""

    def __init__(self, mark: bytes) -> None:
        self._mark = mark

    def wrap(self, data: bytes) -> bytes:
        """Put the mark in front."""
        if b"secret" in data:
            raise SerializationError("it tells a secret")
        return self._mark + data

    def unwrap(self, data: bytes) -> bytes:
        """Take the mark away."""
        if not data.startswith(self._mark):
            raise SerializationError(f"it has no mark {self._mark.decode()}")
        return data.removeprefix(self._mark)


class Plugin:
    """Has the layers `tag:MARK`, and one store in memory that outlives the kernels on it."""

    def __init__(self, strict: bool = True) -> None:
        self.urls: list[str] = []
        self.store = Kept(strict=True)
        self.store.capabilities = self.store.capabilities._replace(strict=strict)

    @hookimpl
    def cano_codec_layer(self, spec: str) -> CodecLayer | None:
        """A layer."""
        name, _, mark = spec.partition(":")
        return Tag(mark.encode()) if name == "tag" else None

    @hookimpl
    def cano_open_store(self, url: str) -> StoreBackend | None:
        """The store."""
        self.urls.append(url)
        return self.store if url.startswith("kept:") else MemoryBackend() if url.startswith("memory:") else None

    def kernel(self, store: str, **options: Any) -> Kernel:
        """A kernel on the store at that URL."""
        return Kernel(store=store, plugins=[self, CODEC], discover=False, clock=VirtualClock(), grace=0, **options)


class Kept(MemoryBackend):
    """A store in memory that outlives the kernels on it."""

    async def close(self) -> None:
        """Keep everything."""


flow = Workflow("WRITE", name="writing", default_config=TaskConfig.minimal()).add_exit_state("DONE")


@flow.on("WRITE")
async def write(store: KeyValueStore) -> Literal["READ"]:
    """Wait for a payload."""
    store["note"] = store.get("text", str, "plain")
    return wait_for("more", then="READ")


@flow.on("READ")
async def read(store: KeyValueStore) -> Literal["DONE"]:
    """Take the payload over."""
    store["more"] = current_step().payload
    return "DONE"


async def test_values_and_payloads_pass_the_layers_in_order() -> None:
    """From left to right on their way in, backwards on their way out; in data, history and payloads."""
    plugin = Plugin()
    url = "kept://?codec=tag:a,tag:b"
    async with plugin.kernel(url) as kernel:
        await kernel.start(flow, {"text": "hello"}, run_id="one")
        while (await kernel.runs())[0].state != "READ":
            await kernel.clock.sleep(1)
        await kernel.signal("one", "more", 7)
    async with plugin.kernel(url) as kernel:
        result = await kernel.run(flow, run_id="one")
        lines = await kernel.history("one")
        await kernel.fork("one", 1, "two")
        await kernel.signal("two", "more", 8)  # a fork waits for a signal of its own
        assert (await kernel.run(flow, run_id="two")).data["note"] == "hello"

    assert result.data == {"text": "hello", "note": "hello", "more": 7}
    assert lines[0].changed == {"text": "hello"}
    record = await plugin.store.load("one")
    assert record is not None
    assert all(value.startswith(b"ba") for value in record.data.values())
    assert plugin.urls == ["kept://", "kept://"]


async def test_a_refusal_names_the_key() -> None:
    """What a layer refuses ends the run with one error that names the key; nothing of it is stored."""
    plugin = Plugin(strict=False)
    async with plugin.kernel("kept://?codec=tag:a") as kernel:
        with pytest.raises(SerializationError, match=r"^run one, key 'text': it tells a secret$") as caught:
            await kernel.run(flow, {"text": "a secret"}, run_id="one")
        await kernel.start(flow, {}, run_id="two")
        with pytest.raises(SerializationError, match="the payload of signal 'more'"):
            await kernel.signal("two", "more", "a secret")

    assert caught.value.key == "text"
    assert await plugin.store.load("one") is None


async def test_a_strict_store_refuses_at_put() -> None:
    """With a strict store the task gets the refusal at its put."""
    seen = []
    strict = Workflow("PUT", name="strict", default_config=TaskConfig.minimal()).add_exit_state("DONE")

    @strict.on("PUT")
    async def put(store: KeyValueStore) -> Literal["DONE"]:
        try:
            store["note"] = "a secret"
        except SerializationError as error:
            seen.append(str(error))
            raise
        return "DONE"

    async with Plugin().kernel("kept://?codec=tag:a") as kernel:
        with pytest.raises((TaskError, RetryExhaustedError)):
            await kernel.run(strict, {})

    assert seen == ["key 'note': it tells a secret"]


async def test_what_cannot_be_unwrapped_names_run_and_key() -> None:
    """Reading through another chain is an error of the run, and a finding of `check`."""
    plugin = Plugin()
    async with plugin.kernel("kept://?codec=tag:a") as kernel:
        await kernel.start(flow, {"text": "hello"}, run_id="one")
    async with plugin.kernel("kept://?codec=tag:b") as kernel:
        await kernel.signal("one", "more", 7)
        with pytest.raises(SerializationError, match=r"^run one, key 'text': it has no mark b$"):
            await kernel.run(flow, run_id="one")
        (finding,) = await kernel.check()
        assert (finding.kind, finding.run_id) == ("corrupt", "one")
        assert "it has no mark b" in finding.detail
        assert (await kernel.explain("one")).reason is Standstill.UNREADABLE


class Broken(Tag):
    """A layer that raises, or returns, what a layer should not. It passes values once `work` is set."""

    work = False

    def __init__(self, act: str, result: Any) -> None:
        super().__init__(b"")
        self._act = act
        self._result = result

    def _made(self, act: str, data: bytes) -> Any:
        if self.work or act != self._act or b"note" not in data:
            return data
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def wrap(self, data: bytes) -> bytes:
        """Wrap."""
        return self._made("wrap", data)  # type: ignore[no-any-return]

    def unwrap(self, data: bytes) -> bytes:
        """Unwrap."""
        return self._made("unwrap", data)  # type: ignore[no-any-return]


class Breaking(Plugin):
    """Has this layer as `broken`."""

    def __init__(self, act: str, result: Any, strict: bool) -> None:
        super().__init__(strict)
        self.layer = Broken(act, result)

    @hookimpl(tryfirst=True)
    def cano_codec_layer(self, spec: str) -> CodecLayer | None:
        """The layer."""
        return self.layer if spec == "broken" else None


noting = Workflow("NOTE", name="noting", default_config=TaskConfig.minimal()).add_exit_state("DONE")


@noting.on("NOTE")
async def note(store: KeyValueStore) -> Literal["TWO"]:
    """Put a value that breaks."""
    store["text"] = "a note"
    return "TWO"


@noting.on("TWO")
async def two(store: KeyValueStore) -> Literal["DONE"]:
    """Go on."""
    return "DONE"


ODD = [ValueError("no"), RuntimeError(), KeyError("k"), Exception("x"), "text", None]


@pytest.mark.parametrize("result", ODD, ids=repr)
async def test_a_layer_that_breaks_at_a_commit(result: Any) -> None:
    """The run fails; the error names the layer, the run and the key."""
    plugin = Breaking("wrap", result, strict=False)
    async with plugin.kernel("kept://?codec=broken") as kernel:
        with pytest.raises(SerializationError, match=r"^run one, key 'text': the codec layer Broken r") as caught:
            await kernel.run(noting, {}, run_id="one")
        assert caught.value.key == "text"
        assert (await kernel.explain("one")).reason is Standstill.FAILED


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("result", ODD, ids=repr)
async def test_a_layer_that_breaks_when_a_value_is_read(result: Any, strict: bool) -> None:
    """The run cannot be read."""
    plugin = Breaking("unwrap", result, strict)
    plugin.layer.work = True
    async with plugin.kernel("kept://?codec=broken") as kernel:
        await kernel.run(noting, {}, run_id="one")
    plugin.layer.work = False
    async with plugin.kernel("kept://?codec=broken") as kernel:
        with pytest.raises(SerializationError, match=r"^run one, key 'text': the codec layer Broken r") as caught:
            await kernel.run(noting, {}, run_id="one")
        assert (caught.value.key, caught.value.run_id) == ("text", "one")
        assert [finding.kind for finding in await kernel.check()] == ["corrupt"]


class WrongCodec:
    """A codec that raises what a codec should not."""

    def __init__(self, act: str, error: Exception) -> None:
        self._act = act
        self._error = error

    @hookimpl(tryfirst=True)
    def cano_codec(self) -> Codec:
        """Return itself."""
        return self

    def register(self, *types: Any) -> None:
        """Register nothing."""

    def encode(self, value: Any) -> bytes:
        """Encode a text."""
        if self._act == "encode" and value == "a note":
            raise self._error
        return str(value).encode()

    def decode(self, data: bytes, type: Any = None) -> Any:
        """Decode it."""
        if self._act == "decode" and data == b"a note":
            raise self._error
        return data.decode()


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("no"), OSError("no"), KeyError("no")], ids=repr)
@pytest.mark.parametrize("act", ["encode", "decode"])
async def test_a_codec_that_breaks(act: str, error: Exception) -> None:
    """The error is Cano's, and names run and key; the codec's is its cause."""
    plugin = Plugin(strict=False)
    options = {"plugins": [plugin, WrongCodec(act, error)], "discover": False, "clock": VirtualClock(), "grace": 0}
    async with Kernel(store="kept://", **options) as kernel:  # type: ignore[arg-type]
        if act == "decode":
            await kernel.run(noting, {}, run_id="one")
        with pytest.raises(
            SerializationError, match=r"^run one, key 'text': it cannot be \w+: \w+Error: '?no"
        ) as caught:
            await (kernel.history("one") if act == "decode" else kernel.run(noting, {}, run_id="one"))
        assert caught.value.__cause__ is error
        assert (caught.value.key, caught.value.run_id) == ("text", "one")


async def test_a_layer_whose_disk_fails() -> None:
    """It may work later: the run is interrupted, and continues."""
    plugin = Breaking("wrap", OSError(28, "No space left on device"), strict=False)
    async with plugin.kernel("kept://?codec=broken") as kernel:
        with pytest.raises(
            StoreUnavailableError, match=r"^run one, key 'text': the codec layer Broken failed"
        ) as caught:
            await kernel.run(noting, {}, run_id="one")
        assert caught.value.key == "text"
        assert (await kernel.explain("one")).reason is Standstill.INTERRUPTED
        plugin.layer.work = True
        assert (await kernel.resume(noting, "one")).data["text"] == "a note"


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        (
            "kept://?codec=tog",
            "codec layer 'tog'; there are: encrypt, limit, offload, zstd$",
        ),
        ("kept://?codec=", "codec layer ''"),
        ("kept://?codec=tag:a,", "codec layer ''"),
        ("kept://?codec=tag:a&codec=tag:b", "has the option 'codec' twice"),
        ("memory://?codec=tag:a", "this store keeps objects, not bytes"),
    ],
)
async def test_wrong_urls_are_refused(url: str, problem: str) -> None:
    """What is wrong with `codec` is said when the kernel starts."""
    with pytest.raises(ConfigurationError, match=problem):
        await Plugin().kernel(url).open()


SECRET = [
    "://ada:hunter2@host/db?x=1", "://ada:hun/ter2@host/db", "://ada:hun?ter2@host/db", "://ada:hun@ter2@host/db",
    "://ada:hun/?@ter2@host", ":ada:hunter2@host", ":hunter2@host", "://host/db?password=hunter2", "://h?p=hun@ter2",
    "://host/db?x=1\n&password=hunter2", "=1 password=hunter2", "=1 password=hun:hunter2", "://ada:hun\nter2@host",
    ":///ada:hunter2@host/db", "://host/db;password=hunter2", "://host/db#access_token=hunter2",
    "://h1:1,ada:hunter2@h2:2/db", "://ada:hunter2@h1:1,ada:hunter2@h2:2/db?ssl=1",
]  # fmt: skip


@pytest.mark.parametrize("rest", SECRET)
@pytest.mark.parametrize("option", ["store", "executor"])
async def test_what_is_secret_in_a_url_is_not_shown(rest: str, option: str) -> None:
    """Not where nobody opens it, where its layers are wrong, nor where the kernel is shown; however it is written."""
    kernel = Kernel(discover=False, **{option: f"nowhere{rest}"})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=f"no active plugin provides the {option} 'nowhere") as caught:
        await kernel.open()
    said = [repr(kernel), str(caught.value)]
    for scheme, codec in (("kept", "tag:a&codec=tag:b"), ("memory", "tag:a")):
        with pytest.raises(ConfigurationError) as caught:
            Plugin().kernel("memory://").store_at(f"{scheme}{rest}{'&' if '?' in rest else '?'}codec={codec}")
        said.append(str(caught.value))

    assert not [text for text in said if "hun" in text or "ter2" in text]


async def test_layers_need_a_store() -> None:
    """A kernel without any store has nothing for layers to work on."""
    with pytest.raises(ConfigurationError, match="the codec layer 'zstd', is installed, but not loaded"):
        await Kernel(store="memory://?codec=zstd", discover=False).open()


def test_a_store_and_its_layers_without_a_run() -> None:
    """Whoever copies runs gets the store, not yet opened, and its layers as one."""
    plugin = Plugin()
    kernel = plugin.kernel("memory://")
    backend, layers = kernel.store_at("kept://?codec=tag:a,tag:b")

    assert backend is plugin.store
    assert layers.wrap(b"x") == b"bax"
    assert layers.unwrap(b"bax") == b"x"
    assert kernel.store_at("kept://") == (plugin.store, ())


@pytest.mark.parametrize(
    ("url", "rest", "items"),
    [
        ("sqlite:///a.db", "sqlite:///a.db", []),
        ("sqlite:///a.db?x=%20&y", "sqlite:///a.db?x=%20&y", []),
        ("sqlite:///a.db?codec=zstd", "sqlite:///a.db", ["zstd"]),
        ("sqlite:///a.db?x=%20&codec=zstd:9,encrypt&y", "sqlite:///a.db?x=%20&y", ["zstd:9", "encrypt"]),
        ("p://u:p@h/d?codec=offload:1MiB:%2Fa%2Cb%3A+c", "p://u:p@h/d", ["offload:1MiB:/a,b:+c"]),
        ("a://?codec", "a://", [""]),
        ("a://?codecs=1", "a://?codecs=1", []),
    ],
)
def test_the_option_is_taken_out(url: str, rest: str, items: list[str]) -> None:
    """The rest of a URL stays as it is, to the letter."""
    assert split_codec(url) == (rest, items)


@given(st.binary(), st.lists(st.binary(min_size=1, max_size=3)))
def test_layers_are_undone_in_the_opposite_order(data: bytes, marks: list[bytes]) -> None:
    """Whatever the layers, what was wrapped is unwrapped."""
    layers = Layers(map(Tag, marks))
    if b"secret" not in data:
        assert layers.unwrap(layers.wrap(data)) == data
