"""The decision on a request for slots, for stores that read the places of its limits and decide in Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import LiteralString, NamedTuple

from cano import SlotRequest

CLOSE_TO = 1e-6
"""Seconds that a start may be too early: sums of floats are not exact."""
TOLD = 3
"""The most waiting runs of a limit that are notified of a free slot."""
VALID: LiteralString = """runs.run_id = slots.run_id AND runs.token = slots.token AND runs.holder IS NOT NULL
    AND (slots.seq IS NULL OR slots.seq = runs.seq)"""
"""The SQL condition on a place that counts, and its run."""


class Place(NamedTuple):
    """A run's slot of a limit, or its request for one, that counts.

    Attributes:
        since: wall-clock seconds.
        waits: whether it is a request.
        lender: the run whose slot it uses, if that has one; or None.
    """

    since: float
    waits: bool
    lender: str | None


class Decision(NamedTuple):
    """The answer to a request.

    Attributes:
        seconds: 0.0 if all is free; otherwise the seconds after which to ask again.
        blocked: the first limit that is full, for which the run waits; "" if all is free.
        lenders: the lender of each slot to take, or None; without those that the run holds already.
        rates: the next time of each rate, after the start. Both are empty if the run waits.
    """

    seconds: float
    blocked: str
    lenders: Mapping[str, str | None]
    rates: Mapping[str, float]


def decide(
    request: SlotRequest, places: Mapping[str, Mapping[str, Place]], rates: Mapping[str, float], at: float
) -> Decision:
    """Decide on a request. See `SlotStore.take_slots`.

    Args:
        request: the request.
        places: the places of each limit that count, by run id. The request's own have its token and `seq`.
        rates: the next times of those rates that are known.
        at: the time for rates, in wall-clock seconds.
    """
    seconds, blocked, mine = 0.0, "", (request.since, request.run_id)
    lenders, next_times = dict[str, str | None](), dict[str, float]()
    for name, size, interval in request.wanted:
        others = {id: place for id, place in places[name].items() if id != request.run_id}
        own = places[name].get(request.run_id)
        ahead = sum(place.waits and (place.since, id) < mine for id, place in others.items())
        if interval:
            next_at = max(rates.get(name, at), at)
            wait = next_at - at + (ahead - size + 1) * interval
            wait = wait if wait > CLOSE_TO else 0.0
            next_times[name] = next_at + interval
        elif own is not None and not own.waits:
            continue
        else:
            lent = {place.lender for place in others.values()}
            holders = {id for id, place in others.items() if not place.waits}
            lenders[name] = next((id for id in request.lenders if id in holders and id not in lent), None)
            used = sum(not place.waits and place.lender is None for place in others.values())
            wait = 0.0 if lenders[name] is not None or used + ahead < size else math.inf
        seconds, blocked = max(seconds, wait), blocked or name * (wait > 0)
    if blocked:
        return Decision(seconds, blocked, {}, {})
    return Decision(seconds, blocked, lenders, next_times)
