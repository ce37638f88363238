"""Limits that hold over all processes of a store: what a kernel asks for, and `SlotStore`, which decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from cano.protocols import StoreBackend


class WantedSlot(NamedTuple):
    """A slot of a limit, or a start of a rate, that a run asks for.

    Attributes:
        name: the limit's name, with the value of its key in brackets if it has one. It has no NUL.
        size: the number of slots; of a rate, how many runs may start at once after a pause.
        interval: seconds between two starts of a rate; 0 for a limit.
    """

    name: str
    size: int
    interval: float = 0.0


class SlotRequest(NamedTuple):
    """A run's request for slots.

    Attributes:
        run_id, token: the run, and its fencing token.
        seq: the run's `seq`, if the slots are for its present step only; None if they are for as long as it is held.
        wanted: what it asks for, each name once.
        since: wall-clock seconds when the run first asked for it.
        lenders: ids of the runs that wait for this one. It may use a slot that one of them holds.
    """

    run_id: str
    token: int
    seq: int | None
    wanted: Sequence[WantedSlot]
    since: float
    lenders: Sequence[str] = ()


class HeldSlot(NamedTuple):
    """A slot that a run holds, or waits for.

    Attributes:
        name, size: the limit, and its number of slots as this run knows it.
        run_id: the run.
        since: wall-clock seconds since when it holds the slot, or waits for it.
        waits: whether it waits.
    """

    name: str
    size: int
    run_id: str
    since: float
    waits: bool = False


@runtime_checkable
class SlotStore(StoreBackend, Protocol):
    """A store that keeps the slots of limits, and the times of rates, for all processes.

    A slot belongs to a run. It is valid while the run has a holder and the token that it had, and, with a `seq`, that
    `seq`: so the commit that ends, parks or moves the run frees it, and so does `release`, `claim` or `delete`. None
    of these needs to know of slots. A slot that is not valid counts as free, and none becomes valid again.
    """

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        """Take all slots that are wanted, or none. Return 0.0 if they are taken.

        Otherwise return the seconds after which to ask again, `math.inf` if no time is known; the request then waits,
        and goes before later ones (by `since`, then by id) for the first of its limits that had no slot for it. It no
        longer waits once its run takes it, gives it back, or could not hold a slot.

        - A slot that the run holds already stays its own, also with a new token or `seq`.
        - A run whose lease expired before `now` holds nothing: the store releases that lease and raises the token, so
          that its last holder can commit no more. It does so only for runs with slots of these limits.
        - A slot of a lender is used by one run at a time, and then does not count beside the lender's.
        - A rate is a `GCRA <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>`_: a start is allowed if the
          rate's next time, or `at` if that is later, is at most `(size - 1) * interval` after `at`, a microsecond
          more or less; and moves it on by `interval`. A next time more than `size * interval` after `at`, because the
          rate was lower or the clock was set back, is set to that time, also if the run has to wait.

        Crash or cancellation: they may have been taken; to ask again does no harm.

        Args:
            request: the request.
            now: wall-clock seconds, for leases.
            at: the time for rates, in wall-clock seconds; None for the store's clock.

        Raises:
            ConflictError: the run does not exist, has no holder, or has another token or `seq`.
        """
        ...

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        """Give back a run's slots of these limits, or end its requests, if it has them with this token.

        A `NotifyingStore` notifies of the runs that have waited longest for them, some of each limit.
        """
        ...

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        """Return the valid slots and requests of these limits, or of all: by name, those held first, the oldest first.

        A slot whose run's lease has expired is valid here.
        """
        ...
