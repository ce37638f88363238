"""Imports a run from a file: the whole file is checked before the first write.

The run is written under a lease of its own, and no call shows it before it is whole. If the process is killed
meanwhile, the next import of the same run begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import suppress
from itertools import chain
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

from cano import (
    Appended,
    Commit,
    ConfigurationError,
    ConflictError,
    Lane,
    RunExistsError,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    StoreError,
    Transition,
)
from cano.engine.ports import Host, lives, new_holder
from cano.options import refuse

from cano_durability.carrying.exporting import check_encoded, sealing_of
from cano_durability.identity import was_discarded
from cano_durability.keys import IMPORT, IMPORTED, IMPORTING, MARK, WAIT
from cano_durability.patience import despite_cancellation
from cano_durability.restating import restated
from cano_durability.run_files.frames import CHUNK
from cano_durability.run_files.packing import Consumed
from cano_durability.run_files.reading import RunFile
from cano_durability.stored_runs import StoredRuns

LEASE = 100 * 365 * 86_400.0
"""Seconds of the lease of a run that no process is to execute by itself."""
IN_MEMORY = 2**20
"""Bytes of a file that is not read from a disk which are kept in memory; a longer one goes to a temporary file."""
_ALIVE = ":import"  # the name of an importing process ends so: no kernel takes its run, since it is not a kernel's name

Source = bytes | BinaryIO | Iterable[bytes] | AsyncIterable[bytes]


async def import_run(kernel: Host, stored: StoredRuns, source: Source, new_run_id: str | None) -> str:
    """See `Kernel.import_run`."""
    check_encoded(kernel, stored.backend)
    with SpooledTemporaryFile(IN_MEMORY) as spool:
        opened = await _seekable(source, cast(BinaryIO, spool))
        file = RunFile(opened, kernel.limits, sealing_of(stored.backend))
        items = file.items()
        run: RunRecord = next(items)
        for number, _ in enumerate(items):
            if number % 100 == 99:
                await asyncio.sleep(0)  # a long file must not block the event loop
        if file.parts and not stored.backend.capabilities.appends:
            problem = f"the run has lists in parts, and the store {kernel.store_name} has no `appends`"
            raise ConfigurationError(f"{problem}; import it into another", run_id=run.run_id)
        if not stored.backend.capabilities.queues:
            if run.lane not in (None, Lane()):
                problem = f"the run is in the queue {run.queue!r}, and the store {kernel.store_name} has no `queues`"
                raise ConfigurationError(f"{problem}; import it into another", run_id=run.run_id)
            run = run._replace(lane=None)
        importer = _Importer(kernel, stored, run, new_run_id or run.run_id, file)
        with stored.holding:
            if not await importer.is_there():
                await importer.write()
        return importer.run_id


async def _seekable(source: Source, spool: BinaryIO) -> BinaryIO:
    """Return the source as a file that can be read twice, in `spool` unless it is one."""
    parts: Iterable[object] | AsyncIterable[object] = [source]
    if hasattr(source, "read"):
        file = cast(BinaryIO, source)
        if file.seekable() and file.tell() == 0 and isinstance(file.read(0), bytes):
            return file
        parts = iter(lambda: file.read(CHUNK), b"")
    elif isinstance(source, Iterable | AsyncIterable) and not isinstance(source, bytes | str):
        parts = source
    if isinstance(parts, AsyncIterable):
        async for part in parts:
            _put(spool, part)
    else:
        for part in parts:
            _put(spool, part)
    return spool


def _put(spool: BinaryIO, part: object) -> None:
    if not isinstance(part, bytes):
        refuse("source", part, "the bytes of an exported run, a file opened with 'rb', or an iterable of bytes")
    spool.write(part)


class _Importer:
    """Writes one run."""

    def __init__(self, kernel: Host, stored: StoredRuns, run: RunRecord, run_id: str, file: RunFile) -> None:
        self._kernel = kernel
        self._stored = stored
        self._backend = stored.backend
        self._file = file
        self._digest = file.digest
        self._from = run.run_id
        self.run_id = run_id
        mark = stored.values.encode_own({IMPORT: [self._digest, run.run_id]}, run_id)
        if run.wait is not None and run.wait.own:  # its child is not in this store: the step begins again
            run = run._replace(status=RunStatus.RUNNING, wait=None)
        self._run = run._replace(
            run_id=run_id, data=self._layered(run.data), own={**self._layered(run.own, own=True), **mark},
            payload=self._payload(run.payload),
        )  # fmt: skip
        self._mark = mark
        stored.check(self._run)

    async def is_there(self) -> bool:
        """Return whether this file was imported already under the id. Make room if another process was killed here.

        Raises:
            RunExistsError: another run has the id.
            ConflictError: another process is importing it.
        """
        if self.run_id == MARK:
            raise self._taken("this id is kept for encrypted stores", None)
        found = await self._backend.load(self.run_id)
        if found is None:
            if self.run_id in self._kernel.active:
                raise self._taken("this kernel executes a run with this id", None)
            waiting = await self._backend.signals(self.run_id)
            if waiting.waiting or waiting.consumed or waiting.answered:
                raise self._taken("signals were sent to this id, and wait for its run", None)
            return False
        if found.holder is not None and found.holder.startswith(IMPORTING):
            if not await discard(self._stored, self.run_id):
                raise ConflictError(importing(found), run_id=self.run_id)
            return False
        mark = self._stored.values.own(IMPORT, found.own, self.run_id)
        if not (isinstance(mark, list) and mark[:1] == [self._digest]):
            raise self._taken("another run has this id", found.workflow)
        return True

    def _taken(self, problem: str, workflow: str | None) -> RunExistsError:
        message = (
            f"run {self._from} cannot be imported as {self.run_id!r}: {problem}; import it under another id, with "
        )
        return RunExistsError(f"{message}new_run_id= (`--id`)", run_id=self.run_id, workflow=workflow)

    async def write(self) -> None:
        """Write the run. If that fails, nothing of it stays."""
        backend, clock = self._backend, self._stored.clock
        expires = self._stored.now() + LEASE
        try:
            await self._fill(expires)
            if self._run.status.finished:
                await backend.release(self.run_id, self._run.token)
            else:  # no worker is to execute it by itself: it may run elsewhere, too
                if await backend.claim(self.run_id, IMPORTED, expires + 1, expires + LEASE) is None:
                    raise ConflictError(f"run {self.run_id} was taken while it was imported", run_id=self.run_id)
        except BaseException:
            with suppress(StoreError):
                await despite_cancellation(discard(self._stored, self.run_id, expires), clock)
            raise

    async def _fill(self, expires: float) -> None:
        """Create the run, and commit all that was committed to it, under a lease of this process."""
        backend, run = self._backend, self._run
        holder = f"{IMPORTING}{new_holder()}{_ALIVE}"
        items = iter(self._file.items())
        next(items)
        first = next(items, None)
        record = run._replace(holder=holder, expires=expires, attributes=self._stored.findable(run))
        # without the first entries, the data at the others is not known
        whole = isinstance(first, Transition) and not was_discarded(run, first) and backend.capabilities.history
        if isinstance(first, Transition) and whole:
            record = record._replace(
                state=first.state, seq=first.seq, status=first.status, data=self._layered(first.changed),
                own={**self._layered(first.own, own=True), **self._mark}, updated=first.at, error=None, wait=None,
                payload=None,
            )  # fmt: skip
            first = None
        if await self._stored.create(record) is not None:
            raise ConflictError(f"another process has just made run {self.run_id}; repeat the call", run_id=self.run_id)
        seq = record.seq
        for item in chain([] if first is None else [first], items):
            if isinstance(item, Transition):
                if whole:
                    await backend.commit(self._commit(item, record.token, seq))
                    seq = item.seq
            elif isinstance(item, Signal):
                if not item.own or item.name == WAIT:  # others are for the runs of another store
                    await backend.put_signal(self.run_id, item._replace(payload=self._payload(item.payload)))
            else:
                await self._consume(item, record, seq)
        if self._file.digest != self._digest:
            raise ConflictError("the file was changed while its run was imported; repeat the call", run_id=self.run_id)
        await self._complete(record.token)

    def _commit(self, entry: Transition, token: int, seq: int) -> Commit:
        return Commit(
            run_id=self.run_id, token=token, expected_seq=seq, seq=entry.seq, state=entry.state,
            status=entry.status, changed=self._layered(entry.changed), removed=entry.removed,
            own=self._layered(entry.own, own=True), own_removed=entry.own_removed, at=entry.at,
        )  # fmt: skip

    async def _consume(self, ids: Consumed, record: RunRecord, seq: int) -> None:
        """Keep that signals with these ids were consumed: a second signal with one of them is ignored."""
        for own, to, id in ids.keys:
            await self._backend.put_signal(self.run_id, Signal(id, "", own=own, to=to))
        commit = restated(record._replace(seq=seq, status=RunStatus.RUNNING, wait=None), record.token, record.updated)
        _, consumed, own_consumed, answered = Signals.of((), ids.keys)
        await self._backend.commit(commit._replace(consumed=consumed, own_consumed=own_consumed, answered=answered))

    async def _complete(self, token: int) -> None:
        """Commit what no transition has: the run as it is."""
        run, copy = self._run, await self._backend.load(self.run_id)
        if copy is None:
            raise ConflictError(f"run {self.run_id} was deleted while it was imported", run_id=self.run_id)
        changed, removed = self._changes(run.data, copy.data)
        own, own_removed = self._changes(run.own, copy.own, own=True)
        audit = self._stored.audited(self.run_id, "import", f"of run {self._from}")
        await self._backend.commit(
            Commit(
                run_id=self.run_id, token=token, expected_seq=copy.seq, seq=run.seq, state=run.state,
                status=run.status, changed=changed, removed=removed, error=run.error, wait=run.wait,
                payload=run.payload, own=own, own_removed=own_removed, at=run.updated,
            ),
            *audit,
        )  # fmt: skip

    def _changes(
        self, wanted: Mapping[str, Any], there: Mapping[str, Any], *, own: bool = False
    ) -> tuple[dict[str, Any], list[str]]:
        """Return the values to set and the keys to remove that turn `there` into `wanted`."""
        plain = self._stored.values.without_layers

        def differs(key: str) -> bool:
            one, other = (
                Appended.mapped(some[key], lambda part: plain(key, part, self.run_id, own=own))
                for some in (wanted, there)
            )
            return one.__class__ is not other.__class__ or one != other

        changed = {key: value for key, value in wanted.items() if key not in there or differs(key)}
        gone = [key for key in there if key not in wanted or (key in changed and changed[key].__class__ is Appended)]
        return changed, gone

    def _layered(self, values: Mapping[str, Any], *, own: bool = False) -> dict[str, Any]:
        layered, run_id, found = self._stored.values.with_layers, self.run_id, dict[str, Any]()
        for key, value in values.items():
            parts = value if value.__class__ is Appended else (value,)
            made = [layered(key, part, run_id, own=own) for part in parts]
            found[key] = Appended(made) if value.__class__ is Appended else made[0]
        return found

    def _payload(self, payload: Any) -> Any:
        if payload is None:
            return None
        return self._stored.values.with_layers("the signal's payload", payload, self.run_id, own=True)


def importing(record: RunRecord) -> str:
    """Return that a run is being imported, and what to do if it is not any more."""
    holder = (record.holder or "").removeprefix(IMPORTING).removesuffix(_ALIVE)
    return (
        f"run {record.run_id} is being imported by {holder}; if that process is gone, call "
        f"kernel.delete({record.run_id!r})"
    )


async def discard(stored: StoredRuns, run_id: str, expires: float | None = None) -> bool:
    """Delete what an import has left, if its process is dead, or its lease expires at `expires`. Return success."""
    with suppress(SerializationError):
        record = await stored.backend.load(run_id)
        if record is None or record.holder is None or not record.holder.startswith(IMPORTING):
            return False
        gone = lives(record.holder.removesuffix(_ALIVE)) is False
        if gone if expires is None else record.expires == expires:
            return await stored.backend.delete(run_id)
    return False
