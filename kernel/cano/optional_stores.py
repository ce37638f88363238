"""The protocols of stores that can do more than `StoreBackend`, as their `Capabilities` say."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

from cano.protocols import StoreBackend
from cano.records import AuditEntry, ClaimedRun, Commit, Retention, RunRecord, StreamChunk, Transition
from cano.run_filter import RunFilter
from cano.signals import Signal


@runtime_checkable
class PruningStore(StoreBackend, Protocol):
    """A store that finds and deletes the runs that a retention does not keep, many at a time."""

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        """Return finished runs that `retention` does not keep, with empty `data`, sorted by `RunRecord.place`.

        The oldest come first. The time that this takes must not grow with the runs that are kept.

        Args:
            retention: `Retention.expired` says what is not kept. Newer are the runs of the workflow that have finished
                and have a greater place.
            now: wall-clock seconds.
            limit: maximum number of runs.
            after: the place of a run, which may be deleted by now: only runs with a greater place.
        """
        ...

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, audit: AuditEntry | None = None
    ) -> Sequence[str]:
        """Delete those of these runs that have finished and can be claimed at `now`, and return their ids.

        Each is deleted as by `delete`. A run that is being resumed is not deleted, since its lease is held. An
        `AuditingStore` adds `audit` for each deleted run, with the run's id, in the same transaction.

        Crash or cancellation: some, all or none may have been deleted.
        """
        ...


@runtime_checkable
class ClaimingStore(StoreBackend, Protocol):
    """A store that claims the runs that are ready, many at a time."""

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
    ) -> Sequence[ClaimedRun]:
        """Claim up to `limit` runs that `ready(now)` would return and that have no holder, each as by `claim`.

        A run whose lease has expired is not claimed, since only its holder's machine can tell whether that is alive.
        Of calls at the same time, each claims other runs, and none waits for another: it may then return fewer runs.
        The time that this takes must not grow with the runs that have ended, nor with the parked ones that wait.

        Crash or cancellation: some, all or none may have been claimed; `runs` shows by `holder` and `expires` which.

        Args:
            definitions: the name, version and fingerprint of each workflow whose runs are claimed.
            limit: maximum number of runs.
            holder, now, expires: see `claim`.
            skip: the ids of runs that are not claimed.
        """
        ...


@runtime_checkable
class QueueStore(ClaimingStore, Protocol):
    """A store that keeps the queues of submitted runs: those whose `RunRecord.in_queue` is true.

    A delayed run enters its queue at the end of its wait. A claim removes a run from its queue. A run that is released,
    by a commit or a call, and has not begun, enters its queue in its old place: no holder has claimed it, but one has
    created it; or a commit with `seq` 0 and an `at` before its creation has put it back.

    `ready` returns, besides the runs that are not in a queue, at most 100 of each definition and queue, but at least
    one. It obeys `RunFilter.held` in lists, too.
    """

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
        queues: Collection[str] | None = None,
    ) -> Sequence[ClaimedRun]:
        """Claim runs as `ClaimingStore.claim_ready` does, in this order.

        First come the runs that are not in a queue, since they have begun. Then those in a queue: the ones with the
        larger priority first. Of one priority, each combination of definition, queue and key gives one run after the
        other in turn, its oldest first. The next call continues after the combination that had the last turn; each open
        backend object may remember that for itself.

        The time that this takes must not grow with the number of runs in queues. If a run in a queue is claimed, fewer
        runs may be returned than there are: the caller asks again. A run whose delay has passed since the last call may
        enter its queue with this call, and be claimed by the next one.

        Args:
            definitions, limit, holder, now, expires, skip: see `ClaimingStore.claim_ready`. In queues, `skip` may have
                no effect.
            queues: claim only runs whose `RunRecord.queue` is among these; None for all.
        """
        ...

    async def queue_sizes(self, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
        """Return the number of runs of these definitions that wait in each queue; 0 or no entry for an empty one.

        Of each definition and queue, at most `most` runs are counted. The time must not grow with the others. Runs
        whose delay has just passed may be left out until the next call of `claim_ready`.
        """
        ...

    async def queued_before(self, run: RunRecord, most: int) -> tuple[int, int]:
        """Return how many runs that wait in the queue of `run`, with its definition, begin before it in any case.

        These are the runs with a larger priority; and those with its lane that were stored before it. Each of the two
        numbers is at most `most`, and the time must not grow with the others.
        """
        ...


@runtime_checkable
class HistoryPagingStore(StoreBackend, Protocol):
    """A store that returns a part of a history without reading the rest.

    It may have a method `discard_history(run_id, before)`, too, which deletes the oldest entries of a history: only
    those with a `seq` less than `before`, of which it may keep some. The run and its data stay as they are.
    """

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        """Return the entries of `history` with a `seq` greater than `after`: the first `limit` of them.

        The time that this takes must not grow with the number of the other entries, if `limit` is given.

        Args:
            run_id: the run.
            after: a `seq`, which the history need not have; None for the entries from the first one.
            limit: maximum number of entries, 0 or more; None for all.
        """
        ...


@runtime_checkable
class RewritingStore(StoreBackend, Protocol):
    """A store that replaces values where they are, such as encrypted ones by others under a new key.

    If it is a `StreamingStore`, it has a method `rewrite_stream(run_id, chunks)`, too, which replaces the values of the
    chunks that the run has with the same channel and `last`, and leaves out the others.
    """

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        """Apply `commit`, which makes no transition, and replace values in the run's history, in one transaction.

        Each of `entries` replaces `changed` and `own` of the entry with its `seq`; all else in the history stays. The
        run's data changes as `commit` says, not by `entries`. What is replaced is not kept for any other call.

        The run's fencing token rises by one, so that no commit is applied that was made for what was there before.
        The lease stays unless `commit.release` is set.

        Raises:
            ConflictError: as by `commit`. Nothing changes then.
        """
        ...

    async def rewrite_signals(self, run_id: str, signals: Sequence[Signal]) -> None:
        """Replace the payloads of waiting signals. A signal that does not wait is left out; their order stays.

        Args:
            run_id: the run, which need not exist.
            signals: the signals, with new payloads.
        """
        ...


@runtime_checkable
class LimitingStore(StoreBackend, Protocol):
    """A store that limits the number of users' signals that wait for a run, over all processes."""

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, audit: AuditEntry | None = None) -> bool:
        """Store a signal as `put_signal` does, unless `most` signals of users or more wait for the run.

        Return False if it was refused: then nothing has changed. A signal whose id the run got before is not refused.
        Of calls at the same time, in any process, no more are accepted than there is room for.

        Args:
            run_id: the run, which need not exist yet.
            signal: one of a user.
            most: maximum number of waiting signals.
            audit: see `AuditingStore`.
        """
        ...


