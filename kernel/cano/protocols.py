"""The protocols that plugins implement: stores, retry strategies, executors, codecs and clocks.

They need no inheritance: an object with these methods is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cano.records import Commit, RunRecord, Transition
from cano.run_filter import RunFilter
from cano.signals import Signal, Signals


@runtime_checkable
class RetryStrategy(Protocol):
    """Decides whether and when another attempt follows a failed one.

    All runs share one strategy, so it must not keep the state of a run. If it does not use `elapsed`, it may have an
    attribute `uses_elapsed = False`. The kernel then does not read the clock before the first attempt, and `elapsed`
    counts from that attempt's failure.
    """

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the attempt that has just failed, counted from 1.
            error: the exception that it raised.
            elapsed: seconds since the step's first attempt began.
        """
        ...


class Timer(Protocol):
    """A scheduled callback."""

    def cancel(self) -> None:
        """Cancel the callback. Does nothing if it has already run."""
        ...


@runtime_checkable
class Clock(Protocol):
    """The kernel's source of time."""

    def time(self) -> float:
        """Return the wall-clock time in seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Return the seconds since an arbitrary origin; they never decrease."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return after `seconds`."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the running event loop when `monotonic()` reaches `when`."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Encodes values as bytes, and decodes them.

    Decoding must not be able to run code, so a codec must not use pickle. It builds instances of registered classes
    only.

    A codec should have a method `restricted(*types)`, too: it registers the types, and returns a codec that encodes
    values of these types only, and decodes what this one decodes. The kernel makes one for each workflow. Then no
    process stores a value that another one with the same workflow cannot decode.
    """

    def register(self, *types: Any) -> None:
        """Allow values of these types to be encoded and decoded: classes, or annotations such as `list[Order]`.

        The kernel registers the types in the annotations of tasks, and those of the `Key`s that the tasks use.
        """
        ...

    def encode(self, value: Any) -> bytes:
        """Return bytes that `decode` turns into an equal value of the same type.

        Raises:
            SerializationError: the value cannot be encoded.
        """
        ...

    def decode(self, data: bytes, type: Any = None) -> Any:
        """Return the value that `encode` was given, as an instance of `type` unless that is None.

        Raises:
            SerializationError: the bytes are corrupt, or name a class that the program did not register.
        """
        ...


class CodecLayer(Protocol):
    """Transforms a codec's bytes before they are stored, and back: it compresses, encrypts or limits them.

    It is called in the event loop, and with strict stores in worker threads, too. `unwrap` may get bytes that were
    written without the layer.

    A layer that keeps values outside the store has `keeps_outside = True`; it must come after a `ContextLayer`. For
    kernels with a namespace it needs a method `scoped(namespace)`, which returns a layer with a place of its own.
    One that hides nothing, such as compression, should have `hides = False`: see `Kernel.export_run`.
    """

    def wrap(self, data: bytes) -> bytes:
        """Return bytes for the store, which `unwrap` turns into `data` again.

        Raises:
            SerializationError: the layer refuses this value. The kernel adds the key.
            StoreUnavailableError: the value cannot be stored now.
        """
        ...

    def unwrap(self, data: bytes) -> bytes:
        """Return the bytes that `wrap` was given.

        Raises:
            SerializationError: the bytes are corrupt, or this layer cannot read them. The kernel adds run and key.
            StoreUnavailableError: the value cannot be read now.
        """
        ...


class LayerContext(NamedTuple):
    """The place of a value in a store.

    Attributes:
        store: id of the store, which it drew when it was first opened with such a layer.
        run_id: the run that the value, or the signal, belongs to.
        key: the key of the run's data; or a name that begins with NUL, for what is stored beside them.
        seq: number of the transition that wrote it; None if the reader does not know it.
        bound: whether the value must have been written with a context (True), or without one, by an earlier version
            (False). None allows both, since a seal of the run vouches for the stored bytes.
        namespace: the part of the store, see `Kernel`; "" for the store itself.
    """

    store: str
    run_id: str
    key: str
    seq: int | None = None
    bound: bool | None = True
    namespace: str = ""


