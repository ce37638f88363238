"""The slots of limits, and the times of rates, in dicts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cano import ConflictError, HeldSlot, RunRecord, SlotRequest

CLOSE_TO = 1e-6
"""Seconds that a start may be too early: sums of floats are not exact."""


class _Place(NamedTuple):
    """A run's slot of a limit, or its request for one. See `SlotStore`."""

    token: int
    seq: int | None
    size: int
    since: float
    waits: bool
    lender: str | None = None


class Slots:
    """The slots and rates of a store. Called with its lock held, and with its runs."""

    def __init__(self) -> None:
        self._places: dict[str, dict[str, _Place]] = {}  # by limit, then by run id
        self._rates: dict[str, float] = {}  # the next time of each rate

    def take(self, request: SlotRequest, runs: dict[str, RunRecord], now: float, at: float) -> float:
        """Take all slots that are wanted, or none. See `SlotStore.take_slots`."""
        run_id, seconds, blocked, lenders = request.run_id, 0.0, "", dict[str, str | None]()
        run = runs[run_id]
        if run.holder is None or request.seq not in (None, run.seq):
            raise ConflictError(f"the run {run_id!r} has moved on, or has no holder", run_id=run_id)
        for name, size, interval in request.wanted:
            places = self._current(name, request, runs, now)
            if _is_slot(places.get(run_id)):
                continue
            others = {id: place for id, place in places.items() if id != run_id}
            ahead = sum(place.waits and (place.since, id) < (request.since, run_id) for id, place in others.items())
            if interval:
                if name in self._rates:
                    self._rates[name] = min(self._rates[name], at + size * interval)
                wait = max(self._rates.get(name, at), at) - at + (ahead - size + 1) * interval
                wait = wait if wait > CLOSE_TO else 0.0
            else:
                lent = {place.lender for place in others.values()}
                lenders[name] = next(
                    (id for id in request.lenders if id not in lent and _is_slot(others.get(id))), None
                )
                used = sum(not place.waits and place.lender is None for place in others.values())
                wait = 0.0 if lenders[name] is not None or used + ahead < size else math.inf
            seconds, blocked = max(seconds, wait), blocked or name * (wait > 0)
        for name, size, interval in request.wanted:
            places = self._places.setdefault(name, {})
            mine = places.pop(run_id, None)
            if blocked == name:
                places[run_id] = _Place(request.token, request.seq, size, request.since, True)
            elif not blocked and interval:
                self._rates[name] = max(self._rates.get(name, at), at) + interval
            elif not blocked:
                new = _Place(request.token, request.seq, size, now, False, lenders.get(name))
                places[run_id] = mine if mine is not None and not mine.waits else new
            self._drop_unused(name, at)
        return seconds

    def _current(self, name: str, request: SlotRequest, runs: dict[str, RunRecord], now: float) -> dict[str, _Place]:
        """Return the places of a limit that count. The run that asks keeps its own with a new token."""
        places = self._places.get(name, {})
        for run_id, place in list(places.items()):
            run = runs.get(run_id)
            if run_id == request.run_id:
                places[run_id] = place._replace(token=request.token, seq=request.seq)
                continue
            if run is not None and _counts(place, run) and run.expires is not None and run.expires < now:
                run = runs[run_id] = run._replace(holder=None, expires=None, token=run.token + 1)
            if not _counts(place, run):
                del places[run_id]
        for run_id, place in places.items():
            if place.lender is not None and not _is_slot(places.get(place.lender)):
                places[run_id] = place._replace(lender=None)
        return places

    def give(self, run_id: str, token: int, names: Sequence[str]) -> None:
        """Give back a run's slots of these limits. See `SlotStore.give_slots`."""
        for name in names:
            places = self._places.get(name, {})
            if (place := places.get(run_id)) is not None and place.token == token:
                del places[run_id]
            self._drop_unused(name, -math.inf)

    def listed(self, names: Sequence[str] | None, runs: dict[str, RunRecord]) -> list[HeldSlot]:
        """Return slots and requests. See `SlotStore.slots`."""
        found = [
            HeldSlot(name, place.size, run_id, place.since, place.waits)
            for name in (self._places if names is None else names)
            for run_id, place in self._places.get(name, {}).items()
            if _counts(place, runs.get(run_id))
        ]
        return sorted(found, key=lambda slot: (slot.name, slot.waits, slot.since, slot.run_id))

    def _drop_unused(self, name: str, at: float) -> None:
        """Delete a value that no run uses."""
        if not self._places.get(name, True):
            del self._places[name]
        if self._rates.get(name, math.inf) <= at:
            del self._rates[name]


def _counts(place: _Place, run: RunRecord | None) -> bool:
    """Return whether a place is valid. It does not become valid again: tokens and numbers only rise."""
    if run is None or run.holder is None:
        return False
    return place.token == run.token and place.seq in (None, run.seq)


def _is_slot(place: _Place | None) -> bool:
    return place is not None and not place.waits
