"""Runs that live in a store: parked, woken, signalled, cancelled and looked after. `Taking` has their beginning."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cano.durability.caretaker import Caretaking
from cano.durability.claiming import CANCEL, is_over, stored_error
from cano.durability.journal import within_grace
from cano.durability.migration import landing_state
from cano.engine.run import Run
from cano.errors import (
    RunCancelledError,
    RunInterruptedError,
    SerializationError,
)
from cano.model.result import RunResult
from cano.model.split import HIDDEN
from cano.model.waiting import Parked, Paused
from cano.protocols import Clock
from cano.records import Commit, RunFilter, RunRecord, RunStatus, Signal, Wait

if TYPE_CHECKING:
    from cano.engine.binding import BoundState, Plan


class Durability(Caretaking):
    """The runs that one kernel keeps in its store."""

    # waiting

    async def pause(self, run: Run, paused: Paused) -> BoundState:
        """Park the run; or, where what it waits for is there already, the state that follows.

        Raises:
            Parked: the run is parked.
        """
        if run.journal is None:
            run.journal = await self.adopt(run)
        pause, journal, now = paused.pause, run.journal, self._kernel.clock.time()
        until = now + pause.timeout if pause.timeout is not None else pause.until
        then: BoundState = paused.then
        if pause.signal is not None:
            signal = await self.backend.take_signal(run.run_id, pause.signal)
            if signal is not None:
                journal.consumed, journal.next_payload = (signal.id,), signal.payload
                run.step._hand_on(payload=self.payload(signal.payload, run.run_id))
                return then
        elif until is not None and until <= now:
            return then
        timeout = None if paused.on_timeout is None else paused.on_timeout.name
        until = run.before_due(until)  # stores and alarms know one time; who takes the run up sees which one it was
        run.wait = Wait(signal=pause.signal, then=then.name, until=until, on_timeout=timeout)
        await journal.commit(run.view, then.name, RunStatus.PARKED, run.step.seq, wait=run.wait, release=True)
        raise Parked

    def left(self, run: Run) -> None:
        """A run was left here: it has ended, or is parked. What that one waits for may have come meanwhile."""
        self.tell(run.run_id)
        self._left.discard(run.run_id)
        if run.status is RunStatus.PARKED and not self._kernel.closed:
            self._left.add(run.run_id)
            self._parked[run.run_id] = run
            self.care()
            self._kernel.spawn(self._wake(run.run_id))

    async def seen(self, plan: Plan, run_id: str) -> Run:
        """A run that is driven elsewhere, or has ended, as an object to look at: its end is in the store."""
        self._know(plan)
        if (parked := self._parked.get(run_id)) is not None:
            return parked
        run = self._parked[run_id] = Run(self._kernel, plan, run_id, self.view({}))
        run.status = RunStatus.PARKED
        run.mark_over()
        return run

    def set_alarm(self, run_id: str, wait: Wait) -> None:
        known = self._alarms.get(run_id)
        if known is not None and known[0] == wait.until:
            return
        self.forget_alarm(run_id)
        if wait.until is None:
            return

        def ring() -> None:
            self._alarms.pop(run_id, None)
            self._kernel.spawn(self._wake(run_id))

        clock = self._kernel.clock
        timer = clock.call_at(clock.monotonic() + max(0.0, wait.until - clock.time()), ring)
        self._alarms[run_id] = wait.until, timer

    def forget_alarm(self, run_id: str) -> None:
        _, timer = self._alarms.pop(run_id, (0.0, None))
        if timer is not None:
            timer.cancel()

    async def _wake(self, run_id: str) -> None:
        """Drive a parked run if it can go on, and its workflow is known here; or cancel it, if that was asked for."""
        try:
            record = await self.backend.load(run_id)
            if record is None or record.status is not RunStatus.PARKED:
                self._left.discard(run_id)
                return
            if await self.backend.take_signal(run_id, CANCEL):
                await self._cancel_free(record)
            elif (plan := self._plans.get(record.workflow)) is not None:
                await self._take_and_drive(plan, run_id)
        except Exception as error:  # noqa: BLE001  # nobody waits for this
            self._cannot_go_on(run_id, error)

    async def signal(self, run_id: str, name: str, payload: Any, id: str | None) -> bool:
        """Keep a signal for a run, and let it go on if it waits for it here. False where the run has ended."""
        if run_id not in self._kernel.active:
            record = await self.load(run_id)
            if is_over(record, again=True):
                return False
        encoded = None if payload is None else self.values.encode(f"the payload of signal {name!r}", payload)
        await self.backend.put_signal(run_id, Signal(id or uuid.uuid4().hex, name, encoded))
        if run_id not in self._kernel.active:
            await self._wake(run_id)
        return True

    async def cancel(self, run_id: str) -> bool:
        """End a run as cancelled, whoever holds it. False where it has ended already."""
        if (run := self._kernel.active.get(run_id)) is not None:
            run.stop(RunStatus.CANCELLED)
            return True
        record = await self.load(run_id)
        if record.status.finished:
            return False
        # whoever holds it looks for this when it renews its leases, and when it lets go of a run that has not ended
        await self.backend.put_signal(run_id, Signal(f"{CANCEL} {record.token}", CANCEL))
        await self._cancel_free(record)
        return True

    async def _cancel_free(self, record: RunRecord) -> None:
        """End a run as cancelled that nobody drives, with its children."""
        run_id = record.run_id
        token = await self._claim(record)
        if token is None:
            return
        try:
            record, asked = await self.load(run_id), await self.backend.take_signal(run_id, CANCEL)
            if not record.status.finished:
                await self.commit_cancelled(record, () if asked is None else (asked.id,))
                return
        except BaseException:
            await within_grace(self.backend.release(run_id, token), self._kernel.clock)
            raise
        await self.backend.release(run_id, token)

    async def commit_cancelled(self, record: RunRecord, consumed: tuple[str, ...]) -> None:
        await self.backend.commit(
            Commit(
                run_id=record.run_id, token=record.token, expected_seq=record.seq, seq=record.seq, state=record.state,
                status=RunStatus.CANCELLED, consumed=consumed, release=True, at=self._kernel.clock.time(),
            )
        )  # fmt: skip
        self.forget_alarm(record.run_id)
        self._left.discard(record.run_id)
        self.tell(record.run_id)
        await self.cancel_children(record.run_id)

    async def cancel_children(self, run_id: str) -> None:
        """End the children of a run that nobody waits for any more."""
        for child in await self.backend.runs(RunFilter(parent=run_id)):
            await self.cancel(child.run_id)

    async def forget(self, run_id: str) -> bool:
        """Delete a finished run, unless somebody resumes it just now, or it is damaged: `check` tells of that."""
        now = self._kernel.clock.time()
        token = await self.backend.claim(run_id, self.holder, now, now + self._lease)
        if token is None:
            return False
        with suppress(SerializationError):
            record = await self.backend.load(run_id)
            if record is not None and record.status.finished:
                return await self.backend.delete(run_id)
        await self.backend.release(run_id, token)
        return False

    # results

    async def settled(self, plan: Plan, run_id: str) -> RunResult:
        """Wait for the run's end, whoever drives it; drive it here if nobody does.

        Raises:
            WorkflowError: it failed, was cancelled, or interrupted here.
        """
        while True:
            news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._news.setdefault(run_id, set())
            waiting.add(news)
            try:
                if (run := self._kernel.active.get(run_id)) is not None:
                    await run.ended()
                    if run.error is not None:
                        raise run.error
                    if run.status is RunStatus.SUCCEEDED:
                        return run.result(run.bound.state)
                if self._shut:
                    message = f"run {run_id} goes on elsewhere, or later: the kernel closed"
                    raise RunInterruptedError(message, run_id=run_id, workflow=plan.name)
                record = await self.load(run_id)
                if record.status.finished:
                    return self.result(plan, record)
                if (again := await self._take(plan, record)) is not None:
                    self._kernel.drive(again)
                elif run_id not in self._kernel.active:
                    await first_of(news, self._kernel.clock, self._poll if self.capabilities.durable else None)
            finally:
                waiting.discard(news)
                if not waiting and self._news.get(run_id) is waiting:
                    del self._news[run_id]

    def result(self, plan: Plan, record: RunRecord) -> RunResult:
        """What a finished run has come to. Raises its error, if it failed."""
        if record.status is RunStatus.CANCELLED:
            raise RunCancelledError(f"run {record.run_id} was cancelled", run_id=record.run_id, workflow=plan.name)
        if record.status is RunStatus.FAILED:
            raise stored_error(record, record.error or {})
        data = {
            key: self.values.decode(key, value, record.run_id)
            for key, value in record.data.items()
            if not key.startswith(HIDDEN)
        }
        name = record.state if record.state in plan.by_name else landing_state(plan, record)
        return RunResult(record.run_id, plan.by_name[name].state, data, record.seq)

    async def close(self) -> None:
        """Take care no longer, and tell who waits."""
        self._shut = True
        for run_id in tuple(self._alarms):
            self.forget_alarm(run_id)
        for run_id in self._news:
            self.tell(run_id)
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.gather(self._caretaker, return_exceptions=True)


async def first_of(news: asyncio.Future[None], clock: Clock, seconds: float | None) -> None:
    """Wait for `news`, but no longer than `seconds`."""
    timer = None
    if seconds is not None:
        timer = clock.call_at(clock.monotonic() + seconds, lambda: None if news.done() else news.set_result(None))
    try:
        await news
    finally:
        if timer is not None:
            timer.cancel()
