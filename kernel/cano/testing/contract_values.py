"""The store contract: values are returned exactly as they were stored, and are not shared with callers."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cano.errors import SerializationError
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.run_filter import RunFilter
from cano.signals import Signal
from cano.testing.contract_base import (
    NOW,
    Contract,
    clause,
    loaded,
    new_run,
    note,
    promised,
    step,
    stored,
    value,
    values,
)

TEXTS = (
    "", " ", "a", "A", "a ", "ключ", "日本語", "🗝️🔑", "é", "e\u0301", "nul\0inside", "nul", "\0", "\0engine",
    "line\nbreak", "tab\t", "'; DROP TABLE runs; --", '"', "\\", "%s", "%25", "a/b", "../a", ".", "a:b", "{}", "*",
    "k" * 300,
)  # fmt: skip
"""All different, though a store that folds case, trims or normalises text may confuse them."""
LONG = "".join(chr(0x4E00 + number * number % 20_000) for number in range(10_000))  # it can hardly be compressed
KEYS = (*TEXTS, LONG, LONG + "!")


class ValueClauses(Contract):
    """Values are returned exactly as they were stored, and are not shared with callers."""

    @clause
    async def test_every_field_survives(self, store: StoreBackend) -> None:
        """Every field of a record is returned exactly, floats to their last bit, after `create` and after a commit.

        The time of a commit may be before the one of the commit before it, and before the run's creation.
        """
        third = NOW + 1 / 3
        run = new_run(
            workflow="flöw", version="1.0-β", fingerprint="", state="État", seq=2**33, status=RunStatus.PARKED,
            data=values(store, a=1), error={"class": "E", "message": "no 🦆\n", "attempt": 3, "phase": None},
            wait=Wait(signal="go", then="B", until=third, on_timeout="C"), payload=value(store, {"x": [1]}),
            parent="pärent", created=third, updated=third + 1, holder="hölder", expires=third + 2, token=2**40,
        )  # fmt: skip
        await store.create(run)
        assert await loaded(store) == run

        error, wait = {"class": "F", "message": "", "state": "S", "attempt": 1}, Wait(then="Ü", until=third + 3)
        change = step(
            2**33 + 1, token=2**40, state="Zustand", status=RunStatus.FAILED, error=error, wait=wait,
            payload=value(store, "p"), at=third + 4,
        )  # fmt: skip
        await store.commit(change)
        after = await loaded(store)
        assert (after.state, after.status, after.updated) == ("Zustand", RunStatus.FAILED, third + 4)
        assert (after.error, after.wait, after.payload) == (error, wait, value(store, "p"))
        same = ("workflow", "version", "fingerprint", "parent", "created", "holder", "expires", "token", "data")
        assert [getattr(after, name) for name in same] == [getattr(run, name) for name in same]

        earlier = math.nextafter(third, -math.inf)
        await store.commit(change._replace(expected_seq=change.seq, at=earlier))
        assert await loaded(store) == after._replace(updated=earlier)

    @clause
    async def test_every_status_survives(self, store: StoreBackend) -> None:
        """Every status can be created and committed, and is returned as it was."""
        for status in RunStatus:
            await store.create(new_run(status.value, status=status))
            assert (await loaded(store, status.value)).status is status
            await store.create(new_run(f"commit {status.value}"))
            await store.commit(step(1, f"commit {status.value}", status=status))
            assert (await loaded(store, f"commit {status.value}")).status is status

    @clause
    async def test_every_kind_of_wait_survives(self, store: StoreBackend) -> None:
        """A wait is returned with each of its fields, even if it is None."""
        await store.create(new_run())
        for signal in (None, *TEXTS, "go"):
            for until in (None, 0.0, NOW + 1 / 7):
                for on_timeout in (None, "", "B"):
                    wait = Wait(then="A", signal=signal, until=until, on_timeout=on_timeout)
                    await store.commit(note(0, status=RunStatus.PARKED, wait=wait))
                    assert (await loaded(store)).wait == wait

    @clause
    async def test_a_commit_without_error_wait_or_payload_clears_them(self, store: StoreBackend) -> None:
        """A commit without an error, wait or payload sets these fields of the record to None."""
        await store.create(new_run(error={"class": "E"}, wait=Wait(then="A", signal="s"), payload=value(store, 1)))
        await store.commit(step(1))

        run = await loaded(store)
        assert (run.error, run.wait, run.payload) == (None, None, None)

    @clause
    async def test_any_text_is_a_key(self, store: StoreBackend) -> None:
        """Any text is a key: empty, with NUL, with emoji, long. Keys that differ in case, blanks or composition differ.

        Each can be created, set by a commit, replaced and removed.
        """
        first, second = ({key: value(store, (key, n)) for key in KEYS} for n in (1, 2))
        await store.create(new_run("created", data=first))
        await store.create(new_run())
        assert (await loaded(store, "created")).data == first
        await store.commit(step(1, changed=first))
        assert (await loaded(store)).data == first
        await store.commit(step(2, changed=second))
        await store.commit(step(3, removed=KEYS[::2]))
        assert (await loaded(store)).data == {key: second[key] for key in KEYS[1::2]}
        await store.commit(step(4, removed=KEYS[1::2]))
        assert (await loaded(store)).data == {}

        made = [(entry.changed, list(entry.removed)) for entry in (await store.history("run"))[1:]]
        gone: list[Any] = [({}, [*KEYS[::2]]), ({}, [*KEYS[1::2]])]
        assert made == promised(store, [(first, []), (second, []), *gone])

    @clause
    async def test_any_text_is_a_state(self, store: StoreBackend) -> None:
        """States, versions, fingerprints and the states of a wait are any text without NUL, even an empty one."""
        texts = [text for text in TEXTS if "\0" not in text]
        await store.create(new_run())
        for seq, text in enumerate(texts, 1):
            run = new_run(str(seq), state=text, version=text, fingerprint=text)
            await store.create(run)
            assert await loaded(store, str(seq)) == run
            wait = Wait(then=text, signal="go", on_timeout=text)
            await store.commit(step(seq, state=text, status=RunStatus.PARKED, wait=wait))
            after = await loaded(store)
            assert (after.state, after.wait) == (text, wait)
        assert [entry.state for entry in await store.history("run")] == promised(store, ["S0", *texts])

    @clause
    async def test_text_that_is_not_unicode(self, store: StoreBackend) -> None:
        """Text with a lone surrogate is kept, or refused with SerializationError; then nothing changes."""
        odd = "\ud800"
        calls: list[Callable[[str], Awaitable[Any]]] = [
            lambda run: store.commit(step(1, run, changed={odd: value(store, 1), "b": value(store, 2)})),
            lambda run: store.commit(step(1, run, state=odd, removed=["a"])),
            lambda run: store.put_signal(run, Signal("1", odd)),
            lambda run: store.put_signal(run, Signal(odd, "go")),
            lambda run: store.create(new_run(run + odd)),
        ]
        for number, call in enumerate(calls):
            run_id = f"run {number}"
            await store.create(new_run(run_id, data=values(store, a=1)))
            before = await stored(store, run_id), await store.signals(run_id), len(await store.runs(RunFilter()))
            refusal: Exception | None = None
            try:
                await call(run_id)
            except Exception as error:  # noqa: BLE001  # whatever a driver raises
                refusal = error
            after = await stored(store, run_id), await store.signals(run_id), len(await store.runs(RunFilter()))
            if refusal is None:
                assert after != before
            else:
                assert isinstance(refusal, SerializationError), repr(refusal)
                assert after == before

    @clause
    async def test_errors_keep_their_types(self, store: StoreBackend) -> None:
        """The values in an error are returned with their types: an integer is not a float, nor is True 1."""
        error: dict[str, Any] = {
            "int": 1, "float": 1.0, "true": True, "false": False, "none": None, "zero": -0.0, "large": 2**53 + 1,
            "tiny": 5e-324, "huge": 1.7976931348623157e308, "": "", "text": "nul\0 ключ\n",
            "list": [0, False, 0.0, None], "dict": {"0": {}, "": []},
        }  # fmt: skip
        await store.create(new_run(error=error))
        assert repr((await loaded(store)).error) == repr(error)
        await store.create(new_run("committed"))
        await store.commit(note(0, "committed", status=RunStatus.FAILED, error=error))
        assert repr((await loaded(store, "committed")).error) == repr(error)

    @clause
    async def test_values_keep_their_types(self, store: StoreBackend) -> None:
        """A store that keeps objects returns them with their types: a tuple is not a list, nor is -0.0 zero."""
        things = {
            "tuple": (1, (2,)), "list": [1, [2]], "keys": [{1: "a"}, {True: "a"}, {1.0: "a"}, {"1": "a"}, {(1,): "a"}],
            "numbers": [0, -0.0, 0.0, False, float("inf"), float("nan"), 2**70, 1 + 0j], "none": None, "set": {1},
            "bytes": [b"a", bytearray(b"a"), "a"],
        }  # fmt: skip
        data = {key: value(store, thing) for key, thing in things.items()}
        await store.create(new_run("created", data=data))
        await store.create(new_run())
        await store.commit(step(1, changed=data, payload=data["numbers"]))
        await store.put_signal("run", Signal("1", "go", data["keys"]))
        for run in (await loaded(store, "created"), await loaded(store)):
            assert repr(run.data) == repr(data)
        assert repr((await loaded(store)).payload) == repr(data["numbers"])
        signal = await store.next_signal("run", "go")
        assert repr(signal and signal.payload) == repr(data["keys"])
        made = [repr(dict(entry.changed)) for entry in (await store.history("run"))[1:]]
        assert made == promised(store, [repr(data)])

    @clause
    async def test_any_text_is_an_id(self, store: StoreBackend) -> None:
        """Run ids, holders, workflows, and names and ids of signals are any text; similar ones are different.

        Only names and ids of signals contain NUL: those that begin with it are the engine's own.
        """
        texts = [text for text in TEXTS if text and "\0" not in text]
        for text in texts:
            await store.create(new_run(text, workflow=text, holder=text, parent=text, data=values(store, a=text)))
            await store.put_signal(text, Signal(text, text, value(store, text)))
        for text in texts:
            expected = new_run(text, workflow=text, holder=text, parent=text, data=values(store, a=text))
            assert await loaded(store, text) == expected
            assert await store.next_signal(text, text) == Signal(text, text, value(store, text))
            for filter in (RunFilter(workflow=text), RunFilter(parent=text)):
                assert [run.run_id for run in await store.runs(filter)] == [text]
            assert list(await store.renew(text, {text: 1}, NOW)) == []
        for text in TEXTS:
            await store.put_signal("run", Signal(text, text, value(store, text)))
        for text in TEXTS:
            assert await store.next_signal("run", text) == Signal(text, text, value(store, text))

    @clause
    async def test_empty_is_not_missing(self, store: StoreBackend) -> None:
        """An empty value is a value: b"" is returned as b"", even as a payload, and not as None or a missing key."""
        await store.create(new_run(data={"a": b""}, payload=b""))
        await store.put_signal("run", Signal("1", "go", b""))
        await store.commit(note(0, changed={"b": b""}, payload=b""))

        run, signal = await loaded(store), await store.next_signal("run", "go")
        assert (run.data, run.payload, signal) == ({"a": b"", "b": b""}, b"", Signal("1", "go", b""))
        if not store.capabilities.encoded:
            await store.commit(step(1, changed={"a": None, "b": ""}))
            assert (await loaded(store)).data == {"a": None, "b": ""}

    @clause
    async def test_every_byte_survives(self, store: StoreBackend) -> None:
        """Values are any bytes, whether they are valid text or not."""
        odd = [bytes(range(256)), b"\0", b"null", b"{}", b"\xff\xfe", b"'", b"0", b"\r\n"]
        data = {str(number): each for number, each in enumerate(odd)}
        await store.create(new_run(data=data))
        assert (await loaded(store)).data == data
        assert [entry.changed for entry in await store.history("run")] == promised(store, [data])

    @clause
    async def test_ten_megabytes_survive(self, store: StoreBackend) -> None:
        """A value, and a payload, may be 10 MB."""
        large = bytes(range(256)) * 40_960
        await store.create(new_run(data={"created": large}))
        await store.put_signal("run", Signal("1", "go", large))
        await store.commit(step(1, changed={"committed": large + b"!"}))

        run, signal = await loaded(store), await store.next_signal("run", "go")
        equal = run.data == {"created": large, "committed": large + b"!"}
        assert equal, {key: len(kept) for key, kept in run.data.items()}
        equal = signal is not None and signal.payload == large
        assert equal, "the signal's payload is another"

    @clause
    async def test_keys_keep_their_order(self, store: StoreBackend) -> None:
        """Keys are returned in the order in which they were first set; one that is removed and set again is last."""
        await store.create(new_run(data=dict.fromkeys("zay", value(store, 0))))
        await store.commit(step(1, changed=dict.fromkeys("bza", value(store, 1))))
        assert list((await loaded(store)).data) == list("zayb")
        await store.commit(step(2, removed=["z", "y"], changed=dict.fromkeys("cz", value(store, 2))))
        assert list((await loaded(store)).data) == list("abcz")

    @clause
    async def test_what_was_passed_in_stays_the_callers(self, store: StoreBackend) -> None:
        """If a caller changes an object after it has passed it to the store, nothing changes in the store."""
        data, changed = (values(store, a=[[1]], x={"y": [2]}) for _ in range(2))
        error, other_error = {"class": "E"}, {"class": "F"}
        payload, other_payload, sent = (value(store, ["p", {}]) for _ in range(3))
        removed, consumed = ["x"], ["1"]

        await store.create(new_run(data=data, error=error, payload=payload))
        before = await stored(store)
        _spoil(data, error, payload)
        assert await stored(store) == before

        for each in "12":
            await store.put_signal("run", Signal(each, "go", sent))
        await store.commit(
            step(1, changed=changed, removed=removed, error=other_error, payload=other_payload, consumed=consumed)
        )
        before = await stored(store)
        _spoil(changed, removed, other_error, other_payload, consumed, sent)
        assert await stored(store) == before

    @clause
    async def test_what_is_handed_out_is_the_callers(self, store: StoreBackend) -> None:
        """If a caller changes an object that the store has returned, nothing changes for the store or other callers."""
        given = new_run(data=values(store, a=[1], x={"y": [2]}), error={"class": "E"}, payload=value(store, ["p"]))
        created = await store.create(given)
        again = await store.create(new_run())
        before = await stored(store)
        for run in (created, again):
            _spoil(run.data, run.error, run.payload)
        assert await stored(store) == before

        change = step(1, changed=values(store, a=[3]), removed=["x"], error={"class": "F"}, payload=value(store, []))
        await store.commit(change)
        await store.put_signal("run", Signal("1", "go", value(store, ["sent"])))
        before = await stored(store)
        history, listed, ready = await store.history("run"), await store.runs(RunFilter()), await store.ready(NOW + 99)
        for each in (await store.load("run"), *listed, *ready):
            assert each is not None
            _spoil(each.data, each.error, each.payload)
        for entry in history:
            _spoil(entry.changed, entry.removed)
        signal = await store.next_signal("run", "go")
        waiting, consumed, *_ = await store.signals("run")
        _spoil(history, listed, ready, signal and signal.payload, *(each.payload for each in waiting))
        _spoil(waiting, consumed, await store.missing_recipients())
        assert await stored(store) == before
        assert len(await store.runs(RunFilter())) == len(await store.ready(NOW + 99)) == 1


def _spoil(*things: Any) -> None:
    """Change every mutable value in place, recursively."""
    for thing in things:
        if isinstance(thing, MutableMapping):
            _spoil(*thing.values())
            thing["spoilt"] = True
        elif isinstance(thing, list):
            _spoil(*thing)
            thing.append("spoilt")