@runtime_checkable
class StreamingStore(StoreBackend, Protocol):
    """A store that keeps streams of runs: items in named channels, which are only ever added.

    A commit writes the chunks that it has, in the same transaction. A chunk is written once: if the run has one with
    the same channel and `last` already, it is ignored, in a commit and in `write_stream`. `delete` deletes the streams
    of a run, too.

    A `NotifyingStore` also has a method `watch_streams(tell)`. From then on it calls `tell(run_id)` soon after another
    backend object, in any process, wrote a chunk, and `tell(None)` if notifications may have been lost, as `watch`
    does; `watch` itself need not tell of chunks.
    """

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        """Add chunks to the streams of a run, all or none, as durably as a commit. Nothing else of the run changes.

        Crash or cancellation: they may have been written; to write the same chunks again does no harm.

        Raises:
            ConflictError: the stored token differs, or the run does not exist.
        """
        ...

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        """Return the chunks of a channel with a `last` greater than `after`: the first `limit` of them, in order.

        The list is empty if there is no such channel or run. The time must not grow with the number of other chunks.
        """
        ...

    async def channels(self, run_id: str) -> Sequence[str]:
        """Return the names of the channels of a run, in any order."""
        ...


@runtime_checkable
class ScopedStore(StoreBackend, Protocol):
    """A store that has namespaces: parts of it that share nothing, neither with one another nor with the store."""

    def scoped(self, namespace: str) -> StoreBackend:
        """Return the part of the store that has this name, not yet opened.

        It is a store like this one, with the same capabilities, in a place of its own. The same name means the same
        part, in every process. It is opened and closed by itself, and this store need not be open.

        Args:
            namespace: 1 to 512 bytes of printable text. Names are equal if all their characters are.
        """
        ...


