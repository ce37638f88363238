"""`References`: finds the offloaded files that a store refers to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, cast

from cano import (
    Appended,
    CodecLayer,
    ConfigurationError,
    RunFilter,
    SerializationError,
    StoreBackend,
    StreamingStore,
)

from cano_offload.layer import OffloadLayer, embedded_references, reference_in

LAYER_MARK = b"\xc1"
PAGE = 100
"""The most chunks of a stream that are read at once."""


def offload_layer(store: str, layers: Iterable[CodecLayer]) -> OffloadLayer:
    """Return the only offload layer among `layers`.

    Args:
        store: the store's name for messages.
        layers: the layers around the store's codec.

    Raises:
        ConfigurationError: there is no offload layer, or more than one.
    """
    found = [layer for layer in layers if isinstance(layer, OffloadLayer)]
    if len(found) != 1:
        raise ConfigurationError(f"the URL of store {store} must contain one offload:SIZE:FOLDER, not {len(found)}")
    return found[0]


class References:
    """Finds every file that a store refers to, even while the store is in use.

    It may miss references committed meanwhile; the files of these are too recent to be swept. It misses no reference
    that a commit moves: a signal's payload moves to its run, so signals are read first. A fork copies the references
    of its origin, which may be deleted meanwhile: so runs are listed again until there is no new one.

    Args:
        backend: the open store.
        layers: the layers around its codec, from the one that encrypts, if that comes before the offload layer.
        encrypted: whether these begin with one that encrypts. Then no value inside it is looked at.

    Attributes:
        embedded: digests of apparent references inside values, found by `all`. A program may have stored bytes that
            the layers had wrapped, so a sweep keeps these files.
    """

    def __init__(self, backend: StoreBackend, layers: Sequence[CodecLayer], *, encrypted: bool = False) -> None:
        self._backend = backend
        self._layers = layers[1:] if encrypted else layers
        self._encrypted = encrypted
        self._digests: set[str] = set()
        self.embedded: set[str] = set()

    async def all(self) -> set[str]:
        """Return the SHA-256 of every file that the store refers to.

        Raises:
            SerializationError: a value cannot be read, so its references are unknown.
        """
        seen: set[tuple[str, float | None]] = set()
        while True:
            # with its time, since a deleted run's id can be used again by a new run
            listed = {(record.run_id, record.created) for record in await self._backend.runs(RunFilter())}
            new = {*listed, *((run_id, None) for run_id in await self._backend.missing_recipients())} - seen
            if not new:
                return self._digests
            for run_id in sorted({run_id for run_id, _ in new}):
                await self._scan(run_id)
            seen |= new

    async def _scan(self, run_id: str) -> None:
        for signal in (await self._backend.signals(run_id)).waiting:
            self._add(run_id, f"the payload of signal {signal.name!r}", signal.payload)
        record = await self._backend.load(run_id)
        if record is not None:
            self._add(run_id, "the payload", record.payload)
            self._add_all(run_id, (*record.data.items(), *record.own.items()))
        if self._backend.capabilities.history:
            for entry in await self._backend.history(run_id):
                self._add_all(run_id, (*entry.changed.items(), *entry.own.items()))
        if self._backend.capabilities.streams:
            await self._scan_streams(run_id, cast(StreamingStore, self._backend))

    async def _scan_streams(self, run_id: str, backend: StreamingStore) -> None:
        for channel in await backend.channels(run_id):
            last = 0
            while chunks := await backend.read_stream(run_id, channel, last, PAGE):
                for chunk in chunks:
                    self._add(run_id, f"channel {channel!r}", chunk.value)
                last = chunks[-1].last

    def _add_all(self, run_id: str, items: Iterable[tuple[str, Any]]) -> None:
        for key, value in items:
            Appended.mapped(value, partial(self._add, run_id, f"key {key!r}"))

    def _add(self, run_id: str, what: str, data: Any) -> None:
        if data is None:
            return
        try:
            for layer in reversed(self._layers):
                if isinstance(layer, OffloadLayer) and (reference := reference_in(data)) is not None:
                    self._digests.add(reference.digest)
                    return
                data = layer.unwrap(data)
            if self._encrypted:
                return
            self.embedded.update(embedded_references(data))
            if data.startswith(LAYER_MARK):
                raise SerializationError("a layer that the store's URL does not name wrote it; add the layer to codec=")
        except SerializationError as error:
            raise SerializationError(f"run {run_id}, {what}: {error}") from error
