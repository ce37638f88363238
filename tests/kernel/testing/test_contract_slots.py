"""The contract of stores with slots: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cano import CanoError, SlotRequest
from cano.testing.contract_slots import SlotClauses
from cano_memory import MemoryBackend

from tests.kernel.testing.test_contract import Methods, OnStore, broken, keep, known, nothing, then

CLAUSES = sorted(name for name in dir(SlotClauses) if name.startswith("test_"))


class Admitting(MemoryBackend):
    """A store of bytes, which keeps slots."""

    def __init__(self) -> None:
        super().__init__(strict=True)


def asking(change: Callable[[Any, SlotRequest, float, float | None], Any]) -> Methods:
    """A store that changes a request, and the times, before it looks at it."""

    async def take_slots(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
        return await honest(*change(store, request, now, at))

    return {"take_slots": take_slots}


async def counting_first(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Count the slots, let others do the same, and then take one, whatever the count is by now."""
    wanted = []
    for each in request.wanted:
        held = [slot for slot in await store.slots([each.name]) if not slot.waits and slot.run_id != request.run_id]
        wanted.append(each._replace(size=each.size + (len(held) < each.size) * 100 * (not each.interval)))
    await asyncio.sleep(0)
    return await honest(request._replace(wanted=wanted), now, at)


