"""Bounds of stored runs: their decompressed size, their errors, the signals that wait, and the event loop's time."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cano import (
    Codec,
    Kernel,
    KeyValueStore,
    SerializationError,
    SizeLimitError,
    SizeLimits,
    TaskError,
    Workflow,
    hookimpl,
    wait_for,
)
from cano.testing import VirtualClock
from cano_durability.bounds import MANY
from cano_msgspec import MsgspecCodec

flow = Workflow("A", name="bomb").add_exit_state("C")
STRICT = "memory://?strict=1"


@flow.on("A")
async def first(store: KeyValueStore) -> str:
    """Store values that shrink to almost nothing."""
    for number in range(store["count"]):
        store[f"big {number}"] = bytes(100_000)
    return wait_for("go", then="B")


@flow.on("B")
async def second(store: KeyValueStore) -> str:
    """End the run."""
    return "C"


@pytest.mark.parametrize("codec", ["zstd", "zstd,encrypt"])
async def test_what_a_run_decompresses_to_is_limited(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value is small; all together are too large. The run, and its history, are refused; others continue."""
    from cano_encryption import KEYS_ENV, new_key

    monkeypatch.setenv(KEYS_ENV, new_key())
    async with Kernel(store=f"{STRICT}&codec={codec}", limits=SizeLimits(run=1_000_000)) as kernel:
        for run_id, count in (("large", 12), ("small", 8)):
            handle = await kernel.start(flow, {"count": count}, run_id=run_id)
            await handle._run.ended()
        with pytest.raises(
            SerializationError, match=r"run large, key 'big \d+': .* more than SizeLimits.run = 1000000"
        ):
            await kernel.history("large")
        await kernel.signal("small", "go")
        assert len((await kernel.run(flow, run_id="small")).data) == 9
        await kernel.signal("large", "go")
        with pytest.raises(SerializationError, match=r"run large, .* raise the limit: Kernel\(limits="):
            await kernel.run(flow, run_id="large")
        (finding,) = await kernel.check()
        assert (finding.kind, finding.run_id) == ("corrupt", "large")


async def test_an_error_is_cut_in_the_store() -> None:
    """Its message, and its cause, are cut with a mark; the caller gets more of it."""
    failing = Workflow("A", name="failing").add_exit_state("B")

    @failing.on("A")
    async def fail(store: KeyValueStore) -> str:
        raise ValueError("x" * 1_000_000)

    async with Kernel(store=STRICT, limits=SizeLimits(errors=100), block=["retry"]) as kernel:
        with pytest.raises(TaskError) as caught:
            await kernel.run(failing, {}, run_id="one")
        assert len(str(caught.value)) > 1000
        (record,) = await kernel.runs()
    assert record.error is not None
    for text in (record.error["message"], record.error["cause"]):
        assert text.endswith("more characters)")
        assert len(text) < 150


async def test_waiting_signals_are_limited() -> None:
    """One more is refused, also by another kernel; when one is consumed, another one is accepted."""
    waiting = Workflow("A", name="waiting").add_exit_state("C")

    @waiting.on("A")
    async def ask(store: KeyValueStore) -> str:
        return wait_for("go", then="B")

    @waiting.on("B")
    async def again(store: KeyValueStore) -> str:
        return wait_for("other", then="C")

    async with Kernel(store=STRICT, limits=SizeLimits(signals=3)) as kernel:
        handle = await kernel.start(waiting, {}, run_id="one")
        await handle._run.ended()
        for number in range(3):
            await kernel.signal("one", f"spam {number}")
        for _ in range(2):
            with pytest.raises(
                SizeLimitError, match=r"3 signals wait for run one already.* SizeLimits\.signals = 3"
            ) as caught:
                await kernel.signal("one", "spam")
            assert (caught.value.limit, caught.value.run_id) == ("signals", "one")
        assert kernel.backend is not None
        async with Kernel(store=kernel.backend, limits=SizeLimits(signals=4)) as more:
            await more.signal("one", "go")
            sent = 0
            with suppress(SizeLimitError):
                while sent < 9:
                    await more.signal("one", "spam")
                    sent += 1
            assert sent == 0


class Watched(MsgspecCodec):
    """A codec that counts the values that pass through it in the event loop's thread, and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = threading.get_ident()
        self.calls: Counter[bool] = Counter()

    def restricted(self, *types: Any) -> MsgspecCodec:
        """Return this one, so that all workflows share the count."""
        self.register(*types)
        return self

    def encode(self, value: Any) -> bytes:
        """Encode and count."""
        self.calls[threading.get_ident() == self.loop] += 1
        return super().encode(value)

    def decode(self, data: bytes, type: Any = None) -> Any:
        """Decode and count."""
        self.calls[threading.get_ident() == self.loop] += 1
        return super().decode(data, type)

    @hookimpl(tryfirst=True)
    def cano_codec(self) -> Codec:
        """Return this codec."""
        return self


async def test_many_values_do_not_block_the_event_loop(tmp_path: Path) -> None:
    """A thread encodes and decodes them: when a run begins, commits a step, is restored, and returns its result."""
    many = Workflow("A", name="many").add_exit_state("C")

    @many.on("A")
    async def change(store: KeyValueStore) -> str:
        for number in range(MANY):
            store[f"key {number}"] = number
        return wait_for("go", then="B")

    @many.on("B")
    async def end(store: KeyValueStore) -> str:
        return "C"

    codec = Watched()
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db", plugins=[codec]) as kernel:
        handle = await kernel.start(many, {f"key {number}": -number for number in range(MANY)}, run_id="one")
        await handle._run.ended()
    async with Kernel(store=f"sqlite:///{tmp_path}/runs.db", plugins=[codec]) as kernel:
        await kernel.signal("one", "go")
        await kernel.run(many, run_id="one")
        assert (await kernel.run(many, run_id="one")).data["key 7"] == 7
    assert codec.calls[False] >= 4 * MANY
    assert codec.calls[True] < 30


async def test_virtual_time_does_not_pass_while_a_thread_works() -> None:
    """A clock that jumps whenever the event loop is idle is held: otherwise large values would end runs by timeouts."""
    clock, held = VirtualClock(), Counter[tuple[str, int]]()

    class Holding(Watched):
        """A codec that looks at the clock in threads."""

        def encode(self, value: Any) -> bytes:
            """Note how often the clock is held."""
            if threading.get_ident() != self.loop:
                held["encoding", clock._holds] += 1
            return super().encode(value)

        def decode(self, data: bytes, type: Any = None) -> Any:
            """Do the same."""
            if threading.get_ident() != self.loop:
                held["decoding", clock._holds] += 1
            return super().decode(data, type)

    many = Workflow("A", name="many").add_exit_state("B")

    @many.on("A")
    async def change(store: KeyValueStore) -> str:
        for number in range(MANY):
            store[f"key {number}"] = number
        return "B"

    async with Kernel(store=STRICT, clock=clock, plugins=[Holding()]) as kernel:
        await kernel.run(many, {f"key {number}": -number for number in range(MANY)}, run_id="one", timeout=9)
        await kernel.run(many, run_id="one")
    assert held == {("encoding", 1): 2 * MANY, ("decoding", 1): MANY}
