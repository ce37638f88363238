"""The store contract: the engine's own values and signals, apart from those of users."""

from __future__ import annotations

from cano.errors import ConflictError
from cano.optional_stores import LimitingStore, RewritingStore
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.run_filter import RunFilter
from cano.signals import Signal, Signals
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    deleted,
    entries,
    free_run,
    loaded,
    new_run,
    note,
    promised,
    raised,
    step,
    value,
    values,
)

NAMES = ("retry", "", "nul\0inside", "\0", "ключ")
"""Names of the engine's values, ids and names of signals. Users have the same."""


def _listed(signals: Signals) -> Signals:
    waiting, consumed, own, answered = signals
    return Signals([*waiting], [*consumed], [*own], [*answered])


class OwnClauses(Contract):
    """The engine's own values and signals."""

    @clause
    async def test_the_engines_values_are_apart(self, store: StoreBackend) -> None:
        """A value of the engine's own and a value of the data with the same name are two values."""
        data = {name: value(store, f"data {name}") for name in NAMES}
        own = {name: value(store, f"own {name}") for name in NAMES}
        await store.create(new_run(data=data, own=own))
        await store.create(new_run("other", data=own))
        assert await loaded(store) == new_run(data=data, own=own)

        await store.commit(step(1, changed=values(store, retry=1), own_removed=["retry", "nothing"]))
        await store.commit(step(2, removed=["", "\0"], own=values(store, wait=2) | {"\0": value(store, 3)}))
        run = await loaded(store)
        assert run.data == {key: data[key] for key in NAMES[2::2]} | values(store, retry=1)
        left = {name: each for name, each in own.items() if name != "retry"}
        assert run.own == left | values(store, wait=2) | {"\0": value(store, 3)}
        assert await loaded(store, "other") == new_run("other", data=own)

    @clause
    async def test_the_engines_values_change_with_their_commit(self, store: StoreBackend) -> None:
        """Each commit sets and removes values of the engine's own, also without a transition; a refused one none."""
        await store.create(new_run(own=values(store, a=1, b=1)))
        await store.commit(note(0, own=values(store, b=2, c=2), own_removed=["a", "c"]))
        assert (await loaded(store)).own == values(store, b=2, c=2)

        await raised(ConflictError, store.commit(step(1, token=9, own=values(store, d=3), own_removed=["b"])))
        assert (await loaded(store)).own == values(store, b=2, c=2)
        await store.commit(step(1, status=RunStatus.SUCCEEDED, own_removed=["b"], release=True))
        assert (await loaded(store)).own == values(store, c=2)

    @clause
    async def test_history_has_the_engines_values_apart(self, store: StoreBackend) -> None:
        """An entry of the history has the engine's own values that its commit set and removed, apart from the data."""
        same = values(store, a=1)
        await store.create(new_run(data=same, own=same))
        await store.commit(step(1, changed=same, own=values(store, b=2), own_removed=["a"]))
        await store.commit(note(1, own=values(store, c=3)))
        await store.commit(step(2, removed=["a"], own_removed=["c"]))

        running = RunStatus.RUNNING
        expected = [
            (0, "S0", running, NOW, same, [], same, []),
            (1, "S1", running, NOW + 1, same, [], values(store, b=2), ["a"]),
            (2, "S2", running, NOW + 2, {}, ["a"], {}, ["c"]),
        ]
        assert entries(await store.history("run")) == promised(store, expected)

    @clause
    async def test_many_values_of_the_engine_survive(self, store: StoreBackend) -> None:
        """A run has as many values of the engine's own as it needs, over any number of commits."""
        first = {f"branch {number}": value(store, number) for number in range(1500)}
        await store.create(new_run(own=first))
        for number in range(250):
            await store.commit(note(0, own={f"late {number}": value(store, number)}, own_removed=[f"branch {number}"]))
        late = {f"late {number}": value(store, number) for number in range(250)}
        assert (await loaded(store)).own == {f"branch {n}": value(store, n) for n in range(250, 1500)} | late

    @clause
    async def test_lists_come_without_the_engines_values(self, store: StoreBackend) -> None:
        """`runs` and `ready` return runs with empty `own`."""
        await store.create(free_run(own=values(store, a=1)))

        assert [dict(run.own) for run in (*await store.runs(RunFilter()), *await store.ready(NOW))] == [{}, {}]

    @clause
    async def test_the_engines_signals_are_apart(self, store: StoreBackend) -> None:
        """A signal of the engine's own, and one of a user with the same id and name, are two signals."""
        await store.create(new_run())
        for name in NAMES:
            await store.put_signal("run", Signal(name, name, value(store, "theirs")))
            await store.put_signal("run", Signal(name, name, value(store, "own"), own=True))
        for name in NAMES:
            assert await store.next_signal("run", name) == Signal(name, name, value(store, "theirs"))
            assert await store.next_signal("run", name, False) == Signal(name, name, value(store, "theirs"))
            assert await store.next_signal("run", name, True) == Signal(name, name, value(store, "own"), own=True)

        await store.put_signal("run", Signal("alone", "alone", own=True))
        assert await store.next_signal("run", "alone") is None
        await store.put_signal("run", Signal("theirs alone", "theirs alone"))
        assert await store.next_signal("run", "theirs alone", True) is None

    @clause
    async def test_the_engines_signals_are_consumed_apart(self, store: StoreBackend) -> None:
        """`consumed` consumes no signal of the engine's own, and `own_consumed` none of a user; ids are kept apart."""
        await store.create(new_run())
        for id in ("1", "2"):
            await store.put_signal("run", Signal(id, "go"))
            await store.put_signal("run", Signal(id, "go", own=True))
        await store.commit(step(1, consumed=["1"], own_consumed=["2", "never"]))
        for id in ("1", "2"):
            await store.put_signal("run", Signal(id, "go"))
            await store.put_signal("run", Signal(id, "go", own=True))

        found = await store.signals("run")
        assert sorted(found.waiting) == [Signal("1", "go", own=True), Signal("2", "go")]
        assert [list(each) for each in found[1:]] == [["1"], ["2"], []]
        await raised(ConflictError, store.commit(step(2, token=9, own_consumed=["1"])))
        assert await store.next_signal("run", "go", True) == Signal("1", "go", own=True)

    @clause
    async def test_signals_to_a_wait_are_apart(self, store: StoreBackend) -> None:
        """Signals to different waits, and to any, have ids of their own; no id looks like one with an address."""
        sent = [
            *(Signal("1", "go", value(store, to), to=to) for to in (1, None, 0, 2**53 - 1)),
            Signal("1", "go", value(store, "own"), own=True),
            *(Signal(f"\0wait {to} 1", "go", value(store, ["any", to])) for to in (1, 2)),
            Signal("2 1", "go", value(store, "one"), to=1), Signal("1", "other", value(store, "other"), to=12),
        ]  # fmt: skip
        await store.create(new_run())
        for run_id in ("run", "unborn"):
            for signal in (*sent, *sent):
                await store.put_signal(run_id, signal)
            assert _listed(await store.signals(run_id)) == Signals.of(sent, [])
            assert await store.next_signal(run_id, "go") == sent[0]

        await store.commit(note(0, consumed=["\0wait 1 1"]))
        left = [signal for signal in sent if signal.id != "\0wait 1 1"]
        assert _listed(await store.signals("run")) == Signals.of(left, [(False, None, "\0wait 1 1")])
        if isinstance(store, LimitingStore):
            assert await store.put_signal_within("run", sent[0], 0), "this signal is there"
            assert not await store.put_signal_within("run", Signal("1", "go", to=7), len(left) - 1)
            assert await store.put_signal_within("run", Signal("1", "go", to=7), len(left))
            left.append(Signal("1", "go", to=7))
        if isinstance(store, RewritingStore):
            left[0] = left[0]._replace(payload=value(store, "new"))
            await store.rewrite_signals("run", left[:1])
        assert list((await store.signals("run")).waiting) == left

    @clause
    async def test_signals_to_a_wait_are_consumed_apart(self, store: StoreBackend) -> None:
        """`answered` consumes signals to these waits, and no others; a second signal to the same is ignored then."""
        await store.create(new_run())
        sent = [Signal(id, "go", to=to) for id in ("1", "2") for to in (None, 1, 2)]
        for signal in sent:
            await store.put_signal("run", signal)
        await raised(ConflictError, store.commit(step(1, token=9, answered=[(1, "2")])))
        await store.commit(step(1, answered=[(2, "1"), (7, "1"), (1, "never")]))
        await store.commit(step(2, consumed=["2"], answered=[(1, "2")], own_consumed=["1"]))
        for signal in sent:
            await store.put_signal("run", signal)

        found = await store.signals("run")
        assert list(found.waiting) == [sent[0], sent[1], sent[5]]
        assert (list(found.consumed), list(found.own_consumed)) == (["2"], [])
        assert sorted(found.answered) == [(1, "2"), (2, "1")]
        if await deleted(store):
            await store.create(new_run())
            assert _listed(await store.signals("run")) == Signals.of([], [])

    @clause
    async def test_signals_to_a_wait_wake_a_run(self, store: StoreBackend) -> None:
        """A run that waits for a signal is ready for one to any wait: whether it ends this one, its kernel sees."""
        wait = Wait(then="B", signal="go")
        await store.create(new_run())
        await store.commit(note(0, status=RunStatus.PARKED, wait=wait, release=True))
        await store.put_signal("run", Signal("1", "go", to=3))
        assert [run.run_id for run in await store.ready(NOW)] == ["run"]
        assert await store.next_signal("run", "go") == Signal("1", "go", to=3)

    @clause
    async def test_only_its_kind_of_signal_wakes_a_run(self, store: StoreBackend) -> None:
        """A run that waits for a signal of the engine's own is not ready for a user's; and the other way round."""
        for run_id, own in (("engine", True), ("user", False)):
            await store.create(new_run(run_id))
            wait = Wait(then="B", signal="go", own=own)
            await store.commit(note(0, run_id, status=RunStatus.PARKED, wait=wait, release=True))
            assert (await loaded(store, run_id)).wait == wait
            await store.put_signal(run_id, Signal("1", "go", own=not own))
        assert await store.ready(LATER) == []

        await store.put_signal("engine", Signal("1", "go", own=True))
        assert [run.run_id for run in await store.ready(LATER)] == ["engine"]
        await store.put_signal("user", Signal("1", "go"))
        assert sorted(run.run_id for run in await store.ready(LATER)) == ["engine", "user"]

    @clause
    async def test_early_signals_of_the_engine_wake_a_run(self, store: StoreBackend) -> None:
        """A run is created parked for a signal of the engine's own that came before it."""
        await store.put_signal("run", Signal("1", "go", own=True))
        assert list(await store.missing_recipients()) == ["run"]
        await store.create(free_run(status=RunStatus.PARKED, wait=Wait(then="B", signal="go", own=True)))
        assert [run.run_id for run in await store.ready(NOW)] == ["run"]

    @clause
    async def test_deleting_forgets_what_is_the_engines(self, store: StoreBackend) -> None:
        """A run created with a deleted id has no value and no signal of the engine's own from the old one."""
        await store.create(new_run(own=values(store, a=1)))
        for id in ("1", "2"):
            await store.put_signal("run", Signal(id, "go", own=True))
        await store.commit(note(0, own_consumed=["1"]))
        if not await deleted(store):
            return
        await store.create(new_run())

        assert await loaded(store) == new_run()
        assert await store.next_signal("run", "go", True) is None
        assert [list(each) for each in await store.signals("run")] == [[], [], [], []]
