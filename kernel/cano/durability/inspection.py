"""Looking into the runs that a store keeps: list, history, time travel, why a run stands still, what is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from cano.durability.holders import is_held
from cano.durability.journal import DEADLINE
from cano.errors import ConfigurationError, RunNotFoundError, SerializationError
from cano.model.config import positive_seconds
from cano.model.split import HIDDEN
from cano.records import RunFilter, RunRecord, RunStatus, Transition

if TYPE_CHECKING:
    from cano.durability.keeper import Durability
    from cano.kernel.kernel import Kernel

_LACKS = {
    "history": "keeps no history of its runs, so none can be shown, and no run forked",
    "retention": "keeps everything, so no run can be deleted",
}


class Standstill(Enum):
    """Why a run does not move; exactly one applies."""

    RUNNING_HERE = "it is being driven by this kernel"
    RUNNING_ELSEWHERE = "it is being driven by another holder"
    INTERRUPTED = "nobody drives it; recover() or resume() takes it over"
    WAITING_FOR_SIGNAL = "it waits for a signal"
    WAITING_FOR_TIME = "it waits for a time"
    READY = "what it waited for is there; recover() or resume() takes it over"
    FAILED = "it failed; resume() tries again from the state that failed"
    SUCCEEDED = "it has ended in success"
    CANCELLED = "it was cancelled"


class Explanation(NamedTuple):
    """Why a run does not move.

    Attributes:
        reason: one of a closed list.
        detail: the particulars: the holder, the signal's name, the time, the error.
    """

    reason: Standstill
    detail: str

    def __str__(self) -> str:
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


class Finding(NamedTuple):
    """Something wrong in a store.

    Attributes:
        kind: "corrupt", "orphan" or "stale lease".
        run_id: the run.
        detail: what is wrong.
    """

    kind: str
    run_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished runs are kept.

    Attributes:
        keep_last: how many finished runs of each workflow are kept, the newest; None is all.
        max_age: seconds after its end for which a finished run is kept; None is for ever.
        on_terminal: "keep", or "delete" to forget every finished run at once.
    """

    keep_last: int | None = None
    max_age: float | None = None
    on_terminal: str = "keep"

    def __post_init__(self) -> None:
        last = self.keep_last
        if last is not None and (isinstance(last, bool) or not isinstance(last, int) or last < 0):
            raise ConfigurationError(f"keep_last must be a whole number, 0 or more, or None, not {last!r}")
        positive_seconds("max_age", self.max_age)
        if self.on_terminal not in ("keep", "delete"):
            raise ConfigurationError(f"on_terminal must be 'keep' or 'delete', not {self.on_terminal!r}")

    def expired(self, newer: int, age: float) -> bool:
        """Whether a finished run is to go that ended `age` seconds ago, with `newer` ones of its workflow."""
        if self.on_terminal == "delete" or (self.keep_last is not None and newer >= self.keep_last):
            return True
        return self.max_age is not None and age > self.max_age


class RunListing:
    """The runs of a store, newest first: `await` it for a list, or go through it with `async for`."""

    def __init__(self, kernel: Kernel, filter: RunFilter) -> None:
        self._kernel = kernel
        self._filter = filter

    async def _records(self) -> list[RunRecord]:
        wanted = self._filter
        derived = wanted.status in (RunStatus.INTERRUPTED, RunStatus.RUNNING)
        ask = wanted._replace(status=RunStatus.RUNNING, limit=None) if derived else wanted
        await self._kernel.open()
        durability = self._kernel.store_of_runs
        records = [seen_at(record, durability.now()) for record in await durability.backend.runs(ask)]
        found = [record for record in records if wanted.status is None or record.status is wanted.status]
        return found[: wanted.limit]

    def __await__(self) -> Generator[Any, None, list[RunRecord]]:
        return self._records().__await__()

    async def __aiter__(self) -> AsyncIterator[RunRecord]:
        for record in await self._records():
            yield record


def seen_at(record: RunRecord, now: float) -> RunRecord:
    """`record` with INTERRUPTED in place of RUNNING where nobody holds it."""
    interrupted = record.status is RunStatus.RUNNING and not is_held(record, now)
    return record._replace(status=RunStatus.INTERRUPTED) if interrupted else record


def insist(durability: Durability, promise: str, store: str) -> Durability:
    """`durability`, whose store must promise `history` or `retention`. Raises ConfigurationError naming the `store`."""
    if not getattr(durability.capabilities, promise):
        raise ConfigurationError(f"the store {store} {_LACKS[promise]}; use one with {promise}, see `cano plugins`")
    return durability


async def history(durability: Durability, run_id: str) -> list[Transition]:
    """Every transition of a run with what it changed, oldest first."""
    lines = await durability.backend.history(run_id)
    if not lines:
        raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
    return [
        line._replace(
            changed={
                key: durability.values.decode(key, value, run_id)
                for key, value in line.changed.items()
                if not key.startswith(HIDDEN)
            },
            removed=[key for key in line.removed if not key.startswith(HIDDEN)],
        )
        for line in lines
    ]