async def read_history(
    backend: StoreBackend, run_id: str, after: int | None = None, limit: int | None = None
) -> Sequence[Transition]:
    """Return a part of a run's history, as `HistoryPagingStore.history_page` does, from any store."""
    if (after is not None or limit is not None) and backend.capabilities.history_pages:
        return await cast(HistoryPagingStore, backend).history_page(run_id, after, limit)
    entries = await backend.history(run_id)
    return [entry for entry in entries if after is None or entry.seq > after][:limit]


async def read_ready(backend: StoreBackend, now: float, workflows: Collection[str]) -> Sequence[RunRecord]:
    """Return the runs of these workflows that a kernel can claim and resume now, from any store."""
    if backend.capabilities.ready_filters:
        found: Sequence[RunRecord] = await cast(Any, backend).ready(now, workflows)
        return found
    return [record for record in await backend.ready(now) if record.workflow in workflows]


@runtime_checkable
class NotifyingStore(StoreBackend, Protocol):
    """A store that notifies kernels of changes, so that they need not wait for a poll.

    A store that has to look for changes may have a method `attend(wanted)`, too. The kernel calls it with False when no
    notification matters to it, and with True when they matter again; the store then notifies of all changes in between.
    """

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell(run_id)` after another backend object, in any process, changed a run; until `close`.

        The changes are those that may let a kernel continue: a signal was put, the lease was released, or the run
        ended, was deleted, or was created without a holder. `tell(None)` means that notifications may have been lost,
        for example with a broken connection: any run may have changed. A notification may come late or twice; or not
        at all, if the process that changed the run dies at that moment.

        Args:
            tell: called in the event loop that opened the store, or the last one that called `attend(True)`.
        """
        ...


@runtime_checkable
class AttributeStore(StoreBackend, Protocol):
    """A store that finds and counts runs by their search attributes, and by the other fields of `RunFilter` but two.

    It keeps `RunRecord.attributes` of new runs, replaces them by `Commit.attributes` in the same transaction, and
    deletes them with the run. `runs` obeys `RunFilter.attributes`. It writes and reads nothing of that for runs without
    attributes, and for filters without them.
    """

    async def count(self, filter: RunFilter) -> int:
        """Return how many runs match, without reading them. The filter has no `error` and no `others`."""
        ...

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        """Return the names of the attributes that runs have, each with the first byte of a value: the value's kind.

        An attribute whose values are of several kinds has an entry for each. The time that this takes must not grow
        with the number of runs.
        """
        ...


@runtime_checkable
class AuditingStore(StoreBackend, Protocol):
    """A store that keeps an audit: who did what to which run from outside, and when.

    Four methods take an entry for the audit. The store adds it in the same transaction if, and only if, the action has
    an effect: the run is new, the commit is applied, the signal's id is new, or the run existed. An entry stays when
    its run is deleted. If a call is repeated after a lost answer, there is still one entry.
    """

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        """See `StoreBackend.create`."""
        ...

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        """See `StoreBackend.commit`."""
        ...

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        """See `StoreBackend.put_signal`."""
        ...

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        """See `StoreBackend.delete`."""
        ...

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        """Add entries. Their runs need not exist."""
        ...

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        """Return the entries, oldest first; entries with the same time are in any order.

        A corrupt entry hides no other: the texts that cannot be read are shown as "corrupt", a time as 0.

        Args:
            run_id: the run, or None for all entries.
            limit: the most entries, the newest ones; None for all.
        """
        ...

    async def prune_audit(self, before: float, audit: AuditEntry) -> int:
        """Delete the entries with a time before `before`, add `audit`, and return how many were deleted."""
        ...