class ContextLayer(CodecLayer, Protocol):
    """A layer that binds values to their place in the store, as authenticated encryption can.

    The kernel calls these methods in place of `wrap` and `unwrap`. For a store with such a layer, Cano also seals each
    commit: it wraps digests of all that the commit writes, keyed with a secret that only the layer hides. So what
    `wrap_in` returns must reveal nothing, and `unwrap_in` must refuse whatever `wrap_in` did not return.

    An attribute is optional: if `seals_errors` is True, errors of runs are wrapped, too.
    """

    def wrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Return bytes for the store, as `wrap` does."""
        ...

    def unwrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Return the bytes that `wrap_in` was given.

        Raises:
            SerializationError: they were written in another place, are corrupt, or this layer cannot read them.
            StoreUnavailableError: the value cannot be read now.
        """
        ...

    def is_current(self, data: bytes) -> bool:
        """Return whether `wrap_in` would return such bytes now: in its newest form, with its present key."""
        ...


class Capabilities(NamedTuple):
    """The promises of a store beyond those of all stores: atomic commits, fencing and signals.

    Attributes:
        durable: commits survive the process. The kernel then commits each step of a workflow by itself.
        encoded: the store gets values as bytes from the codec; otherwise as objects.
        strict: values pass through the codec whenever a task puts or gets them, so that errors show early.
        history: the store keeps every transition; otherwise `history` is always empty and no run can be forked.
        retention: `delete` works; otherwise it always raises StoreError, and the store keeps everything.
        notify: the store is a `NotifyingStore`. The kernel polls all the same.
        prune: the store is a `PruningStore`; the kernel prunes others run by run.
        pages: `runs` obeys `RunFilter.after`, and sorts by `RunRecord.place`.
        audit: the store is a `cano.AuditingStore`. Otherwise no entry is kept.
        claims: the store is a `ClaimingStore`; the kernel claims the runs of others one by one.
        history_pages: the store is a `HistoryPagingStore`; of others the kernel reads a history as a whole.
        namespaces: the store is a `ScopedStore`; `Kernel(namespace=…)` refuses others.
        appends: commits may append to values, see `cano.Appended`. To others the kernel writes a whole list each time.
        signal_limit: the store is a `LimitingStore`; with others each kernel counts the waiting signals by itself.
        streams: the store is a `StreamingStore`; with others, no step can emit items.
        filters: `runs` obeys all fields of `RunFilter` but `error`. Of other stores the kernel reads page after page.
        attributes: the store is a `cano.AttributeStore`. Otherwise no run can be found by its search attributes.
        ready_filters: `ready(now, workflows)` returns the ready runs of these workflows only. From other stores the
            kernel gets all ready runs at each poll.
        transactions: the store is a `cano.TransactionalStore`; with others, `Step.transaction` raises
            ConfigurationError.
        outcomes: `runs` and `count` obey `RunFilter.error`, which comes with the status FAILED, and `RunFilter.state`
            if it comes with a status of runs that have ended; an index finds the runs.
        orders: `runs` obeys every `RunFilter.order`, by an index. Other stores list the newest runs first only.
        queues: the store is a `cano.QueueStore`; with others, all submitted runs are in the queue "default" and have
            the same priority.
        slots: the store is a `cano.SlotStore`; kernels on others refuse limits with `scope="store"`, and rates.
        connections: the store is a `cano.JoiningStore`; with others, `submit` and `signal` refuse a `connection`.
    """

    durable: bool = True
    encoded: bool = True
    strict: bool = False
    history: bool = True
    retention: bool = True
    notify: bool = False
    pages: bool = False
    audit: bool = False
    prune: bool = False
    claims: bool = False
    history_pages: bool = False
    namespaces: bool = False
    appends: bool = False
    signal_limit: bool = False
    filters: bool = False
    attributes: bool = False
    ready_filters: bool = False
    streams: bool = False
    transactions: bool = False
    orders: bool = False
    outcomes: bool = False
    queues: bool = False
    slots: bool = False
    connections: bool = False


