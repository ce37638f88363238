"""Exports a run from a store, in parts: no more is in memory than the run's data and one page of its history."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from typing import Any, cast

from cano import (
    Appended,
    Codec,
    ConfigurationError,
    ConflictError,
    ContextLayer,
    RunRecord,
    RunStatus,
    SerializationError,
    Signals,
    StoreBackend,
    Transition,
    read_history,
)
from cano.engine.ports import Host
from cano.redaction import REDACTED, redacted

from cano_durability.keys import PHASES
from cano_durability.run_files.frames import Sealing, Writer
from cano_durability.run_files.packing import Clean, grouped, packed
from cano_durability.stored_runs import StoredRuns

PAGE = 50
"""The most transitions that are read together."""
ATTEMPTS = 5
"""How often a run and its signals are read again that a process changes meanwhile."""


async def export(
    kernel: Host, stored: StoredRuns, run_id: str, plain: bool, redact: Collection[str] | None
) -> AsyncIterator[bytes]:
    """See `Kernel.export_run`."""
    backend = stored.backend
    check_encoded(kernel, backend)
    sealing = None if plain or redact is not None else sealing_of(backend)
    if sealing is None and not plain and redact is None:
        _check_layers(kernel)
    record, signals = await _at_rest(stored, run_id)
    if record.status is RunStatus.PARKED and record.wait is None:
        raise ConfigurationError(f"{run_id} is not a run: a plugin keeps it for its own use", run_id=run_id)
    clean = _plain(stored, run_id) if redact is None else _without_secrets(kernel, stored, record, redact)
    if redact is not None:
        own = {name: record.own[name] for name in record.own if name != PHASES}  # these phases are executed again
        record = record._replace(error=redacted(record.error, redact), own=own)
    writer = Writer(sealing)
    yield writer.head()
    yield writer.frame(*packed(record, clean))
    last = None
    async for page in _history(backend, record):
        for entry in page:
            yield writer.frame(*packed(entry, clean))
            last = entry.seq
    if backend.capabilities.history and last != record.seq:
        raise ConflictError(
            f"run {run_id} was deleted or changed while it was exported; repeat the call", run_id=run_id
        )
    for signal in signals.waiting:
        yield writer.frame(*packed(signal, clean))
    for ids in grouped(signals):
        yield writer.frame(*packed(ids, clean))
    yield writer.end()


def check_encoded(kernel: Host, backend: StoreBackend) -> None:
    """Raise ConfigurationError if the store keeps objects: only bytes mean the same in another process."""
    if not backend.capabilities.encoded:
        raise ConfigurationError(
            f"the store {kernel.store_name} keeps objects, not bytes, so no run can be exported or imported; name a "
            "durable store, such as sqlite:///runs.db"
        )


def sealing_of(backend: StoreBackend) -> Sealing | None:
    """Return what encrypts the frames of a file, with the store's keys; None if the store is not encrypted."""
    if not getattr(backend, "is_sealed", False):
        return None
    sealed: Any = backend
    return Sealing(cast(ContextLayer, sealed.layer.inside()), sealed.names)


def _check_layers(kernel: Host) -> None:
    """Raise ConfigurationError if a layer of the store, which an export removes, may be there to hide values."""
    for layer in getattr(kernel.codec, "layers", ()):
        if getattr(layer, "hides", True):
            raise ConfigurationError(
                f"the layer {type(layer).__name__} may hide values, and does not bind them to a place, so that an "
                "export shows them; if that is wanted, pass plain=True (`--plain`)"
            )


async def _at_rest(stored: StoredRuns, run_id: str) -> tuple[RunRecord, Signals]:
    """Return the run and its signals, of one moment."""
    record = await stored.record(run_id)
    for _ in range(ATTEMPTS):
        signals, before = await stored.backend.signals(run_id), record
        record = await stored.record(run_id)
        if (record.seq, record.updated, record.token) == (before.seq, before.updated, before.token):
            return record, signals
    raise ConflictError(f"run {run_id} changes too often to be exported; repeat the call", run_id=run_id)


async def _history(backend: StoreBackend, record: RunRecord) -> AsyncIterator[Sequence[Transition]]:
    """Yield the run's transitions up to its record, page by page if the store can."""
    page = PAGE if backend.capabilities.history_pages else None
    after = None
    while some := await read_history(backend, record.run_id, after, page):
        yield [entry for entry in some if entry.seq <= record.seq]
        after = some[-1].seq
        if page is None or len(some) < page or after >= record.seq:
            return


def _plain(stored: StoredRuns, run_id: str) -> Clean:
    def clean(key: str, value: Any, own: bool) -> Any:
        return Appended.mapped(value, lambda part: stored.values.without_layers(key, part, run_id, own=own))

    return clean


def _without_secrets(kernel: Host, stored: StoredRuns, record: RunRecord, also: Collection[str]) -> Clean:
    """Return a function that replaces secrets in values. A value that cannot be decoded here may have some."""
    values, run_id = stored.values_of(record.workflow), record.run_id
    plain, codec = _plain(stored, run_id), cast(Codec, getattr(kernel.codec, "plain", kernel.codec))

    def part(key: str, value: Any, own: bool, appended: bool) -> Any:
        shown: Any = REDACTED
        with suppress(SerializationError):
            decoded = values.decode(key, value, run_id, own=own)
            shown = redacted({key: decoded}, also)[key]
            if type(shown) is type(decoded) and shown == decoded:
                return plain(key, value, own)
        return codec.encode([shown] if appended and not isinstance(shown, list) else shown)

    def clean(key: str, value: Any, own: bool) -> Any:
        appended = value.__class__ is Appended
        return Appended.mapped(value, lambda each: part(key, each, own, appended))

    return clean
