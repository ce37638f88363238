"""Encodes the values of a store with the codec, or copies them if the store keeps objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cano import (
    Appended,
    Clock,
    Codec,
    CodecLayer,
    RunRecord,
    SerializationError,
    StoreBackend,
    StoreError,
    StoreUnavailableError,
    StoreView,
    TypedStore,
    isolate,
)
from cano.engine.ports import IMMUTABLE, error_text

from cano_durability.bounds import Total, count_of, off_loop


class Values:
    """Encodes and decodes the values of one store. Errors name the key and the run.

    Args:
        backend: the store.
        codec: the kernel's codec, or the one for the runs of one workflow; None if there is none.
        most: number of bytes that all values of a run may have when they are read.

    Attributes:
        strict: whether values pass through the codec whenever a task puts or gets them.
        appends: whether the store keeps lists in parts.
    """

    def __init__(self, backend: StoreBackend, codec: Codec | None, most: int = 2**63) -> None:
        self._codec = codec = codec if backend.capabilities.encoded else None
        self._layers: CodecLayer | None = getattr(codec, "layers", None)
        self._plain: Codec | None = codec if self._layers is None else getattr(codec, "plain", None)
        self._most = most
        self.strict = backend.capabilities.strict
        self.appends = backend.capabilities.appends and codec is not None

    def encode(self, key: str, value: Any, run_id: str | None = None, *, own: bool = False) -> Any:
        """Return `value` as the store keeps it. Raises SerializationError naming run and key.

        With `own`, it is not a value of the run's data, and `key` is its name in messages.
        """
        if not own and key.startswith("\0"):  # the last door, also for data that no view has checked
            error = SerializationError("a key must not begin with NUL; choose another")
            raise _named(error, "stored", key, run_id, own=own)
        if self._codec is None:
            return isolate(value)
        try:
            return self._codec.encode(value)
        except Exception as error:
            raise _named(error, "stored", key, run_id, own=own) from error

    def decode(self, key: str, value: Any, run_id: str, *, own: bool = False, total: Total | None = None) -> Any:
        """Return the value that `encode` was given. Raises SerializationError naming run and key.

        Its size, without layers, is added to `total`.
        """
        if self._plain is None:
            return isolate(value)
        if value.__class__ is Appended:
            return self._joined(key, value, run_id, total)
        try:
            plain = value if self._layers is None else self._layers.unwrap(value)
            if total is not None:
                total.add(len(plain))
            return self._plain.decode(plain)
        except Exception as error:
            raise _named(error, "read", key, run_id, own=own) from error

    def encoded_item(self, name: str, item: Any, run_id: str) -> Any:
        """Return an item of a stream, encoded without the store's layers: these get a whole chunk."""
        if self._plain is None:
            return isolate(item)
        try:
            return self._plain.encode(item)
        except Exception as error:
            raise _named(error, "stored", name, run_id, own=True) from error

    def item(self, name: str, item: Any, run_id: str) -> Any:
        """Return the item that `encoded_item` was given."""
        if self._plain is None:
            return isolate(item)
        try:
            return self._plain.decode(item)
        except Exception as error:
            raise _named(error, "read", name, run_id, own=True) from error

    def _joined(self, key: str, parts: Appended, run_id: str, total: Total | None) -> list[Any]:
        """Return the list whose parts are encoded. The first may be of a subclass of `list`."""
        lists = [self.decode(key, part, run_id, total=total) for part in parts]
        if not all(isinstance(some, list) for some in lists):
            raise _named(SerializationError("a part of it is not a list"), "read", key, run_id, own=False)
        for some in lists[1:]:
            lists[0].extend(some)
        return lists[0]  # type: ignore[no-any-return]

    def without_layers(self, key: str, value: Any, run_id: str, *, own: bool = False) -> Any:
        """Return an encoded value without the store's layers. Raises SerializationError naming run and key."""
        return value if self._layers is None else self._passed(self._layers.unwrap, "read", key, value, run_id, own)

    def with_layers(self, key: str, value: Any, run_id: str, *, own: bool = False) -> Any:
        """Return a value without layers as the store keeps it. Raises SerializationError naming run and key."""
        return value if self._layers is None else self._passed(self._layers.wrap, "stored", key, value, run_id, own)

    def _passed(self, work: Callable[[bytes], bytes], act: str, key: str, value: Any, run_id: str, own: bool) -> Any:
        try:
            return work(value)
        except Exception as error:
            raise _named(error, act, key, run_id, own=own) from error

    def own(self, name: str, values: Mapping[str, Any], run_id: str) -> Any:
        """Return one of this plugin's and the engine's encoded `values`, decoded; None if it is not among them."""
        stored = values.get(name)
        return None if stored is None else self.decode(name, stored, run_id, own=True)

    def encode_own(self, values: Mapping[str, Any], run_id: str | None = None) -> dict[str, Any]:
        """Return this plugin's and the engine's values, by name, as the store keeps them."""
        return {name: self.encode(name, value, run_id, own=True) for name, value in values.items()}

    def digest(self, data: Mapping[str, Any]) -> bytes | None:
        """Return a digest of data, without the store's layers; None if the store keeps objects."""
        if self._codec is None:
            return None
        from hashlib import blake2b  # late: importing it takes 1 ms

        plain: Codec = getattr(self._codec, "plain", self._codec)
        digest = blake2b(digest_size=16)
        for key in sorted(data):
            for part in (key.encode(errors="surrogatepass"), plain.encode(data[key])):
                digest.update(len(part).to_bytes(8) + part)
        return digest.digest()

    def total(self) -> Total:
        """Return a count of the bytes that are read of one run."""
        return Total(self._most)

    def data(self, encoded: Mapping[str, Any], run_id: str, total: Total | None = None) -> dict[str, Any]:
        """Return the values of a run's data, decoded. Several calls for one run share a `total`."""
        total = total or self.total()
        return {key: self.decode(key, value, run_id, total=total) for key, value in encoded.items()}

    def changes(self, changed: Mapping[str, Any], run_id: str, total: Total) -> dict[str, Any]:
        """Return the values that a transition set, decoded. Those that it appended to have the new items as parts."""
        found = {}
        for key, value in changed.items():
            decoded = self.decode(key, value, run_id, total=total)
            found[key] = Appended(decoded) if value.__class__ is Appended else decoded
        return found

    async def all_data(self, record: RunRecord, clock: Clock) -> dict[str, Any]:
        """Return the values of a run's data, decoded without blocking the event loop."""
        return await off_loop(count_of(record.data), lambda: self.data(record.data, record.run_id), clock)

    def payload(self, payload: Any, run_id: str) -> Any:
        """Return a signal's payload as a task sees it. Raises SerializationError."""
        return None if payload is None else self.decode("the signal's payload", payload, run_id, own=True)

    def view(self, data: dict[str, Any]) -> StoreView:
        """Return the tasks' view of a run's data."""
        return StrictView(data, None, self._copy) if self.strict else StoreView(data)

    def _copy(self, value: Any) -> Any:
        """Return a copy of `value`; for a strict store, through the codec, so that encoding errors show at once."""
        if self._codec is None or not self.strict:
            return isolate(value)
        return self._codec.decode(self._codec.encode(value))


