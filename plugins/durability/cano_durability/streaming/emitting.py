"""Writes what the steps of a run emit: in the step's commit, or at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from cano import Commit, ConflictError, Run, SizeLimits, Step, StreamChunk
from cano.engine.ports import NOTHING
from cano.safe_text import escaped, safe_repr

from cano_durability.keys import STREAMS
from cano_durability.streaming.chunks import Part, Span, Unit, add_span, joined
from cano_durability.streaming.local import LocalStreams, Target

if TYPE_CHECKING:
    from cano import Clock

    from cano_durability.values import Values

BUFFER = 1000
"""Items that may wait to be written at once. From then on, or from half of the bytes on, emitting waits."""
CHUNK_ITEMS, CHUNK_BYTES = 500, 256 * 1024
"""The most items of a chunk, and the size from which it takes no more."""
PAUSE = 1.0
"""Seconds until the next attempt after the store has failed."""
_log = logging.getLogger("cano")


class _Entry(NamedTuple):
    """An encoded item that waits to be written; or a mark, which has no unit."""

    channel: str
    unit: Unit | None
    item: Any
    size: int


class Emitter:
    """Writes what the steps of one run emit. It implements `cano.engine.ports.Emitter`.

    Items wait in a list. A commit of the run writes all of them, and so does the background task, which an item with
    `flush` starts. A step's commit makes the written items count; until then, they are open, by the unit that has
    emitted them. If an attempt fails, its waiting items are dropped, and a mark supersedes its open ones.

    The names of the channels, with the last offset that counts, are one of the engine's values in the run's record. It
    is stored with the first chunk of a channel: so a process that resumes the run knows that it has streams, and from
    where on to look for open items. Runs that emit nothing have no such value.

    Any thread may call `emit`. All else happens in the event loop that executes the run.

    Args:
        run: the run.
        values: how its values are encoded.
        target: its journal; or, for a run that no store keeps, where its chunks go.
        clock, limits: of the kernel.
        wake: wakes the callers that follow the run, in this kernel.
    """

    def __init__(
        self,
        run: Run,
        values: Values,
        target: Target,
        clock: Clock,
        limits: SizeLimits,
        wake: Callable[[str], object],
    ) -> None:
        self._run = run
        self._values = values
        self.target = target
        self._clock = clock
        self._limits = limits
        self._wake = wake
        self._lock = threading.Condition()  # of the fields from here to `_open`
        self._waiting: list[_Entry] = []
        self._size = 0
        self._wanted = False  # whether they are to be written at once
        self._committed = -1  # number of the last step whose items count
        self._dead: set[tuple[int, str | None, int]] = set()  # seq, branch and attempt of those that have failed
        self._open: dict[str, list[tuple[Unit, Span]]] = {}
        self._next: dict[str, int] = {}
        self._counted: dict[str, int] = {}  # last offsets that count, as they are stored
        self._chunks: list[StreamChunk] = []  # under way, or not known to be written
        self._turn = asyncio.Lock()
        self._flusher: asyncio.Task[None] | None = None
        self._starting = False
        self._room: set[asyncio.Future[None]] = set()
        self._closed = False

    # for steps

    def emit(self, step: Step, channel: str, item: Any, flush: bool) -> Awaitable[None]:
        """See `Step.emit`."""
        self._limits.check("names", "the channel's name", channel, step.run_id)
        encoded = self._values.encoded_item(f"channel {channel!r}", item, step.run_id)
        entry = _Entry(channel, Unit(step.seq, step.branch, step.phase), encoded, _size_of(encoded))
        loop = self._run.loop
        inside = asyncio._get_running_loop() is loop
        with self._lock:
            while not inside and flush and self._full and not self._closed:
                self._lock.wait()
            if self._closed or step.seq <= self._committed or (step.seq, step.branch, step.attempt) in self._dead:
                return NOTHING  # the attempt was abandoned
            if self._size + entry.size > self._limits.emitted:
                size = self._size + entry.size
                problem = f"the items that run {step.run_id} has emitted and not yet written have {size} bytes"
                raise self._limits.exceeded("emitted", problem, size, step.run_id)
            self._waiting.append(entry)
            self._size += entry.size
            if not flush and not self.is_local:
                return NOTHING
            self._wanted, start = True, not self._starting and self._flusher is None
            self._starting |= start
        if start and loop is not None:
            if inside:
                self._start()
            else:
                with suppress(RuntimeError):  # the loop has ended, and a thread that it abandoned emits
                    loop.call_soon_threadsafe(self._start)
        return _Room(self) if inside and self._full else NOTHING

    def discard(self, step: Step, phase: str | None, ended: bool = True) -> None:
        """See `cano.engine.ports.Emitter.discard`."""
        if ended:
            with self._lock:
                self._dead.add((step.seq, step.branch, step.attempt))
        self.supersede(
            lambda unit: (
                unit.seq == step.seq
                and (unit.branch == step.branch if step.branch is not None else not self._is_kept(unit))
                and phase in (None, unit.phase)
            )
        )

    def supersede(self, wanted: Callable[[Unit], bool]) -> None:
        """Drop the waiting items of some units, and have their open ones superseded by marks."""
        with self._lock:
            kept = [entry for entry in self._waiting if entry.unit is None or not wanted(entry.unit)]
            for channel, some in self._open.items():
                if spans := joined([span for unit, span in some if wanted(unit)]):
                    kept.append(_Entry(channel, None, spans, 0))
                    self._open[channel] = [each for each in some if not wanted(each[0])]
                    self._wanted = True
            self._waiting, self._size = kept, sum(entry.size for entry in kept)
        self._make_room()
        if self._wanted:
            self._start()

    @property
    def is_local(self) -> bool:
        """Whether no store keeps the run."""
        return self.target.is_local

    @property
    def is_idle(self) -> bool:
        """Whether all that was emitted is written."""
        return not self._waiting and not self._chunks

    def _is_kept(self, unit: Unit) -> bool:
        """Return whether the store has the result of the branch that has emitted, so that it is not executed again."""
        return unit.branch is not None and self.target.saved(f"branch {unit.seq} {unit.branch}")

    @property
    def _full(self) -> bool:
        many = len(self._waiting) >= BUFFER or 2 * self._size > self._limits.emitted
        return many and self.target.transaction is None

    # for the journal

    async def send(
        self, commit: Commit, do: Callable[[Commit], Awaitable[asyncio.CancelledError | None]]
    ) -> asyncio.CancelledError | None:
        """Let `do` make a commit of the run, with what waits. Return its result."""
        async with self._turn:
            moves, ends = commit.seq != commit.expected_seq, commit.release
            self._take()
            if moves:
                counted = {channel: following - 1 for channel, following in self._next.items()}
            else:
                counted = self._channels()
            own = commit.own
            if counted != self._counted:
                own = {**own, **self._values.encode_own({STREAMS: counted}, commit.run_id)}
            cut = await do(commit._replace(chunks=tuple(self._chunks), own=own))
            self._counted = counted
            self._settle(done=cut is None or moves)
            if moves:
                with self._lock:
                    self._open, self._dead, self._committed = {}, set(), commit.seq
            if ends:
                self.close()
        return cut

    async def quiet(self) -> None:
        """Wait until nothing is being written."""
        async with self._turn:
            pass

    async def stop(self) -> None:
        """Write nothing more, after what is under way."""
        async with self._turn:
            self.close()

    def close(self) -> None:
        """Write nothing more, and let the threads continue that wait for room."""
        with self._lock:
            self._closed = True
        self._make_room()

    # writing

    async def write(self) -> None:
        """Write what waits, unless the run's lease is about to be released."""
        async with self._turn:
            if self.target.transaction is not None:  # its commit writes the items
                self._wanted = False
                return
            self._take()
            if not self._chunks or self._closed:
                return
            counted = self._channels()
            if counted != self._counted:
                await self.target.write_first(
                    self._values.encode_own({STREAMS: counted}, self._run.run_id), self._chunks
                )
                self._counted = counted
            else:
                await self.target.write_stream(self._chunks)
            self._settle(done=True)

    def _take(self) -> None:
        """Make chunks of what waits."""
        with self._lock:
            by_channel: dict[str, list[_Entry]] = {}
            for entry in self._waiting:
                by_channel.setdefault(entry.channel, []).append(entry)
            chunks: list[tuple[Unit | None, StreamChunk]] = []
            following = dict(self._next)
            for channel, entries in by_channel.items():
                for part in _parts(entries):
                    first = following.get(channel, 1)
                    chunk = part.packed(self._values, channel, first, self._run.run_id)
                    following[channel] = chunk.last + 1
                    chunks.append((part.unit, chunk))
            # nothing from here on can fail
            self._waiting, self._size, self._wanted, self._next = [], 0, False, following
            for unit, chunk in chunks:
                self._chunks.append(chunk)
                if unit is not None:
                    add_span(self._open.setdefault(chunk.channel, []), unit, chunk)

    def _settle(self, *, done: bool) -> None:
        if self._chunks and done:
            self._chunks = []
            self._wake(self._run.run_id)
        self._make_room()

    def _channels(self) -> dict[str, int]:
        """Return the last offsets that count, also of channels that are new."""
        return {channel: self._counted.get(channel, 0) for channel in self._next}

    def _start(self) -> None:
        self._starting = False
        if self._flusher is None and not self._closed:
            self._flusher = asyncio.get_running_loop().create_task(self._flush(), name="cano emitter")

    async def _flush(self) -> None:
        while self._goes_on():
            try:
                await self.write()
            except ConflictError:  # another process has claimed the run, which stops here
                self.close()
            except Exception as error:  # noqa: BLE001  # the step's commit writes the items at the latest
                what = escaped(self._run.run_id), escaped(safe_repr(error))
                _log.warning("the items that run %s has emitted are not yet written: %s; retrying", *what)
                self._wanted = True
                await self._clock.sleep(PAUSE)

    def _goes_on(self) -> bool:
        with self._lock:  # otherwise a thread could emit just now, and rely on the flusher
            if self._wanted and not self._closed:
                return True
            self._flusher = None
            return False

    # back-pressure

    def _make_room(self) -> None:
        with self._lock:
            self._lock.notify_all()
        room, self._room = self._room, set()
        for future in room:
            if not future.done():
                future.set_result(None)

    async def room(self) -> None:
        """Wait until there is room for more items."""
        while self._full and not self._closed:
            future = asyncio.get_running_loop().create_future()
            self._room.add(future)
            await future

    # continuing

    def adopt(self, journal: Target) -> None:
        """Continue for a run that was in memory so far. The next commit writes its chunks."""
        if isinstance(self.target, LocalStreams):
            self._chunks = [*chain.from_iterable(self.target.chunks.values()), *self._chunks]
        self.target = journal

    def restore(
        self, counted: Mapping[str, int], open: Mapping[str, Sequence[tuple[Unit, Span]]], next: Mapping[str, int]
    ) -> None:
        """Continue the streams of a resumed run."""
        self._counted, self._next = dict(counted), dict(next)
        self._open = {channel: list(some) for channel, some in open.items()}


class _Room:
    """An awaitable for room in the buffer, which need not be awaited."""

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter

    def __await__(self) -> Generator[Any, None, None]:
        return self._emitter.room().__await__()


def _size_of(encoded: Any) -> int:
    return len(encoded) if isinstance(encoded, bytes) else 100  # what an object takes is not known


def _parts(entries: Sequence[_Entry]) -> Iterable[Part]:
    """Return the parts that are chunks of one channel: items of one unit, up to a size."""
    unit: Unit | None = None
    items: list[Any] = []
    size = 0
    for entry in entries:
        if items and (entry.unit != unit or len(items) >= CHUNK_ITEMS or size >= CHUNK_BYTES):
            yield Part(unit, items)
            items, size = [], 0
        if entry.unit is None:
            yield Part(None, (), entry.item)
        else:
            unit = entry.unit
            items.append(entry.item)
            size += entry.size
    if items:
        yield Part(unit, items)
