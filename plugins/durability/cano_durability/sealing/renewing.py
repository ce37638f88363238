"""Encrypts the history of a sealed run again, and the signals that wait for it.

The links of a history are a chain, of which the run's seal has the last. So each group of entries is replaced together
with the seal, in one transaction: at any time the history leads to the run's present state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from cano import (
    Appended,
    Commit,
    ConflictError,
    ContextLayer,
    LayerContext,
    RewritingStore,
    RunRecord,
    Signal,
    StoreBackend,
    StreamChunk,
    StreamingStore,
    Transition,
)

from cano_durability.bounds import off_loop
from cano_durability.restating import restated
from cano_durability.sealing.seals import NO_LINK, SEAL, Name, Seal, SealedRun

FEW, SHARE = 500, 20
"""A group has at least this number of entries, or this part of those that are left, since each group reads them all."""
MOST_BYTES = 8 * 1024 * 1024
"""The approximate size of a group."""


class Sealed(StoreBackend, Protocol):
    """A store that seals runs. See `SealedStore`."""

    inner: StoreBackend
    layer: ContextLayer
    place: LayerContext

    async def verified(self, record: RunRecord) -> SealedRun | None: ...
    def check_chain(self, run: SealedRun, run_id: str, entries: Sequence[Transition]) -> None: ...
    def opened_entry(self, run_id: str, entry: Transition, bound: bool | None) -> Transition: ...
    def wrapped_values(
        self, run_id: str, values: Mapping[str, Any], seq: int, *, own: bool = False
    ) -> dict[str, Any]: ...
    def seal(self, run_id: str, stored: bytes, seq: int) -> Seal: ...
    def wrapped_seal(self, seal: Seal, run_id: str, seq: int) -> bytes: ...
    def wrapped_signal(self, run_id: str, signal: Signal) -> Signal: ...
    def unwrapped_signal(self, run_id: str, signal: Signal) -> Signal: ...
    def wrapped_chunks(self, run_id: str, chunks: Sequence[StreamChunk]) -> Sequence[StreamChunk]: ...
    async def rewrite_present(self, commit: Commit) -> None: ...
    def is_bound(self, run_id: str, signal: Signal) -> bool: ...


def stale(layer: ContextLayer, data: Mapping[str, Any], own_values: Mapping[str, Any]) -> set[Name]:
    """Return the names of the stored values that are not encrypted as new ones are."""
    values = ((own, name, value) for own, some in ((False, data), (True, own_values)) for name, value in some.items())
    return {
        (own, name)
        for own, name, value in values
        if not all(map(layer.is_current, value if value.__class__ is Appended else (value,)))
    }


async def renew_history(store: Sealed, run_id: str, hold: Callable[[], Awaitable[int]], *, release: bool) -> int:
    """Encrypt a history again, from its first stale entry on. Return the number of stale values.

    Crash: some groups are done; the next call continues.

    Args:
        store: the open store.
        run_id: a run that has a seal.
        hold: called before each group, to renew the caller's claim; returns its fencing token, one more each time.
        release: whether the last group releases the lease.

    Raises:
        ConflictError: another process has changed or claimed the run.
        SerializationError: it was changed by another program.
    """
    record, entries = await store.inner.load(run_id), await store.inner.history(run_id)
    run = None if record is None else await store.verified(record)
    if record is None or run is None:
        raise ConflictError(f"the run {run_id!r} was deleted", run_id=run_id)
    await off_loop(len(entries), lambda: store.check_chain(run, run_id, entries))
    counts = [len(stale(store.layer, entry.changed, entry.own)) for entry in entries]
    at = next((at for at, count in enumerate(counts) if count), len(entries))
    written = await off_loop(len(entries), lambda: [run.written(entry) for entry in entries])
    link = run.chain(NO_LINK, entries[:at], written)
    while at < len(entries):
        token = await hold()
        group = list(_group(entries[at:]))
        renewed = await off_loop(len(group), lambda: list(_renewed(store, run, run_id, link, group)))  # noqa: B023
        link, at = run.chain(link, renewed), at + len(group)
        run.seal = run.seal._replace(link=run.chain(link, entries[at:], written[at:]))
        run.seal = run.seal._replace(head=run.head(record))
        own = {SEAL: store.wrapped_seal(run.seal, run_id, record.seq)}
        commit = restated(record, token, record.updated)._replace(own=own, release=release and at == len(entries))
        await cast(RewritingStore, store.inner).rewrite(commit, renewed)
    return sum(counts)


def _group(entries: Sequence[Transition]) -> Iterator[Transition]:
    size = 0
    for entry in entries[: max(FEW, len(entries) // SHARE)]:
        yield entry
        size += sum(len(part) for value in entry.changed.values() for part in _parts(value))
        if size > MOST_BYTES:
            return


def _parts(value: Any) -> Sequence[bytes]:
    return value if value.__class__ is Appended else (value,)


def _renewed(
    store: Sealed, run: SealedRun, run_id: str, link: bytes, entries: Sequence[Transition]
) -> Iterator[Transition]:
    """Yield entries with their stale values encrypted again, and with their seals. `link` is that of the one before."""
    for entry in entries:
        old, opened = stale(store.layer, entry.changed, entry.own), store.opened_entry(run_id, entry, None)
        changed, own = (
            {
                **stored,
                **store.wrapped_values(run_id, {k: some[k] for k in some if (kind, k) in old}, entry.seq, own=kind),
            }
            for kind, stored, some in ((False, entry.changed, opened.changed), (True, entry.own, opened.own))
        )
        entry = entry._replace(changed=changed, own=own)
        link = run.link(link, entry)
        if SEAL in own:
            seal = store.seal(run_id, own[SEAL], entry.seq)._replace(link=link)
            own[SEAL] = store.wrapped_seal(seal, run_id, entry.seq)
        yield entry


async def renew_signals(store: Sealed, run_id: str) -> int:
    """Encrypt the signals that wait for a run again, which need not exist. Return the number of stale ones."""
    waiting = (await store.inner.signals(run_id)).waiting
    old = [each for each in waiting if each.payload is None or not store.layer.is_current(each.payload)]
    if old:
        renewed = [store.wrapped_signal(run_id, store.unwrapped_signal(run_id, each)) for each in old]
        await cast(RewritingStore, store.inner).rewrite_signals(run_id, renewed)
    return len(old)


async def renew_streams(store: Sealed, run_id: str) -> tuple[int, int]:
    """Encrypt the streams of a run again.

    Return the number of stale chunks that were, and of those that the store cannot replace.
    """
    if not store.capabilities.streams:
        return 0, 0
    inner, opened = cast(StreamingStore, store.inner), cast(StreamingStore, store)
    rewrite: Any = getattr(inner, "rewrite_stream", None)
    count = 0
    for channel in await inner.channels(run_id):
        after = 0
        while chunks := await inner.read_stream(run_id, channel, after, FEW):
            old = {chunk.last for chunk in chunks if not store.layer.is_current(chunk.value)}
            count += len(old)
            if old and rewrite is not None:
                found = await opened.read_stream(run_id, channel, after, len(chunks))
                await rewrite(run_id, store.wrapped_chunks(run_id, [each for each in found if each.last in old]))
            after = chunks[-1].last
    return (count, 0) if rewrite is not None else (0, count)
