"""Takes slots of limits and starts of rates from the store for the runs of one kernel, and gives them back."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from cano import Run, SlotRequest, SlotStore, SystemClock, TaskError, WantedSlot
from cano.engine.ports import Host, callers, safe_repr, wake

from cano_durability.recovery.leases import journal_of
from cano_durability.recovery.waiting import Waiters
from cano_durability.stored_runs import StoredRuns

LONGEST = 100
"""The most characters of a key's value in the name of a limit; a longer one is replaced by its hash."""


class Taken(NamedTuple):
    """The slots that a run has taken together."""

    limiter: Any
    run_id: str
    token: int
    names: Sequence[str]
    bucket: None = None  # a kernel's own limits compare it


class Waiting:
    """A run that waits for slots.

    Attributes:
        names: the limits.
        turn: done when this run is to ask the store: those that want the same ask in the order of arrival.
    """

    def __init__(self, wanted: Sequence[WantedSlot]) -> None:
        self.names = tuple(each.name for each in wanted)
        self.loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self.loop.create_future()

    def __str__(self) -> str:
        return f"{', '.join(self.names)}, for all processes"

    def wake(self) -> None:
        """Let the run ask. Called in its event loop."""
        if not self.turn.done():
            self.turn.set_result(None)


class Admission:
    """Asks for the slots of one kernel's runs. Of runs that want the same, one at a time asks the store.

    Runs in several threads and event loops may use it: each change of its dicts is a single operation.
    """

    def __init__(self, kernel: Host, stored: StoredRuns, waiters: Waiters) -> None:
        self._kernel, self._stored, self._waiters = kernel, stored, waiters
        self._store = cast(SlotStore, stored.backend)
        self._queues: dict[tuple[Sequence[str], ...], dict[str, Waiting]] = {}  # by what they want, then by run id
        self._giving: dict[str, asyncio.Task[None]] = {}  # by run id

    async def take(self, run: Run, limiter: Any, values: Mapping[str, Any]) -> Taken:
        """See `RunKeeper.take_slots`."""
        wanted = [self._wanted(run, name, limit, values[name]) for name, limit in limiter.limits.items()]
        token = journal_of(run).token
        held = [each.name for each in wanted if not each.interval]
        taken = Taken(limiter, run.run_id, token, held)
        if not wanted:
            return taken
        if (giving := self._giving.get(run.run_id)) is not None:
            await asyncio.wait([giving])  # otherwise it would give back what this call is about to take
        seq = journal_of(run).seq if limiter.of_steps else None
        lenders = tuple(caller.run_id for caller in callers(run) if any(_overlap(each, held) for each in caller.held))
        request = SlotRequest(run.run_id, token, seq, wanted, self._stored.now(), lenders)
        waiting = Waiting(wanted)
        queue = self._queues.setdefault((waiting.names, lenders), {})
        try:
            queue[run.run_id] = waiting
            if len(queue) > 1:
                run.waits_for = cast(Any, waiting)
                await waiting.turn
            await self._ask(run, request, waiting)
        except BaseException:
            self._give(taken._replace(names=waiting.names))  # it may have been taken all the same, or waits there
            raise
        finally:
            run.waits_for = None
            queue.pop(run.run_id, None)
            while (first := next(iter(queue.items()), None)) is not None and not wake(first[1]):
                queue.pop(first[0], None)  # its event loop was closed, and the run with it
            if not queue:
                self._queues.pop((waiting.names, lenders), None)
        return taken

    async def _ask(self, run: Run, request: SlotRequest, waiting: Waiting) -> None:
        """Ask until the slots are taken: when notified, when the store says so, and at each poll."""
        clock = self._kernel.clock
        while True:
            with self._waiters.waiter(run.run_id) as changed:
                at = None if isinstance(clock, SystemClock) else clock.time()
                seconds = await self._store.take_slots(request, self._stored.now(), at)
                if seconds <= 0:
                    break
                run.waits_for = cast(Any, waiting)
                # a rate's time comes earlier if the process of a run that waits before this one was killed
                most = self._kernel.poll if math.isinf(seconds) else self._stored.lease
                await self._waiters.change(changed, min(seconds, most))
            journal_of(run).check_lease()
        journal_of(run).check_lease()

    def give(self, taken: Taken) -> None:
        """See `RunKeeper.give_slots`."""
        if taken.names:
            self._give(taken)

    def _give(self, taken: Taken) -> None:
        before = self._giving.get(taken.run_id)
        task = self._kernel.spawn(self._give_back(taken, before))
        self._giving[taken.run_id] = task
        task.add_done_callback(lambda task: self._gave(taken, task))

    async def _give_back(self, taken: Taken, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        # an error does no harm: the run's commit, or the end of its lease, has freed the slots
        await self._store.give_slots(taken.run_id, taken.token, taken.names)

    def _gave(self, taken: Taken, task: asyncio.Task[None]) -> None:
        if self._giving.get(taken.run_id) is task:
            del self._giving[taken.run_id]
        names = set(taken.names)
        for (wanted, _), queue in list(self._queues.items()):
            if not names.isdisjoint(wanted) and (first := next(iter(queue), None)) is not None:
                self._waiters.notify(first)

    def _wanted(self, run: Run, name: str, limit: Any, value: Any) -> WantedSlot:
        if limit.key is not None:
            if not isinstance(value, str | int):
                message = f"limit_key {limit.key!r} must have a text, a whole number or a bool for all processes"
                raise TaskError(
                    f"{message}, not {safe_repr(value)}", run_id=run.run_id, workflow=run.workflow, state=run.state
                )
            text = _text(value)
            if len(text) > LONGEST or not text.isprintable() or getattr(self._store, "is_sealed", False):
                text = "#" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
            name = f"{name}[{text}]"
        return WantedSlot(name, limit.limit, limit.interval)


def _overlap(held: Any, names: Sequence[str]) -> bool:
    """Return whether what a run holds are slots of one of these limits."""
    return isinstance(held, Taken) and not set(held.names).isdisjoint(names)


def _text(value: str | int) -> str:
    """Return a value of a key as a text, which is the same for a value of a subclass, such as a member of an enum."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bool):
        return str(value)
    return int.__repr__(value) if value.bit_length() < LONGEST * 3 else hex(value)  # digits of more would take long