@runtime_checkable
class StoreBackend(Protocol):
    """Keeps runs. Every method is atomic, even if other tasks, threads and processes call the store concurrently.

    A run can be claimed if it has no holder or no `expires`, or if `expires` is before `now`. Only the fencing token
    and `seq` decide whether a commit is accepted, not the clock: the last holder of an expired lease can still commit,
    until another holder claims the run.

    The engine keeps values and signals of its own beside those of users: `own` in records, commits, transitions,
    signals and waits. The same text as a user's key, signal or id never means one of them.

    Keys, names of the engine's values, and the names and ids of signals, are any text, NUL included. The ids of runs
    and holders, and the names of workflows and states, contain no NUL. Text that is not Unicode may be refused with
    SerializationError. Values and payloads are bytes unless `capabilities` say otherwise; a payload may also be None.

    `cano.testing.StoreBackendContract` tests all of this.
    """

    capabilities: Capabilities

    async def open(self) -> None:
        """Open the store, and create what is missing. Raises StoreUnavailableError."""
        ...

    async def close(self) -> None:
        """Finish the calls in progress and release all resources. Later calls raise StoreUnavailableError."""
        ...

    async def create(self, run: RunRecord) -> RunRecord:
        """Store a new run with its lease, and return it; or return the existing run with this id, unchanged.

        A new run is returned as it was given: the caller recognizes it by `holder`, `token` and `created`.

        Crash or cancellation: it may have been stored; the next `load` shows whether it was.
        """
        ...

    async def load(self, run_id: str) -> RunRecord | None:
        """Return the run with all its data and the engine's values, or None if it does not exist."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply `commit` completely or not at all, as durably as the store promises.

        `seq` may skip numbers; this adds one history entry. The lease stays unless `release` is set.

        Conflict: nothing changes.
        Crash or cancellation: it may have been applied; the next `load` shows whether it was.

        Raises:
            ConflictError: the stored `seq` or token differs, or the run does not exist.
        """
        ...

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Claim the lease of a run in any status.

        Return the new fencing token; None if the run does not exist or is held, even by `holder` itself.

        Crash or cancellation: it may have been claimed; the next `load` shows by `holder` and `expires` whether it was.

        Args:
            run_id: the run's id.
            holder: the name of the claiming kernel.
            now, expires: wall-clock seconds: the present time, and the time when the lease expires.
        """
        ...

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Renew the leases of many runs until `expires`, and return the ids of those that are lost.

        A lease is lost if `holder` does not hold it with that token. A store with a queue of calls puts renewals first.

        Args:
            holder: the name of the renewing kernel.
            tokens: the fencing token by run id.
            expires: wall-clock seconds.
        """
        ...

    async def release(self, run_id: str, token: int) -> None:
        """Release the lease. Does nothing if the run's token is not `token`, or the run does not exist."""
        ...

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """Return the matching runs with empty `data` and `own`, those with the latest `created` first.

        Runs with the same `created` are in any order, unless the store promises `pages`.
        """
        ...

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Return the run's transitions, oldest first.

        The first entry is the creation, with the `seq`, the data and the engine's values that the run was created with.
        The list is empty if the run does not exist, or the store does not promise `history`.
        """
        ...

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Store a signal until a commit consumes it. The run need not exist yet.

        A second signal with the same `key` is ignored, even after the first was consumed.
        """
        ...

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        """Return the oldest unconsumed signal of that name, without consuming it; None if there is none.

        With `own`, it is one of the engine's own signals; otherwise it is not, whichever wait it is to.
        """
        ...

    async def signals(self, run_id: str) -> Signals:
        """Return all signals of the run, consumed and unconsumed."""
        ...

    async def missing_recipients(self) -> Sequence[str]:
        """Return the ids that signals were sent to but no run has."""
        ...

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """Return the runs that a kernel can claim and resume now, with empty `data` and `own`.

        These are the runs that have no lease, or whose lease expired before `now`, and that

        - are running; or
        - are parked, and `wait.until` is `now` or earlier, or an unconsumed signal has the name `wait.signal`, and its
          `own` is `wait.own`.
        """
        ...

    async def delete(self, run_id: str) -> bool:
        """Delete a run with its data, history and signals. Return whether it existed.

        Raises:
            StoreError: the store does not promise `retention`. Nothing changes.
        """
        ...
