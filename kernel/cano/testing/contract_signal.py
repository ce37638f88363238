"""The store contract: signals."""

from __future__ import annotations

import asyncio

from cano.errors import ConflictError, SerializationError
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.signals import Signal
from cano.testing.contract_base import Contract, clause, deleted, loaded, new_run, note, promised, raised, step, value


class SignalClauses(Contract):
    """Signals."""

    @clause
    async def test_taking_a_signal_leaves_it(self, store: StoreBackend) -> None:
        """`next_signal` returns the signal with its payload, as often as it is called, and changes nothing."""
        await store.create(new_run())
        signal = Signal("1", "go", value(store, {"by": "Ada"}))
        await store.put_signal("run", signal)

        assert [await store.next_signal("run", "go") for _ in range(3)] == [signal] * 3
        assert await loaded(store) == new_run()
        assert [entry.seq for entry in await store.history("run")] == promised(store, [0])

    @clause
    async def test_an_early_signal_is_kept(self, store: StoreBackend) -> None:
        """A signal may be sent before its run waits for it, and even before the run exists."""
        early, next = Signal("1", "go", value(store, 1)), Signal("2", "go", value(store, 2))
        await store.put_signal("run", early)
        assert await store.next_signal("run", "go") == early
        assert await store.load("run") is None

        await store.create(new_run())
        await store.put_signal("run", next)
        await store.commit(step(1, status=RunStatus.PARKED, wait=Wait(then="B", signal="go"), release=True))
        assert await store.next_signal("run", "go") == early
        await store.commit(step(2, consumed=["1"]))
        assert await store.next_signal("run", "go") == next

    @clause
    async def test_an_early_signal_counts_once(self, store: StoreBackend) -> None:
        """The id of a signal that was sent before its run existed is known after the run was created."""
        early = Signal("1", "go", value(store, 1))
        await store.put_signal("run", early)
        await store.create(new_run())
        await store.put_signal("run", Signal("1", "go", value(store, 2)))
        assert await store.next_signal("run", "go") == early

        await store.commit(step(1, consumed=["1"]))
        await store.put_signal("run", Signal("1", "go", value(store, 3)))
        assert await store.next_signal("run", "go") is None

    @clause
    async def test_a_late_signal_is_kept(self, store: StoreBackend) -> None:
        """A signal to a run that has already continued, or ended, is kept, and does not change the run."""
        await store.create(new_run())
        await store.commit(note(0, status=RunStatus.PARKED, wait=Wait(then="B", signal="go")))
        await store.commit(step(1, status=RunStatus.SUCCEEDED, release=True))
        before = await loaded(store)
        await store.put_signal("run", Signal("1", "go"))

        assert await store.next_signal("run", "go") == Signal("1", "go")
        assert await loaded(store) == before

    @clause
    async def test_a_signal_sent_twice_counts_once(self, store: StoreBackend) -> None:
        """A second signal with the same id is ignored, whatever its name and payload."""
        first = Signal("1", "go", value(store, 1))
        await store.create(new_run())
        await store.put_signal("run", first)
        again = (Signal("1", name, value(store, n)) for n in range(2, 8) for name in ("go", "stop"))
        await asyncio.gather(*(store.put_signal("run", signal) for signal in (first, *again)))

        assert await store.next_signal("run", "go") == first
        assert await store.next_signal("run", "stop") is None
        await store.commit(step(1, consumed=["1"]))
        assert await store.next_signal("run", "go") is None

    @clause
    async def test_a_consumed_signal_does_not_come_back(self, store: StoreBackend) -> None:
        """A signal whose id was consumed is ignored, so a sender can repeat it until it gets an answer."""
        await store.create(new_run())
        await store.put_signal("run", Signal("1", "go"))
        await store.commit(step(1, consumed=["1"]))
        await store.put_signal("run", Signal("1", "go"))
        assert await store.next_signal("run", "go") is None

        await store.put_signal("run", Signal("2", "go"))
        assert await store.next_signal("run", "go") == Signal("2", "go")

    @clause
    async def test_signals_of_one_name_come_in_order(self, store: StoreBackend) -> None:
        """Several signals with one name are returned in the order in which they were put, whatever their ids."""
        await store.create(new_run())
        ids = ["9", "1", "10", "a", "A", "0"]
        for each in ids:
            await store.put_signal("run", Signal(each, "go", value(store, each)))
        for seq, each in enumerate(ids, 1):
            assert await store.next_signal("run", "go") == Signal(each, "go", value(store, each))
            await store.commit(step(seq, consumed=[each]))
        assert await store.next_signal("run", "go") is None

    @clause
    async def test_no_two_queues_are_one(self, store: StoreBackend) -> None:
        """A run's id and a signal's name stay apart, whatever signs join them. A store may refuse ids with NUL."""
        for sign in (":", "/", " ", "\0"):
            pairs = (f"a{sign}b", "c"), ("a", f"b{sign}c")
            signals = {(run_id, name): Signal(f"{run_id}{sign}{len(name)}", name) for run_id, name in pairs}
            try:
                for (run_id, _), signal in signals.items():
                    await store.put_signal(run_id, signal)
            except SerializationError:
                continue
            assert {each: await store.next_signal(*each) for each in signals} == signals

    @clause
    async def test_signals_are_apart(self, store: StoreBackend) -> None:
        """A signal is for one run and one name. Ids are unique in a run only: two runs may use the same id."""
        for run_id in ("run", "other"):
            await store.create(new_run(run_id))
            await store.put_signal(run_id, Signal("1", "go", value(store, run_id)))
        await store.put_signal("run", Signal("2", "stop"))
        assert await store.next_signal("run", "Go") is None
        assert await store.next_signal("other", "stop") is None

        await store.commit(step(1, consumed=["1"]))
        assert await store.next_signal("run", "go") is None
        assert await store.next_signal("run", "stop") == Signal("2", "stop")
        assert await store.next_signal("other", "go") == Signal("1", "go", value(store, "other"))

    @clause
    async def test_a_commit_consumes_exactly_what_it_names(self, store: StoreBackend) -> None:
        """A commit, with or without a transition, consumes the signals whose ids it names, and no others.

        It may name several ids, of any signals and in any order; unknown ids are ignored.
        """
        await store.create(new_run())
        for each in "12345":
            await store.put_signal("run", Signal(each, "odd" if int(each) % 2 else "even"))
        await store.commit(note(0, consumed=["4", "1", "nothing"]))
        assert await store.next_signal("run", "odd") == Signal("3", "odd")
        assert await store.next_signal("run", "even") == Signal("2", "even")

        await store.commit(step(1, consumed=["3"]))
        assert await store.next_signal("run", "odd") == Signal("5", "odd")
        await store.commit(step(2))
        assert await store.next_signal("run", "even") == Signal("2", "even")

    @clause
    async def test_consuming_what_never_came_is_forgotten(self, store: StoreBackend) -> None:
        """A commit ignores the id of a signal that does not exist: one that is sent later with this id counts."""
        await store.create(new_run())
        await store.commit(step(1, consumed=["1"]))
        await store.put_signal("run", Signal("1", "go"))

        assert await store.next_signal("run", "go") == Signal("1", "go")
        assert list((await store.signals("run")).consumed) == []

    @clause
    async def test_a_refused_commit_consumes_nothing(self, store: StoreBackend) -> None:
        """A refused commit consumes no signals."""
        await store.create(new_run())
        await store.put_signal("run", Signal("1", "go"))
        for stale in (step(2, consumed=["1"]), step(1, token=9, consumed=["1"])):
            await raised(ConflictError, store.commit(stale))
            assert await store.next_signal("run", "go") == Signal("1", "go")

    @clause
    async def test_all_signals_are_told(self, store: StoreBackend) -> None:
        """`signals` returns the unconsumed signals of all names, in order of arrival, and the consumed ids."""
        await store.create(new_run())
        await store.put_signal("another", Signal("x", "go"))
        for each in "3142":
            await store.put_signal("run", Signal(each, f"name {each}", value(store, each)))
        await store.put_signal("run", Signal("3", "again"))
        await store.commit(note(0, consumed=["1", "never"]))
        waiting, consumed, own_consumed, answered = await store.signals("run")

        assert (list(own_consumed), list(answered)) == ([], [])
        assert list(waiting) == [Signal(each, f"name {each}", value(store, each)) for each in "342"]
        assert list(consumed) == ["1"]
        assert [list(each) for each in await store.signals("missing")] == [[], [], [], []]
        assert list((await store.signals("another")).waiting) == [Signal("x", "go")]

    @clause
    async def test_recipients_without_a_run_are_told(self, store: StoreBackend) -> None:
        """`missing_recipients` returns the ids that signals were sent to but no run has, each once."""
        assert list(await store.missing_recipients()) == []
        await store.create(new_run())
        for run_id in ("run", "early", "late", "early"):
            for each in "12":
                await store.put_signal(run_id, Signal(each, "go"))
        assert sorted(await store.missing_recipients()) == ["early", "late"]

        await store.create(new_run("late"))
        assert list(await store.missing_recipients()) == ["early"]
        remaining = [] if await deleted(store, "early") else ["early"]
        assert list(await store.missing_recipients()) == remaining