class StrictView(StoreView):
    """A view whose values pass through the codec when a task puts them. Errors name the key."""

    __slots__ = ()

    def put(self, key: Any, value: Any) -> None:
        """See `KeyValueStore.put`."""
        TypedStore.put(self, key, value)  # without the shortcut for immutable values, which a layer may refuse, too

    def _set(self, key: str, value: Any) -> None:
        if value.__class__ in IMMUTABLE:
            self._copy(key, value)
        StoreView._set(self, key, value)

    def detached(self, reads: set[str] | None = None) -> StrictView:
        """See `StoreView.detached`."""
        return StrictView(self.base, self._apply, self._isolate, reads=reads)


def _named(error: Exception, act: str, key: str, run_id: str | None, *, own: bool) -> StoreError:
    """Return `error` with the run and the key in its message and its attributes.

    Any error that is not the store's is of the value's own code, of its depth, or the codec's.
    """
    where = f"{'' if run_id is None else f'run {run_id}, '}{key if own else f'key {key!r}'}"
    if isinstance(error, StoreUnavailableError):
        return StoreUnavailableError(f"{where}: {error}", key=key, run_id=run_id)
    if not isinstance(error, SerializationError):
        error = SerializationError(f"it cannot be {act}: {error_text(error)}")
    return SerializationError(f"{where}: {error}", key=key, run_id=run_id, expected=error.expected, actual=error.actual)
