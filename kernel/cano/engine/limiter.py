"""Concurrency limits at run time: slots, and the runs that wait for one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from cano.engine.step import current_step, location_of
from cano.errors import ConfigurationError, TaskError
from cano.model.limits import Limit
from cano.safe_text import safe_repr

if TYPE_CHECKING:
    from cano.engine.ports import Host
    from cano.engine.run import Run

SHOWN = 3
"""The most holders of slots that a message names."""


class Slot:
    """A slot that a run holds. While that run waits for a run that it called, the called one can borrow the slot."""

    __slots__ = ("borrower", "bucket", "lender", "limiter", "released", "run")

    def __init__(self, limiter: Limiter, bucket: Bucket, run: Run, lender: Slot | None) -> None:
        self.limiter, self.bucket, self.run, self.lender = limiter, bucket, run, lender
        self.borrower: Slot | None = None
        self.released = False


class Request:
    """A request for a slot that a run waits for.

    Attributes:
        lenders: the slots of the run's callers, any of which it can borrow.
        slot: the granted slot, before the run has woken up.
    """

    __slots__ = ("bucket", "future", "lenders", "limiter", "loop", "run", "slot")

    def __init__(self, limiter: Limiter, bucket: Bucket, run: Run, lenders: list[Slot]) -> None:
        self.limiter, self.bucket, self.run, self.lenders = limiter, bucket, run, lenders
        self.slot: Slot | None = None
        self.loop = asyncio.get_running_loop()
        self.future = self.loop.create_future()

    def __str__(self) -> str:
        holders = self.limiter.holders(self.bucket)
        more = f" and {len(holders) - SHOWN} more" if len(holders) > SHOWN else ""
        value = "" if self.limiter.limit.key is None else f" for {self.bucket.value!r}"
        return f"{self.limiter.limit}{value}, held by {', '.join(holders[:SHOWN])}{more}"

    def wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)


class Bucket:
    """The slots for one value of a limit's key, with their holders and the requests, each in the order of arrival."""

    __slots__ = ("free", "holders", "requests", "value")

    def __init__(self, value: Any, free: int) -> None:
        self.value, self.free = value, free
        self.holders: dict[Slot, None] = {}
        self.requests: dict[Request, None] = {}


class Limiter:
    """The slots of one `Limit` in one kernel, granted in the order of the requests, in any thread and event loop."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._buckets: dict[Any, Bucket] = {}

    async def acquire(self, run: Run) -> Slot:
        """Wait for a slot and return it. Raises TaskError if the limit's key has no value."""
        value = _value(self.limit, run)
        with self._lock:
            bucket = self._buckets.setdefault(value, Bucket(value, self.limit.limit))
            lenders = [slot for caller in callers(run) for slot in caller.held if slot.bucket is bucket]
            lender = next((slot for slot in lenders if slot.borrower is None and not slot.released), None)
            if lender is not None or bucket.free:
                return self._grant(bucket, run, lender)
            request = Request(self, bucket, run, lenders)
            bucket.requests[request] = None
        run.waits_for = request
        try:
            await request.future
        except asyncio.CancelledError:
            with self._lock:
                bucket.requests.pop(request, None)
                if request.slot is not None:
                    self._return(request.slot)
            raise
        finally:
            run.waits_for = None
        assert request.slot is not None
        return request.slot

    def release(self, slot: Slot) -> None:
        """Return a slot. If it is lent, the borrower keeps it until its own end."""
        with self._lock:
            slot.released = True
            if slot.borrower is None:
                self._return(slot)

    def holders(self, bucket: Bucket) -> list[str]:
        """Return the ids of the runs that hold slots, those that have borrowed one included."""
        with self._lock:
            return list(dict.fromkeys(f"run {slot.run.run_id}" for slot in bucket.holders))

    def _grant(self, bucket: Bucket, run: Run, lender: Slot | None) -> Slot:
        slot = Slot(self, bucket, run, lender)
        if lender is None:
            bucket.free -= 1
        else:
            lender.borrower = slot
        bucket.holders[slot] = None
        return slot

    def _return(self, slot: Slot) -> None:
        """Take back a slot that is not lent, and grant it to the first request that can have it."""
        bucket, lender = slot.bucket, slot.lender
        bucket.holders.pop(slot, None)
        if lender is not None:
            lender.borrower = None
            if lender.released:
                self._return(lender)
                return
        else:
            bucket.free += 1
        while (request := _first(bucket, lender)) is not None:
            del bucket.requests[request]
            request.slot = self._grant(bucket, request.run, lender)
            if wake(request):
                return
            del bucket.holders[request.slot]  # its event loop was closed, and the run with it
            if lender is None:
                bucket.free += 1
            else:
                lender.borrower = None
        if not bucket.holders and not bucket.requests:
            del self._buckets[bucket.value]  # a value that no run uses costs no memory


