"""What plugins implement: stores, retry strategies, executors, codecs and clocks.

Nothing here is inherited: an object with these methods is enough.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from cano.records import Commit, RunFilter, RunRecord, Signal, Signals, Transition


@runtime_checkable
class RetryStrategy(Protocol):
    """Decides whether a failed attempt is followed by another. Must hold no state of a single run.

    A strategy that never looks at `elapsed` may say so with an attribute `uses_elapsed = False`: the kernel then
    takes no time before the first attempt, and `elapsed` counts from that attempt's failure.
    """

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: the attempt that has just failed, counted from 1.
            error: what it raised.
            elapsed: seconds since the step's first attempt began.
        """
        ...


class Timer(Protocol):
    """A callback that is due later."""

    def cancel(self) -> None:
        """Drop it. Harmless when it has run already."""
        ...


@runtime_checkable
class Clock(Protocol):
    """Where the kernel takes time from."""

    def time(self) -> float:
        """Wall-clock seconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow, from any origin."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call `callback` in the running event loop when `monotonic()` has reached `when`."""
        ...


@runtime_checkable
class Codec(Protocol):
    """Turns values into bytes and back. Decoding must be unable to run code: never pickle.

    It builds instances of those classes alone that the program has registered, through `register`.
    """

    def register(self, *types: Any) -> None:
        """Let values of these types be decoded. Classes, or annotations such as `list[Order]`.

        The kernel registers what the annotations of tasks and the `Key`s that they use name.
        """
        ...

    def encode(self, value: Any) -> bytes:
        """Bytes from which `decode` makes an equal value of the same type.

        Raises:
            SerializationError: the value cannot be kept.
        """
        ...

    def decode(self, data: bytes, type: Any = None) -> Any:
        """The value that `encode` was given; of `type`, where one is asked for.

        Raises:
            SerializationError: the bytes are damaged, or name a class that the program did not register.
        """
        ...


class CodecLayer(Protocol):
    """Changes the bytes that a codec has made on their way into a store, and back: compresses, encrypts, refuses.

    Called in the event loop, and by strict stores in worker threads too. Its store may also keep bytes that were
    written before the layer was there.
    """

    def wrap(self, data: bytes) -> bytes:
        """Bytes for the store, from which `unwrap` makes `data` again.

        Raises:
            SerializationError: this value is not to be kept. The kernel adds the key.
            StoreUnavailableError: it cannot be kept now.
        """
        ...

    def unwrap(self, data: bytes) -> bytes:
        """What `wrap` was given.

        Raises:
            SerializationError: the bytes are damaged, or not to be read by this layer. The kernel adds run and key.
        """
        ...


class Call(NamedTuple):
    """One call that an executor carries out: `await call()` does it right here.

    Attributes:
        function: an importable callable or bound method; may be a coroutine function.
        args: its positional arguments.
        run_id: the run it belongs to.
        state: name of the state whose step it belongs to.
        seq: number of that step in its run.
        attempt: which attempt this is, counted from 1.
        idempotency_key: stable across attempts, resumes and processes.
    """

    function: Callable[..., Awaitable[Any]]
    args: tuple[Any, ...]
    run_id: str
    state: str
    seq: int
    attempt: int
    idempotency_key: str

    async def __call__(self) -> Any:
        return await self.function(*self.args)


@runtime_checkable
class Executor(Protocol):
    """Carries out the `exec` phase of nodes elsewhere. It never sees the store."""

    async def submit(self, call: Call) -> Any:
        """The result of `call`. Cancelling this cancels the call as far as it can be.

        Raises:
            Exception: what the call raised; it is retried like a local failure.
        """
        ...


class Capabilities(NamedTuple):
    """What a store promises beyond what every store does: atomic commits, fencing and signals.

    Attributes:
        durable: what was committed survives the process. A workflow's steps are then committed one by one.
        encoded: values reach the store as bytes, through the codec. Otherwise as the objects they are.
        strict: values pass through the codec already when a task puts or gets them.
        history: every transition is kept. Otherwise `history` is always empty, and no run can be forked.
        retention: `delete` works. Otherwise it always raises StoreError, and everything is kept for ever.
        notify: it is a `NotifyingStore`, whose `watch` tells of what others do. The kernel polls all the same.
    """

    durable: bool = True
    encoded: bool = True
    strict: bool = False
    history: bool = True
    retention: bool = True
    notify: bool = False


