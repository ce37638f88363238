"""The store contract: what goes in comes out, exactly, and is nobody else's."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from cano.protocols import RunFilter, RunStatus, Signal, StoreBackend, Wait
from cano.testing.contract_base import (
    NOW,
    Contract,
    clause,
    kept,
    loaded,
    new_run,
    note,
    step,
    value,
    values,
)

TEXTS = (
    "", " ", "a", "A", "a ", "ключ", "日本語", "🗝️🔑", "é", "e\u0301", "nul\0inside", "nul", "line\nbreak", "tab\t",
    "'; DROP TABLE runs; --", '"', "\\", "%s", "%25", "a/b", "../a", ".", "a:b", "{}", "*", "k" * 300,
)  # fmt: skip
"""No two are alike, though they may seem so to a store that folds case, trims or normalises."""


class ValueClauses(Contract):
    """What goes in comes out, exactly, and is nobody else's."""

    @clause
    async def test_every_field_survives(self, store: StoreBackend) -> None:
        """Every field of a record comes back exactly, floats to their last bit, from `create` and from a commit."""
        third = NOW + 1 / 3
        run = new_run(
            workflow="flöw", version="1.0-β", fingerprint="", state="État", seq=3, status=RunStatus.PARKED,
            data=values(store, a=1), error={"class": "E", "message": "no 🦆\n", "attempt": 3, "phase": None},
            wait=Wait(signal="go", then="B", until=third, on_timeout="C"), payload=value(store, {"x": [1]}),
            parent="pärent", created=third, updated=third + 1, holder="hölder", expires=third + 2, token=2**40,
        )  # fmt: skip
        await store.create(run)
        assert await loaded(store) == run

        error, wait = {"class": "F", "message": "", "state": "S", "attempt": 1}, Wait(then="Ü", until=third + 3)
        change = note(
            3, token=2**40, seq=4, state="Zustand", status=RunStatus.FAILED, error=error, wait=wait,
            payload=value(store, "p"), at=third + 4,
        )  # fmt: skip
        await store.commit(change)
        after = await loaded(store)
        assert (after.state, after.status, after.updated) == ("Zustand", RunStatus.FAILED, third + 4)
        assert (after.error, after.wait, after.payload) == (error, wait, value(store, "p"))
        same = ("workflow", "version", "fingerprint", "parent", "created", "holder", "expires", "token", "data")
        assert [getattr(after, name) for name in same] == [getattr(run, name) for name in same]

    @clause
    async def test_every_status_survives(self, store: StoreBackend) -> None:
        """Every status can be created and committed, and comes back as it was, whoever holds the run."""
        for status in RunStatus:
            await store.create(new_run(status.value, status=status))
            assert (await loaded(store, status.value)).status is status
            await store.create(new_run(f"commit {status.value}"))
            await store.commit(step(1, f"commit {status.value}", status=status))
            assert (await loaded(store, f"commit {status.value}")).status is status

    @clause
    async def test_every_kind_of_wait_survives(self, store: StoreBackend) -> None:
        """A wait comes back with each of its fields, those that are None too."""
        await store.create(new_run())
        for signal in (None, "", "go"):
            for until in (None, 0.0, NOW + 1 / 7):
                for on_timeout in (None, "", "B"):
                    wait = Wait(then="A", signal=signal, until=until, on_timeout=on_timeout)
                    await store.commit(note(0, status=RunStatus.PARKED, wait=wait))
                    assert (await loaded(store)).wait == wait

    @clause
    async def test_a_commit_without_error_wait_or_payload_clears_them(self, store: StoreBackend) -> None:
        """A commit gives the record new values for error, wait and payload: None where it names none."""
        await store.create(new_run(error={"class": "E"}, wait=Wait(then="A", signal="s"), payload=value(store, 1)))
        await store.commit(step(1))

        run = await loaded(store)
        assert (run.error, run.wait, run.payload) == (None, None, None)

    @clause
    async def test_any_text_is_a_key(self, store: StoreBackend) -> None:
        """Keys are any text: empty, with NUL and emoji; two that differ in case, blanks or composition are two."""
        await store.create(new_run(data={key: value(store, key) for key in TEXTS[:10]}))
        await store.commit(step(1, changed={key: value(store, key) for key in TEXTS[10:]}))
        assert (await loaded(store)).data == {key: value(store, key) for key in TEXTS}
        assert (await store.history("run"))[1].changed == {key: value(store, key) for key in TEXTS[10:]}

        gone = TEXTS[::2]
        await store.commit(step(2, removed=gone))
        assert (await loaded(store)).data == {key: value(store, key) for key in TEXTS[1::2]}
        assert list((await store.history("run"))[2].removed) == list(gone)

    @clause
    async def test_any_text_is_an_id(self, store: StoreBackend) -> None:
        """Run ids, holders, names and ids of signals are any text without NUL; similar ones are different ones."""
        texts = [text for text in TEXTS if text and "\0" not in text]
        for text in texts:
            await store.create(new_run(text, workflow=text, holder=text, parent=text, data=values(store, a=text)))
            await store.put_signal(text, Signal(text, text, value(store, text)))
        for text in texts:
            expected = new_run(text, workflow=text, holder=text, parent=text, data=values(store, a=text))
            assert await loaded(store, text) == expected
            assert await store.take_signal(text, text) == Signal(text, text, value(store, text))
            for filter in (RunFilter(workflow=text), RunFilter(parent=text)):
                assert [run.run_id for run in await store.runs(filter)] == [text]
            assert list(await store.renew(text, {text: 1}, NOW)) == []

    @clause
    async def test_empty_is_not_missing(self, store: StoreBackend) -> None:
        """An empty value is a value: b"" comes back as b"", as a payload too, and never as None or as no key."""
        await store.create(new_run(data={"a": b""}, payload=b""))
        await store.put_signal("run", Signal("1", "go", b""))
        await store.commit(note(0, changed={"b": b""}, payload=b""))

        run, signal = await loaded(store), await store.take_signal("run", "go")
        assert (run.data, run.payload, signal) == ({"a": b"", "b": b""}, b"", Signal("1", "go", b""))
        if not store.capabilities.encoded:
            await store.commit(step(1, changed={"a": None, "b": ""}))
            assert (await loaded(store)).data == {"a": None, "b": ""}

    @clause
    async def test_every_byte_survives(self, store: StoreBackend) -> None:
        """Values are bytes of any kind: text or not, whatever they look like."""
        odd = [bytes(range(256)), b"\0", b"null", b"{}", b"\xff\xfe", b"'", b"0", b"\r\n"]
        data = {str(number): each for number, each in enumerate(odd)}
        await store.create(new_run(data=data))
        assert (await loaded(store)).data == data
        assert (await store.history("run"))[0].changed == data

    @clause
    async def test_ten_megabytes_survive(self, store: StoreBackend) -> None:
        """A value, and a payload, may be 10 MB."""
        large = bytes(range(256)) * 40_960
        await store.create(new_run(data={"created": large}))
        await store.put_signal("run", Signal("1", "go", large))
        await store.commit(step(1, changed={"committed": large + b"!"}))

        run, signal = await loaded(store), await store.take_signal("run", "go")
        equal = run.data == {"created": large, "committed": large + b"!"}
        assert equal, {key: len(kept) for key, kept in run.data.items()}
        equal = signal is not None and signal.payload == large
        assert equal, "the signal's payload is another"

    @clause
    async def test_keys_keep_their_order(self, store: StoreBackend) -> None:
        """Keys come back in the order in which they were first set; one set anew after its removal is the last."""
        await store.create(new_run(data=dict.fromkeys("zay", value(store, 0))))
        await store.commit(step(1, changed=dict.fromkeys("bza", value(store, 1))))
        assert list((await loaded(store)).data) == list("zayb")
        await store.commit(step(2, removed=["z", "y"], changed=dict.fromkeys("cz", value(store, 2))))
        assert list((await loaded(store)).data) == list("abcz")

    @clause
    async def test_what_was_passed_in_stays_the_callers(self, store: StoreBackend) -> None:
        """Changing what was passed to the store, after it has returned, changes nothing in the store."""
        run, change = [_bundle(store) for _ in range(2)]
        gone = ["x"]
        payload = value(store, ["payload"])
        await store.create(new_run(**run))
        await store.put_signal("run", Signal("1", "go", payload))
        await store.commit(step(1, removed=gone, changed=change["data"], error=change["error"], payload=change["payload"]))
        before = await kept(store)
        for bundle in (run, change):
            _spoil(bundle["data"], bundle["error"], bundle["payload"])
        _spoil(gone, payload)

        assert await kept(store) == before

    @clause
    async def test_what_is_handed_out_is_the_callers(self, store: StoreBackend) -> None:
        """Changing what the store has returned changes nothing in the store, nor what it returns to others."""
        created = await store.create(new_run(**_bundle(store)))
        await store.commit(step(1, **{**(fields := _bundle(store)), "changed": fields.pop("data")}))
        await store.put_signal("run", Signal("1", "go", value(store, ["payload"])))
        before = await kept(store)
        again = await store.create(new_run())
        run, signal = await store.load("run"), await store.take_signal("run", "go")
        history, listed = await store.history("run"), await store.runs(RunFilter())
        ready = await store.ready(NOW + 99)
        assert run is not None
        assert signal is not None
        for each in (created, again, run, *listed, *ready):
            _spoil(each.data, each.error, each.payload)
        for line in history:
            _spoil(line.changed, line.removed)
        _spoil(signal.payload, history, listed, ready)

        assert await kept(store) == before
        assert len(await store.runs(RunFilter())) == len(await store.ready(NOW + 99)) == 1


def _bundle(store: StoreBackend) -> dict[str, Any]:
    return {
        "data": values(store, a=[[1]], x={"y": [2]}), "error": {"class": "E"}, "payload": value(store, ["p", {}]),
    }  # fmt: skip


def _spoil(*things: Any) -> None:
    """Change in place whatever can be, through and through."""
    for thing in things:
        if isinstance(thing, MutableMapping):
            _spoil(*thing.values())
            thing["spoilt"] = True
        elif isinstance(thing, list):
            _spoil(*thing)
            thing.append("spoilt")
