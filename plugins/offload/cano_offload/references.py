"""What a store's runs refer to in an offload layer's folder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from cano import CodecLayer, ConfigurationError, RunFilter, SerializationError, StoreBackend

from cano_offload.layer import OffloadLayer, reference_in, references_inside

WRAPPED = b"\xc1"


def offload_layer(store: str, layers: Iterable[CodecLayer]) -> OffloadLayer:
    """The one offload layer among `layers`, those of the store that messages call `store`.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    found = [layer for layer in layers if isinstance(layer, OffloadLayer)]
    if len(found) != 1:
        raise ConfigurationError(f"the URL of store {store} must name one offload:SIZE:FOLDER, but has {len(found)}")
    return found[0]


class References:
    """Finds every file that a store refers to, while it is in use.

    Whatever a store keeps at the time of looking is found, but for what was written since: the files of that are young.
    What a commit moves is looked for where it was before where it is afterwards: a signal's payload becomes that of its
    run. A fork has what its origin had, which may be deleted meanwhile: so runs are listed again until there is no
    new one.

    Args:
        backend: the store, open.
        layers: those around its codec.

    Attributes:
        mentioned: what looks like a reference inside some value: of who has put bytes that the layers have wrapped
            into a value of its own. Such files are better left alone.
    """

    def __init__(self, backend: StoreBackend, layers: Sequence[CodecLayer]) -> None:
        self._backend = backend
        self._layers = layers
        self._digests: set[str] = set()
        self.mentioned: set[str] = set()

    async def all(self) -> set[str]:
        """The SHA-256 of every file that is referred to.

        Raises:
            SerializationError: something cannot be read, so that what it refers to is not known.
        """
        seen: set[tuple[str, float | None]] = set()
        while True:
            # with the time: another run of an id that was there before is another run
            listed = {(record.run_id, record.created) for record in await self._backend.runs(RunFilter())}
            new = {*listed, *((run_id, None) for run_id in await self._backend.missing_recipients())} - seen
            if not new:
                return self._digests
            for run_id in sorted({run_id for run_id, _ in new}):
                await self._look_at(run_id)
            seen |= new

    async def _look_at(self, run_id: str) -> None:
        for signal in (await self._backend.signals(run_id)).waiting:
            self._note(run_id, f"the payload of signal {signal.name!r}", signal.payload)
        record = await self._backend.load(run_id)
        if record is not None:
            self._note(run_id, "the payload", record.payload)
            self._note_all(run_id, record.data.items())
        if self._backend.capabilities.history:
            for line in await self._backend.history(run_id):
                self._note_all(run_id, line.changed.items())

    def _note_all(self, run_id: str, items: Iterable[tuple[str, Any]]) -> None:
        for key, value in items:
            self._note(run_id, f"key {key!r}", value)

    def _note(self, run_id: str, what: str, data: Any) -> None:
        if data is None:
            return
        try:
            for layer in reversed(self._layers):
                if isinstance(layer, OffloadLayer) and (reference := reference_in(data)) is not None:
                    self._digests.add(reference.digest)
                    return
                data = layer.unwrap(data)
            self.mentioned.update(references_inside(data))
            if data.startswith(WRAPPED):
                raise SerializationError("it is wrapped in a layer that the store's URL does not name")
        except SerializationError as error:
            raise SerializationError(f"run {run_id}, {what}: {error}") from error
