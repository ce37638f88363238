"""The store contract: slots of limits, and rates, for all processes."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Sequence
from typing import Any

from cano.errors import ConflictError
from cano.protocols import StoreBackend
from cano.records import RunStatus, Wait
from cano.slots import HeldSlot, SlotRequest, SlotStore, WantedSlot
from cano.testing.contract_base import LATER, NOW, Contract, clause, deleted, free_run, new_run, raised, step

POOL, KEYED, CALLS = WantedSlot("pool", 2), WantedSlot("of tenant[é]", 1), WantedSlot("calls", 2, 10.0)


class SlotClauses(Contract):
    """A store with `capabilities.slots` is a `SlotStore`; others have no `take_slots`."""

    @clause
    async def test_a_limit_has_as_many_slots_as_it_says(self, store: StoreBackend) -> None:
        """As many runs hold slots as the limit has, each once; the others wait, and the list shows both."""
        name = "slots and take_slots go together"
        assert isinstance(store, SlotStore) == store.capabilities.slots, name
        if not isinstance(store, SlotStore):
            return
        await _create(store, "a", "b", "c", "d")
        taken = [await _take(store, run_id, POOL, since=NOW + at) for at, run_id in enumerate("abacbd")]
        assert taken == [0.0, 0.0, 0.0, math.inf, 0.0, math.inf]
        assert await _take(store, "c", KEYED) == 0.0, "each limit has slots of its own"
        assert await store.slots(["pool"]) == [
            HeldSlot("pool", 2, "a", NOW), HeldSlot("pool", 2, "b", NOW),
            HeldSlot("pool", 2, "c", NOW + 3, True), HeldSlot("pool", 2, "d", NOW + 5, True),
        ]  # fmt: skip
        every = await store.slots()
        assert [slot.name for slot in every] == ["of tenant[é]", "pool", "pool", "pool", "pool"]
        assert await store.slots(["nothing"]) == []
        assert list(await store.slots([])) == []

    @clause
    async def test_calls_at_once_take_no_slot_twice(self, store: StoreBackend) -> None:
        """Of many runs that ask at the same moment, exactly as many get slots as there are."""
        if not isinstance(store, SlotStore):
            return
        run_ids = [f"{number:02}" for number in range(20)]
        await _create(store, *run_ids)
        wide = WantedSlot("wide", 7)
        answers = await asyncio.gather(*(_take(store, run_id, wide) for run_id in run_ids))
        assert sorted(answers) == [0.0] * 7 + [math.inf] * 13
        assert await _holders(store, "wide") == {
            run_id for run_id, answer in zip(run_ids, answers, strict=True) if answer == 0.0
        }

    @clause
    async def test_slots_are_given_back(self, store: StoreBackend) -> None:
        """A slot that is given back is free at once. Only the run's present holder gives it, and only what it names."""
        if not isinstance(store, SlotStore):
            return
        await _create(store, "a", "b", "c")
        assert await _take(store, "a", POOL, KEYED) == 0.0
        assert await _take(store, "b", KEYED) == math.inf
        await store.give_slots("a", 7, ["of tenant[é]"])
        assert await _take(store, "b", KEYED) == math.inf, "the token was another one"
        await store.give_slots("c", 1, ["of tenant[é]"])
        assert await _take(store, "b", KEYED) == math.inf, "another run gave what it did not have"
        await store.give_slots("a", 1, ["of tenant[é]", "nothing"])
        assert await _holders(store, "pool") == {"a"}
        assert await _take(store, "c", KEYED, since=NOW + 1) == math.inf, "b waits longer"
        assert await _take(store, "b", KEYED) == 0.0
        await store.give_slots("c", 1, ["of tenant[é]"])
        assert [slot.run_id for slot in await store.slots(["of tenant[é]"])] == ["b"], "c no longer waits"

    @clause
    async def test_ends_waits_and_moves_free_slots(self, store: StoreBackend) -> None:
        """The commit that ends, parks or moves on a run frees its slots, and so do release and delete."""
        if not isinstance(store, SlotStore):
            return
        one = WantedSlot("one", 1)
        await _create(store, "ends", "parks", "moves", "stays", "is released", "is deleted", "last")
        over: dict[str, Any] = {"release": True, "status": RunStatus.SUCCEEDED}
        parked: dict[str, Any] = {"release": True, "status": RunStatus.PARKED, "wait": Wait("S1", "go")}
        for run_id, fields in (("ends", over), ("parks", parked), ("moves", {})):
            assert await _take(store, run_id, one, seq=0) == 0.0
            await store.commit(step(1, run_id, **fields))
            assert await store.slots() == [], f"{run_id} holds a slot"
        assert await _take(store, "stays", one) == 0.0
        await store.commit(step(1, "stays"))
        assert await _holders(store, "one") == {"stays"}, "this slot is not for one step only"
        await store.commit(step(2, "stays", **over))
        assert await _take(store, "is released", one) == 0.0
        await store.release("is released", 1)
        assert await store.slots() == []
        assert await _take(store, "is deleted", one) == 0.0
        if not await deleted(store, "is deleted"):
            await store.release("is deleted", 1)
        assert await _take(store, "last", one) == 0.0

    @clause
    async def test_a_claimed_run_keeps_its_own_slot(self, store: StoreBackend) -> None:
        """A run that is claimed again takes its own slot over, with the new token; until then it counts as free."""
        if not isinstance(store, SlotStore):
            return
        one = WantedSlot("one", 1)
        await _create(store, "a", "b")
        assert await _take(store, "a", one, seq=0) == 0.0
        assert await store.claim("a", "you", LATER + 1, LATER + 30) == 2
        assert await store.slots() == []
        await raised(ConflictError, _take(store, "a", one, seq=0))
        assert await _take(store, "a", one, token=2, seq=0, now=LATER + 1) == 0.0
        assert await _take(store, "b", one, now=LATER + 1) == math.inf
        await store.give_slots("a", 1, ["one"])
        assert await _holders(store, "one") == {"a"}, "the last holder gave back what is no longer its own"
        await store.release("a", 2)
        assert await store.claim("b", "you", LATER + 1, LATER + 30) == 2
        assert await _take(store, "b", one, token=2, now=LATER + 1) == 0.0
        assert await store.claim("a", "me", LATER + 1, LATER + 30) == 3
        assert await _take(store, "a", one, token=3, now=LATER + 1) == math.inf, "another run has taken it"
        await raised(ConflictError, _take(store, "a", one, token=3, seq=1))
        await raised(ConflictError, _take(store, "unknown", one))
        await store.release("a", 3)
        await raised(ConflictError, _take(store, "a", one, token=3))

    @clause
    async def test_the_dead_give_slots_back(self, store: StoreBackend) -> None:
        """A run whose lease has expired holds nothing, once another asks: its last holder can commit no more."""
        if not isinstance(store, SlotStore):
            return
        one = WantedSlot("one", 1)
        await store.create(new_run("dead", expires=NOW + 5))
        await store.create(new_run("dead, too", expires=NOW + 5))
        await _create(store, "b")
        assert await _take(store, "dead", one) == 0.0
        assert await _take(store, "b", one, now=NOW + 5) == math.inf, "its lease ends now"
        assert await _take(store, "b", one, now=NOW + 6) == 0.0
        await raised(ConflictError, store.commit(step(1, "dead")))
        assert await store.renew("me", {"dead": 1, "dead, too": 1}, LATER) == ["dead"], "it has no slot of this limit"
        assert await store.claim("dead", "you", NOW + 6, LATER) is not None, "the run itself continues"

    @clause
    async def test_several_slots_are_taken_together(self, store: StoreBackend) -> None:
        """A run gets all slots that it asks for, or none, and waits for the first limit that is full."""
        if not isinstance(store, SlotStore):
            return
        one, two = WantedSlot("one", 1), WantedSlot("two", 1)
        await _create(store, "a", "b", "c")
        assert await _take(store, "a", two) == 0.0
        assert await _take(store, "b", one, two) == math.inf
        assert await _holders(store, "one") == set()
        assert [(slot.name, slot.run_id) for slot in await store.slots() if slot.waits] == [("two", "b")]
        assert await _take(store, "c", one, since=NOW + 1) == 0.0, "a run that waits for two holds up no other"
        await store.give_slots("a", 1, ["two"])
        assert await _take(store, "b", one, two) == math.inf
        assert await _holders(store, "two") == set()
        await store.give_slots("c", 1, ["one"])
        assert await _take(store, "b", one, two) == 0.0

    @clause
    async def test_the_size_of_a_limit_can_change(self, store: StoreBackend) -> None:
        """The size is that of the call: a smaller one takes nothing away, and grants none before it is met."""
        if not isinstance(store, SlotStore):
            return
        await _create(store, "a", "b", "c", "d")
        for run_id in "abc":
            assert await _take(store, run_id, WantedSlot("pool", 3)) == 0.0
        assert await _take(store, "d", POOL) == math.inf
        await store.give_slots("a", 1, ["pool"])
        assert await _take(store, "d", POOL) == math.inf
        assert await _take(store, "d", WantedSlot("pool", 4)) == 0.0
        assert {slot.run_id: slot.size for slot in await store.slots()} == {"b": 3, "c": 3, "d": 4}

    @clause
    async def test_a_slot_is_lent_to_one_run(self, store: StoreBackend) -> None:
        """A run may use the slot of one that waits for it, one at a time; the two count as one slot."""
        if not isinstance(store, SlotStore):
            return
        one = WantedSlot("one", 1)
        await _create(store, "parent", "child", "other", "child of child")
        assert await _take(store, "parent", one, seq=0) == 0.0
        assert await _take(store, "child", one, lenders=["unknown"]) == math.inf
        assert await _take(store, "child", one, lenders=["unknown", "parent"]) == 0.0
        assert await _holders(store, "one") == {"parent", "child"}
        assert await _take(store, "other", one, lenders=["parent"], since=NOW + 1) == math.inf, "it is lent"
        assert await _take(store, "child of child", one, lenders=["child", "parent"]) == 0.0
        await store.give_slots("child of child", 1, ["one"])
        await store.commit(step(1, "parent"))
        assert await _take(store, "other", one, since=NOW + 1) == math.inf, "the child keeps the slot"
        assert await _take(store, "parent", one, seq=1, since=NOW + 2) == math.inf, "it has no slot but that"
        await store.give_slots("child", 1, ["one"])
        assert await _take(store, "other", one, since=NOW + 1) == 0.0

    @clause
    async def test_a_rate_allows_so_many_starts(self, store: StoreBackend) -> None:
        """A rate allows a burst after a pause, then a start per interval; the answer says when to ask again."""
        if not isinstance(store, SlotStore):
            return
        await _create(store, "a", "b", "c", "d", "e")

        async def start(run_id: str, at: float, *others: WantedSlot, **fields: Any) -> float:
            return await _take(store, run_id, *others, CALLS, at=at, **fields)

        assert [await start(run_id, NOW) for run_id in "ab"] == [0.0, 0.0]
        assert math.isclose(await start("c", NOW), 10.0)
        assert math.isclose(await start("d", NOW + 1, since=NOW + 1), 19.0), "c goes first"
        assert [slot.run_id for slot in await store.slots(["calls"]) if slot.waits] == ["c", "d"]
        assert math.isclose(await start("c", NOW + 9), 1.0)
        assert await start("c", NOW + 10) == 0.0
        assert [slot.run_id for slot in await store.slots(["calls"])] == ["d"], "a rate has no slots to hold"
        assert await start("d", NOW + 21, since=NOW + 1) == 0.0
        assert math.isclose(await start("a", NOW + 21), 9.0)
        assert [await start(run_id, NOW + 1000) for run_id in "abc"][:2] == [0.0, 0.0], "no more than a burst is saved"
        await store.give_slots("c", 1, ["calls"])
        assert math.isclose(await start("a", NOW + 900), 10.0), (
            "a clock that was set back delays a start by an interval"
        )
        await store.give_slots("a", 1, ["calls"])
        one = WantedSlot("one", 1)
        assert await _take(store, "d", one) == 0.0
        assert await start("e", NOW + 2000, one) == math.inf
        assert [await start(run_id, NOW + 2000) for run_id in "ab"] == [0.0, 0.0], "a run without a slot starts nothing"
        assert await _take(store, "e", WantedSlot("by its clock", 1, 1e6)) == 0.0
        assert 1e5 < await _take(store, "a", WantedSlot("by its clock", 1, 1e6)) <= 1e6

    @clause
    async def test_a_rate_can_change(self, store: StoreBackend) -> None:
        """A rate that was lower, or a clock that was set back, delays the next start by one interval only."""
        if not isinstance(store, SlotStore):
            return
        await _create(store, "a", "b", "c", "d")
        slow = WantedSlot("calls", 2, 1000.0)
        assert [await _take(store, run_id, slow, at=NOW) for run_id in "ab"] == [0.0, 0.0]
        assert math.isclose(await _take(store, "c", CALLS, at=NOW), 10.0)
        assert math.isclose(await _take(store, "c", CALLS, at=NOW + 4), 6.0)
        assert await _take(store, "c", CALLS, at=NOW + 10) == 0.0
        assert math.isclose(await _take(store, "d", CALLS, at=NOW - 1000), 10.0)
        assert await _take(store, "d", CALLS, at=NOW - 990) == 0.0

    @clause
    async def test_limits_hold_whatever_happens(self, store: StoreBackend) -> None:
        """Whatever order runs ask, move on, end, lose their leases and are claimed in: never too many hold a slot.

        What a run's holder was given and has not lost counts, as a body would that is being executed.
        """
        if not isinstance(store, SlotStore):
            return
        chance, now, names = random.Random(18), NOW, [POOL, WantedSlot("three", 3)]
        run_ids = [f"run {number}" for number in range(8)]
        for run_id in run_ids:
            await store.create(free_run(run_id))
        tokens, seqs = dict.fromkeys(run_ids, 0), dict.fromkeys(run_ids, 0)
        bodies: dict[str, Sequence[WantedSlot]] = {}  # what runs hold, as their holders know it

        async def act(run_id: str, do: float) -> None:
            nonlocal now
            wanted = chance.sample(names, chance.choice([1, 2]))
            if do < 0.15 or not tokens[run_id]:  # its holder was killed, and another claims the run; or the first one
                now += 0.01
                ended = now if tokens[run_id] else NOW
                if tokens[run_id]:
                    await store.release(run_id, tokens[run_id])
                bodies.pop(run_id, None)
                tokens[run_id] = await store.claim(run_id, f"holder {now}", ended, LATER * 2) or 0
            elif do < 0.4 and run_id in bodies:
                await store.give_slots(run_id, tokens[run_id], [each.name for each in bodies.pop(run_id)])
            elif do < 0.6:
                bodies.pop(run_id, None)
                seqs[run_id] += 1
                await store.commit(step(seqs[run_id], run_id, token=tokens[run_id]))
            elif run_id not in bodies:
                request = SlotRequest(run_id, tokens[run_id], seqs[run_id], wanted, now)
                if await store.take_slots(request, now) == 0.0:
                    bodies[run_id] = wanted

        for _ in range(80):
            some = chance.sample(run_ids, 3)
            await asyncio.gather(*(act(run_id, chance.random()) for run_id in some))
            for limit in names:
                holding = {run_id for run_id, held in bodies.items() if limit in held}
                assert len(holding) <= limit.size, f"{holding} hold {limit}"
                assert holding == await _holders(store, limit.name)
        for run_id, token in tokens.items():
            await store.release(run_id, token)
        assert await store.slots() == [], "nothing is left"


async def _create(store: StoreBackend, *run_ids: str) -> None:
    for run_id in run_ids:
        await store.create(new_run(run_id))


async def _take(
    store: SlotStore,
    run_id: str,
    *wanted: WantedSlot,
    token: int = 1,
    seq: int | None = None,
    since: float = NOW,
    now: float = NOW,
    at: float | None = None,
    lenders: Sequence[str] = (),
) -> float:
    return await store.take_slots(SlotRequest(run_id, token, seq, wanted, since, lenders), now, at)


async def _holders(store: SlotStore, name: str) -> set[str]:
    return {slot.run_id for slot in await store.slots([name]) if not slot.waits}