class StoreLimiter:
    """The limits of a workflow or a state whose slots are in the store. The keeper of runs takes all of them at once.

    Attributes:
        limits: the limits, by their names in the store.
        of_steps: whether they limit the steps of a state, not the runs of a workflow.
    """

    def __init__(self, kernel: Host, limits: Sequence[Limit], place: str, *, of_steps: bool = False) -> None:
        self._kernel, self.of_steps = kernel, of_steps
        self.limits = {_stored_name(limit, place): limit for limit in limits}
        if len(self.limits) < len(limits):
            raise ConfigurationError(f"limits of {place!r} would have one name in the store; give them a name= each")
        self._place = place
        self._check()

    def _check(self) -> None:
        """Refuse a store that has no slots, as soon as the kernel has its store."""
        backend = self._kernel.backend
        limit = next(iter(self.limits.values()), None)
        if limit is not None and backend is not None and not backend.capabilities.slots:
            raise ConfigurationError(
                f"{limit} of {self._place!r} needs a store with the capability 'slots', which a SlotStore has; the "
                f"store {self._kernel.store_name} has not"
            )

    async def acquire(self, run: Run) -> Any:
        """Wait for all slots, and return what holds them. Raises TaskError if a limit's key has no value."""
        self._check()
        values = {name: _value(limit, run) for name, limit in self.limits.items()}
        return await self._kernel.required_keeper("a limit of the store").take_slots(run, self, values)

    def release(self, slot: Any) -> None:
        """Return the slots."""
        self._kernel.required_keeper().give_slots(slot)


def limiters_of(
    kernel: Host, limits: Sequence[Limit], place: str, *, of_steps: bool = False, kept: bool = False
) -> list[Any]:
    """Return what acquires the slots of `limits`, in their order. If `kept`, it lets a store keep the run."""
    shared = [limit for limit in limits if limit.scope == "store"]
    several: list[Any] = [StoreLimiter(kernel, shared, place, of_steps=of_steps)] if shared or kept else []
    return several + [kernel.limiter(limit) for limit in limits if limit.scope != "store"]


def _stored_name(limit: Limit, place: str) -> str:
    """Return the name in the store of a limit: its own, or its workflow or state, and its key.

    Raises:
        ConfigurationError: other processes could not know that name.
    """
    name = limit.name
    if name is None:
        key = getattr(limit.key, "__qualname__", limit.key)
        if callable(key):  # its text has an address, which differs in each process
            raise ConfigurationError(f"{limit} of {place!r} needs a name=, since its key has none")
        name = f"{place}{'' if key is None else f' by {key}'}".replace("[", "(").replace("\0", "")
    return f"{name} rate" if limit.interval else name


def _value(limit: Limit, run: Run) -> Any:
    """Return the value whose slots `run` uses. Raises TaskError if there is none."""
    try:
        value = limit.value(run.store)
        hash(value)
    except Exception as error:
        message = f"limit_key {limit.key!r} has no hashable value: {safe_repr(error)}"
        raise TaskError(message, **location_of(current_step())) from error
    return value


def _first(bucket: Bucket, lender: Slot | None) -> Request | None:
    """Return the first request that can have a free slot, or borrow the one of `lender`."""
    return next((request for request in bucket.requests if lender is None or lender in request.lenders), None)


def wake(request: Any) -> bool:
    """Call `request.wake()` in its event loop; return False if that was closed."""
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    try:
        if request.loop is here:
            request.wake()
        else:
            request.loop.call_soon_threadsafe(request.wake)
    except RuntimeError:
        return False
    return True


def callers(run: Run) -> Iterator[Run]:
    """Yield the runs that wait for `run`, the nearest first."""
    caller: Run | None = run
    while caller is not None:
        caller = caller.caller or caller.parent or caller.kernel.active.get(caller.parent_id or "")
        if caller is not None:
            yield caller


async def acquire(limiters: Sequence[Any], run: Run) -> None:
    """Acquire a slot of every limiter, in their order, for `run` to hold until `release`."""
    for limiter in limiters:
        run.held = (*run.held, await limiter.acquire(run))


def release(run: Run, keep: int = 0) -> None:
    """Return the slots that `run` holds, but for the first `keep`: the last one first."""
    returned, run.held = run.held[keep:], run.held[:keep]
    for slot in reversed(returned):
        slot.limiter.release(slot)