async def one_by_one(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Take what there is of several."""
    answers = [await honest(request._replace(wanted=[each]), now, at) for each in request.wanted]
    return max(answers)


async def by_the_list(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Grant what is full, without a place of its own."""
    await honest(request, now, at)
    return 0.0


async def of_any_holder(store: Any, honest: Any, run_id: str, token: int, names: Any) -> Any:
    """Give back for every token."""
    places = [store._slots._places.get(name, {}).get(run_id) for name in names]
    await honest(run_id, next((place.token for place in places if place), token), names)


async def all_of_them(store: Any, honest: Any, run_id: str, token: int, names: Any) -> Any:
    """Give back whatever the run holds."""
    await honest(run_id, token, list(store._slots._places))


async def of_everyone(store: Any, honest: Any, run_id: str, token: int, names: Any) -> Any:
    """Give back what others hold."""
    for name in names:
        store._slots._places.pop(name, None)


async def for_ever(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Keep a step's slots after the step."""
    answer = await honest(request, now, at)
    for each in request.wanted:
        places = store._slots._places.get(each.name, {})
        if request.run_id in places:
            places[request.run_id] = places[request.run_id]._replace(seq=None)
    return answer


def valid_for_ever(store: Any, honest: Any, run_id: str, token: int) -> Any:
    """Leave the holder of a run that was released while it has slots."""
    held = any(run_id in places for places in store._slots._places.values())
    return nothing(keep(store, run_id, token=token)) if held else honest(run_id, token)


def fenced(store: Any, request: SlotRequest, now: float, at: float | None) -> Any:
    """A request with the run's token and number, whatever the caller's are."""
    run = known(store, request.run_id)
    return request._replace(token=run.token, seq=None if request.seq is None else run.seq), now, at


async def forgetful(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Keep the times of rates if the run has to wait."""
    before = dict(store._slots._rates)
    answer = await honest(request, now, at)
    if answer > 0:
        store._slots._rates.update(before)
    return answer


async def unfenced(store: Any, honest: Any, request: SlotRequest, now: float, at: float | None = None) -> Any:
    """Take slots from the dead, but leave them their token."""
    before = {run_id: run.token for run_id, run in store._runs.items()}
    answer = await honest(request, now, at)
    for run_id, token in before.items():
        keep(store, run_id, token=token)
    return answer


MUTANTS: dict[str, tuple[Methods, str]] = {
    "has one slot more": (
        asking(lambda s, r, now, at: (
            r._replace(wanted=[each._replace(size=each.size + 1) for each in r.wanted]), now, at)),
        "a_limit_has_as_many_slots_as_it_says calls_at_once_take_no_slot_twice limits_hold_whatever_happens "
        "a_rate_allows_so_many_starts the_size_of_a_limit_can_change"),
    "grants what is full": (
        {"take_slots": by_the_list}, "a_limit_has_as_many_slots_as_it_says calls_at_once_take_no_slot_twice"),
    "counts first and takes later": (
        {"take_slots": counting_first}, "calls_at_once_take_no_slot_twice limits_hold_whatever_happens"),
    "takes some of several": (
        {"take_slots": one_by_one}, "several_slots_are_taken_together limits_hold_whatever_happens"),
    "lets the last come first": (
        asking(lambda s, r, now, at: (r._replace(since=-r.since), now, at)),
        "slots_are_given_back a_rate_allows_so_many_starts"),
    "gives back what another holds": (
        {"give_slots": of_everyone}, "slots_are_given_back"),
    "gives back for every holder": (
        {"give_slots": of_any_holder}, "slots_are_given_back a_claimed_run_keeps_its_own_slot"),
    "gives back everything": ({"give_slots": all_of_them}, "slots_are_given_back"),
    "gives nothing back": (
        {"give_slots": lambda s, honest, *given: nothing(None)},
        "slots_are_given_back several_slots_are_taken_together limits_hold_whatever_happens"),
    "keeps the slots of a step": (
        {"take_slots": for_ever}, "ends_waits_and_moves_free_slots limits_hold_whatever_happens"),
    "keeps the slots of released runs": ({"release": valid_for_ever}, "ends_waits_and_moves_free_slots"),
    "frees all slots with each step": (
        asking(lambda s, r, now, at: (r._replace(seq=known(s, r.run_id).seq), now, at)),
        "ends_waits_and_moves_free_slots"),
    "lets any holder take": (
        asking(fenced), "a_claimed_run_keeps_its_own_slot"),
    "forgets slots at a claim": (
        {"claim": lambda s, honest, run_id, *given: then(honest(run_id, *given), lambda token: (
            [places.pop(run_id, None) for places in s._slots._places.values()], token)[1])
         if known(s, run_id).token == 1 and s._slots._places.get("one") else honest(run_id, *given),
         "take_slots": lambda s, honest, r, now, at=None: (
             honest(r, now, at) if r.token == 1 or r.run_id != "a" else honest(r._replace(token=1), now, at))},
        "a_claimed_run_keeps_its_own_slot"),
    "never frees the slots of the dead": (
        asking(lambda s, r, now, at: (r, -math.inf, at)), "the_dead_give_slots_back"),
    "frees slots at the end of a lease": (
        asking(lambda s, r, now, at: (r, now + 0.5, at)), "the_dead_give_slots_back"),
    "lets the dead commit": ({"take_slots": unfenced}, "the_dead_give_slots_back"),
    "lends nothing": (
        asking(lambda s, r, now, at: (r._replace(lenders=()), now, at)), "a_slot_is_lent_to_one_run"),
    "lends to everyone": (
        asking(lambda s, r, now, at: (
            r._replace(wanted=[each._replace(size=9) for each in r.wanted]) if r.lenders else r, now, at)),
        "a_slot_is_lent_to_one_run"),
    "has no rates": (
        asking(lambda s, r, now, at: (
            r._replace(wanted=[each for each in r.wanted if not each.interval]), now, at)),
        "a_rate_allows_so_many_starts"),
    "spaces rates evenly": (
        asking(lambda s, r, now, at: (
            r._replace(wanted=[each._replace(size=1) if each.interval else each for each in r.wanted]), now, at)),
        "a_rate_allows_so_many_starts"),
    "keeps the time of a lower rate": ({"take_slots": forgetful}, "a_rate_can_change"),
    "has a clock of its own": (
        asking(lambda s, r, now, at: (r, now, None)), "a_rate_allows_so_many_starts"),
    "lists no one who waits": (
        {"slots": lambda s, honest, *given: then(honest(*given), lambda some: [one for one in some if not one.waits])},
        "a_limit_has_as_many_slots_as_it_says"),
    "lists everything": (
        {"slots": lambda s, honest, names=None: honest()}, "a_limit_has_as_many_slots_as_it_says"),
}  # fmt: skip
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause."""
    getattr(OnStore(Admitting), clause)(tmp_path)


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause."""
    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(OnStore(broken(Admitting, **MUTANTS[mutant][0])), clause)(tmp_path)
    assert str(failed.value)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    assert sorted({clause for _, clause in PAIRS}) == CLAUSES
