"""The mark of a sealed store: a record of its own that tells every process that the store is encrypted."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from cano import (
    Commit,
    ConfigurationError,
    ConflictError,
    ContextLayer,
    LayerContext,
    RewritingStore,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    StoreBackend,
    Wait,
)

from cano_durability.keys import MARK

SAMPLE = 10
"""Number of runs that are read to see whether the layers are those of the store."""
_KEY = "mark"
_WAIT = Wait(then="sealed", signal=MARK)  # always parked, so that no kernel executes the record as a run


class Mark(NamedTuple):
    """The facts that a sealed store keeps of itself.

    Attributes:
        store: its id. Each value is bound to it, so that no value comes from another store.
        old: whether it has runs from before it was sealed, which are read as they are.
    """

    store: str
    old: bool


def mark_place(namespace: str) -> LayerContext:
    """Return the place of the mark of a store, or of a part of one."""
    return LayerContext("", MARK, _KEY, namespace=namespace)


async def marked(
    store: StoreBackend, layer: ContextLayer, names: Sequence[str], place: LayerContext
) -> tuple[Mark, bool]:
    """Return the mark of an open store, and whether it is new. Make it if there is none.

    Raises:
        ConfigurationError: an ordinary run, of an earlier version, has its id.
        SerializationError: it cannot be read.
    """
    record = await store.load(MARK)
    if new := record is None:
        old = bool(await store.runs(RunFilter(limit=1)) or await store.missing_recipients())
        try:
            await _check_layer(store, layer)
        except SerializationError:
            if await store.load(MARK) is None:  # otherwise another process has just sealed the store
                raise
        mark = Mark(os.urandom(16).hex(), old)
        record = await store.create(
            RunRecord(
                run_id=MARK, workflow=MARK, version="1", fingerprint=",".join(names), state="sealed",
                status=RunStatus.PARKED, data={_KEY: _packed(layer, mark, place)}, wait=_WAIT,
            )
        )  # fmt: skip
    if record.workflow != MARK:
        raise ConfigurationError(
            f"the store has a run with the id {MARK!r}, which encrypted stores need; delete it before you name codec=",
            run_id=MARK,
        )
    mark = _unpacked(layer, record, place)
    if not layer.is_current(record.data[_KEY]):  # so that the older key can be removed one day
        await _store(store, layer, record, mark, place)
    return mark, new


async def _check_layer(store: StoreBackend, layer: ContextLayer) -> None:
    """Check that `layer` can read an existing store before it is marked, since from then on it must be named.

    Raises:
        SerializationError: it reads no value of the newest runs.
    """
    problem: SerializationError | None = None
    for listed in await store.runs(RunFilter(limit=SAMPLE)):
        try:
            record = await store.load(listed.run_id)
            for key, value in () if record is None else record.data.items():
                layer.unwrap_in(value, LayerContext("", listed.run_id, key, None, False))
                return
        except SerializationError as error:
            problem = error
    if problem is not None:
        raise SerializationError(f"the layers of codec= cannot read the store: {problem}") from problem


async def renew_mark(store: StoreBackend, layer: ContextLayer, place: LayerContext) -> None:
    """Store that every run of the store is sealed."""
    record = await store.load(MARK)
    if record is not None:
        await _store(store, layer, record, _unpacked(layer, record, place)._replace(old=False), place)


async def check_unmarked(store: StoreBackend, name: str) -> None:
    """Check that a store which is opened without an encrypting layer is not a sealed one.

    Args:
        store: the open store.
        name: its name for messages.

    Raises:
        ConfigurationError: it is.
    """
    record = await store.load(MARK)
    if record is not None and record.workflow == MARK:
        raise ConfigurationError(
            f"the store {name} is encrypted, and its URL does not say how; add codec={record.fingerprint} with the "
            "arguments that its other processes use, and give this process their keys"
        )


async def _store(store: StoreBackend, layer: ContextLayer, record: RunRecord, mark: Mark, place: LayerContext) -> None:
    commit = Commit(
        run_id=MARK, token=record.token, expected_seq=record.seq, seq=record.seq + 1, state="sealed",
        status=RunStatus.PARKED, changed={_KEY: _packed(layer, mark, place)}, wait=_WAIT,
    )  # fmt: skip
    try:
        await store.commit(commit)
        if isinstance(store, RewritingStore):  # no older key is needed, though no call reads these entries
            entries = [entry._replace(changed=commit.changed) for entry in await store.history(MARK)]
            await store.rewrite(commit._replace(expected_seq=commit.seq), entries)
    except ConflictError:  # another process has just done the same
        if await store.load(MARK) is None:
            raise


def _packed(layer: ContextLayer, mark: Mark, place: LayerContext) -> bytes:
    return layer.wrap_in(json.dumps(mark._asdict()).encode(), place)


def _unpacked(layer: ContextLayer, record: RunRecord, place: LayerContext) -> Mark:
    try:
        found = json.loads(layer.unwrap_in(record.data[_KEY], place))
        return Mark(str(found["store"]), bool(found["old"]))
    except (SerializationError, LookupError, TypeError, ValueError) as error:
        raise SerializationError(
            f"the store's own record {MARK!r} cannot be read: {error}; check the keys, or restore it from a backup",
            run_id=MARK,
        ) from error