@runtime_checkable
class StoreBackend(Protocol):
    """Keeps runs. Every method is atomic, whatever other tasks, threads and processes do meanwhile.

    A lease is free when nobody holds it or when its `expires` is before `now`. Fencing token and `seq` alone decide
    on a commit, not the clock: a lapsed lease that nobody has taken still commits. Keys, and the names and ids of
    signals, are any text, NUL included; the ids of runs and holders contain no NUL. Values, payloads included, are
    bytes (a payload may also be None) unless `capabilities` say otherwise.
    `cano.testing.StoreBackendContract` is this text as a test suite.
    """

    capabilities: Capabilities

    async def open(self) -> None:
        """Make ready, creating what is missing. Raises StoreUnavailableError."""
        ...

    async def close(self) -> None:
        """Finish what is under way and free everything. Calls after it raise StoreUnavailableError."""
        ...

    async def create(self, run: RunRecord) -> RunRecord:
        """Store a new run, its lease included, or return the one that has this id already, unchanged.

        The caller tells the two apart by `holder` and `token`: a new run comes back as it was given.
        """
        ...

    async def load(self, run_id: str) -> RunRecord | None:
        """The run with all its data, or None."""
        ...

    async def commit(self, commit: Commit) -> None:
        """Apply `commit`. When this returns, it is as durable as the store is.

        `seq` may jump: that makes one line of history, under the new number. The lease stays, unless `release` is set.
        After a cancelled call the commit may have been applied; a `load` that follows tells for good.

        Raises:
            ConflictError: the run's `seq` or `token` is another, or the run is gone. Nothing is changed.
        """
        ...

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        """Take the lease of a run in any status, if it is free; its holder cannot claim it a second time.

        Returns the new fencing token, or None where somebody else holds it or there is no such run.
        """
        ...

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        """Extend the leases of many runs (id to token) to `expires`; returns the ids that are lost.

        Lost are those that `holder` does not hold, or not under that token.
        """
        ...

    async def release(self, run_id: str, token: int) -> None:
        """Free the lease, if `token` still holds it."""
        ...

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        """The runs that match, the one with the latest `created` first, with empty `data`.

        Those with the same `created` come in any order: a store need not know which of them it got first.
        """
        ...

    async def history(self, run_id: str) -> Sequence[Transition]:
        """Every commit of the run that made a transition, oldest first.

        The first line is its creation, under the `seq` that it was created with, with all its data. Empty for a run
        that is not there, and always where the store does not promise `history`.
        """
        ...

    async def put_signal(self, run_id: str, signal: Signal) -> None:
        """Keep a signal, also for a run that does not exist yet, until a commit consumes it.

        A second one of the same id is ignored, even after the first was consumed.
        """
        ...

    async def next_signal(self, run_id: str, name: str) -> Signal | None:
        """The signal of that name that was put first and that no commit has consumed. It stays until one does."""
        ...

    async def signals(self, run_id: str) -> Signals:
        """Every signal that was ever put for the run, consumed or not."""
        ...

    async def missing_recipients(self) -> Sequence[str]:
        """The ids that signals were put for and that no run has."""
        ...

    async def ready(self, now: float) -> Sequence[RunRecord]:
        """The runs that could go on, if somebody claimed them, with empty `data`.

        Those are the parked runs that nobody holds and whose `wait.until` is `now` or earlier, or for which there is
        an unconsumed signal of the name `wait.signal`; and the running ones that nobody holds, or whose lease ended
        before `now`.
        """
        ...

    async def delete(self, run_id: str) -> bool:
        """Forget a run with its data, history and signals; whether there was one.

        Raises:
            StoreError: the store does not promise `retention`. Nothing is changed.
        """
        ...


@runtime_checkable
class NotifyingStore(StoreBackend, Protocol):
    """A store that tells of what others do, so that nobody waits for the next poll."""

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """From now on until `close`, call `tell` in the event loop that opened the store.

        It gets the id of a run soon after another backend object, in whatever process, did what may let somebody go
        on: put a signal for it, freed its lease, ended, deleted it, or created it without a holder. Twice or late does
        no harm. None says that news may have been lost, as after a broken connection: look at everything.
        """
        ...