async def fork(durability: Durability, run_id: str, seq: int, new_run_id: str) -> str:
    """A new run that stands where `run_id` stood after transition `seq`; `resume` lets it go on from there.

    Where that one waits there now, so does the fork. An earlier wait it has behind it, and goes on without a payload.

    Raises:
        RunNotFoundError: there is no such run.
        ConfigurationError: it has no such transition, or `new_run_id` is taken.
    """
    record = await durability.backend.load(run_id)
    if record is None:
        raise RunNotFoundError(f"the store has no run {run_id!r}", run_id=run_id)
    lines = await durability.backend.history(run_id)
    point = next((line for line in lines if line.seq == seq), None)
    if point is None:
        known = f"{lines[0].seq} to {lines[-1].seq}" if lines else "none"
        raise ConfigurationError(f"run {run_id} has no transition {seq!r}; there are: {known}")
    data: dict[str, Any] = {}
    for line in lines[: lines.index(point) + 1]:
        for key in line.removed:
            data.pop(key, None)
        data.update(line.changed)
    present = record.seq == seq
    waits = present and record.status is RunStatus.PARKED
    now, wait = durability.moment(), record.wait if waits else None
    if (limit := durability.limit(record)) is not None:  # its time counts anew
        data[DEADLINE] = durability.values.encode(DEADLINE, (limit[0], now + limit[0]))
        if wait is not None and wait.until == limit[1]:
            wait = wait._replace(until=now + limit[0])
    forked = RunRecord(
        run_id=new_run_id, workflow=record.workflow, version=record.version, fingerprint=record.fingerprint,
        state=point.state, seq=seq, data=data, status=RunStatus.PARKED if waits else RunStatus.RUNNING,
        wait=wait, payload=record.payload if present else None,
        created=now, updated=now, holder=durability.holder, expires=now, token=1,
    )  # fmt: skip
    there = await durability.backend.create(forked)
    if (there.holder, there.token, there.created) != (durability.holder, 1, now):
        raise ConfigurationError(f"the run id {new_run_id!r} is taken; fork to another")
    await durability.backend.release(new_run_id, 1)
    return new_run_id


async def explain(durability: Durability, run_id: str, here: bool) -> Explanation:
    """Why a run does not move."""
    record = seen_at(await durability.load(run_id), durability.now())
    status, wait = record.status, record.wait
    if here:
        return Explanation(Standstill.RUNNING_HERE, f"in state {record.state}")
    if status is RunStatus.RUNNING:
        left = (record.expires or 0) - durability.now()
        return Explanation(Standstill.RUNNING_ELSEWHERE, f"{record.holder}, whose lease lasts {left:.1f} s more")
    if status is RunStatus.PARKED and wait is not None:
        signal = None if wait.signal is None else await durability.backend.take_signal(run_id, wait.signal)
        if (limit := durability.limit(record)) is not None and limit[1] <= durability.now():
            return Explanation(Standstill.READY, f"it took longer than {limit[0]:g} s, and ends with that")
        late = signal is None and wait.until is not None and wait.until <= durability.now()
        if signal is not None or late:
            following = wait.on_timeout if late and wait.on_timeout is not None else wait.then
            return Explanation(Standstill.READY, f"next state {following}")
        until = "" if wait.until is None else f"for {wait.until - durability.now():.1f} s more"
        if wait.signal is not None:
            return Explanation(Standstill.WAITING_FOR_SIGNAL, f"{wait.signal!r}" + (until and f", {until}"))
        return Explanation(Standstill.WAITING_FOR_TIME, until)
    if status is RunStatus.PARKED:  # a record that a plugin keeps for itself
        return Explanation(Standstill.WAITING_FOR_SIGNAL, "of whoever parked it")
    if status is RunStatus.FAILED:
        error = record.error or {}
        return Explanation(Standstill.FAILED, f"in state {error.get('state')}: {error.get('message')}")
    return Explanation(Standstill[status.name], f"in state {record.state}")


async def check(durability: Durability) -> list[Finding]:
    """What is wrong in the store: rows that cannot be read, children without a parent, leases that have lapsed.

    The values in a run's data are looked at where its workflow is known to this kernel, and with it their classes.
    """
    findings = []
    records = {record.run_id: record for record in await durability.backend.runs(RunFilter())}
    for run_id, record in records.items():
        try:
            loaded = await durability.load(run_id)
            for key, value in loaded.data.items() if durability.knows(record.workflow) else ():
                durability.values.decode(key, value, run_id)
        except SerializationError as error:
            findings.append(Finding("corrupt", run_id, str(error)))
        except RunNotFoundError:  # somebody has deleted it just now
            continue
        if record.parent is not None and not record.status.finished:
            parent = records.get(record.parent)
            if parent is None or parent.status.finished:
                gone = "does not exist" if parent is None else f"has {parent.status.value}"
                findings.append(Finding("orphan", run_id, f"its parent {record.parent} {gone}"))
        interrupted = seen_at(record, durability.now()).status is RunStatus.INTERRUPTED
        if interrupted and record.holder is not None:
            ago = durability.now() - (record.expires or 0)
            over = f"that of {record.holder} ended {ago:.1f} s ago" if ago > 0 else f"{record.holder} is dead"
            findings.append(Finding("stale lease", run_id, over))
    return findings


async def prune(durability: Durability, retention: Retention) -> list[str]:
    """Forget the finished runs that `retention` does not keep; returns their ids.

    A child stays as long as its parent has not ended, which may still ask for its result.
    """
    gone, newer = [], dict[str, int]()
    records = await durability.backend.runs(RunFilter())
    unfinished = {record.run_id for record in records if not record.status.finished}
    for record in records:
        if record.status.finished:
            seen = newer[record.workflow] = newer.get(record.workflow, 0) + 1
            expired = retention.expired(seen - 1, durability.now() - record.updated)
            if expired and record.parent not in unfinished and await durability.forget(record.run_id):
                gone.append(record.run_id)
    return gone
