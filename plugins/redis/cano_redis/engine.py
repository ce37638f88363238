"""An open store: turns calls into scripts with arguments, and their answers into results."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

from cano import (
    AuditEntry,
    ClaimedRun,
    Commit,
    ConflictError,
    HeldSlot,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    Signals,
    SlotRequest,
    StreamChunk,
    Transition,
)
from cano_msgspec.ends import Ends, pack_ids
from cano_msgspec.packing import pack_extra, payload_bytes, stale, unreadable

from cano_redis import audit, reading, scripts, streams
from cano_redis.news import News
from cano_redis.packing import field_of, number, pack_line, pairs, split, text, texts, time
from cano_redis.pump import Pump
from cano_redis.records import claimed, fields, whole
from cano_redis.server import Server
from cano_redis.settings import Settings
from cano_redis.url import CAPABILITIES

_KINDS = b"", b"own-"
"""Signals of users, and the engine's own: how their keys begin."""

_ENDED = b"status:succeeded", b"status:failed", b"status:cancelled"

_SLACK = 1.0
"""Seconds that a run may have been created after its end, by a clock that was set back."""

PAGE = 256
"""The most records in one answer, since the server does nothing else meanwhile."""


class Engine:
    """The connections of an open store. See `StoreBackend` for the methods."""

    def __init__(self, settings: Settings, found: Callable[[Server], None], closed: str) -> None:
        self.capabilities = CAPABILITIES._replace(strict=settings.strict)
        self._pump = Pump(settings, found, closed)
        self._tag = os.urandom(8)
        self._news = News(settings, self._tag, settings.channel)
        self._ends = Ends(partial(self._tell, settings.channel), logging.getLogger("cano.redis"))
        self._streams = News(settings, self._tag, settings.stream_channel)
        self._streamed = Ends(partial(self._tell, settings.stream_channel), logging.getLogger("cano.redis"))
        self._ops = count()
        self._keys = settings.keys
        self._channel = settings.channel

    async def open(self) -> None:
        """Connect. Raise StoreUnavailableError if that fails."""
        await self._pump.open()
        try:
            await self._news.open()
        except BaseException:
            await self._pump.close()
            raise

    async def close(self) -> None:
        """Finish the calls under way, and disconnect."""
        await self._news.close()
        await self._streams.close()
        await self._ends.close()
        await self._streamed.close()
        await self._pump.close()

    async def _tell(self, channel: bytes, run_ids: Sequence[str]) -> None:
        """Notify other backends of these runs."""
        await self._ask(scripts.TELL, channel, self._tag + pack_ids(run_ids).encode())

    def watch(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with notifications from now on."""
        self._news.watch(tell)

    def watch_streams(self, tell: Callable[[str | None], None]) -> None:
        """Call `tell` with notifications of chunks from now on."""
        self._streams.watch(tell)
        self._streams.start()

    # runs

    async def create(self, run: RunRecord, entry: AuditEntry | None = None) -> RunRecord:
        try:
            record, own, (data, appended) = fields(run), pairs(run.own), split(run.data)
            made = run.data, (), run.own, ()
            line = pack_line(self._op(), run.seq, run.state, run.status.value, run.created, made)
        except SerializationError as error:
            raise _of(error, run.run_id) from None
        parent = b"" if run.parent is None else text(run.parent)
        news = self._news_of(run.run_id) if run.holder is None else (b"", b"")
        script, more = scripts.CREATE, tuple[bytes, ...]()
        if run.attributes:
            script, more = scripts.CREATE_WITH_ATTRIBUTES, _packed(run.attributes)
        answer = await self._do(
            script, run.run_id, time(run.created), run.status.value.encode(), text(run.workflow),
            b"0" if run.parent is None else b"1", parent, line, *news,
            *(b"%d" % len(some) for some in (record, own, data)), *record, *own, *data, *appended, *more, entry=entry,
        )  # fmt: skip
        return run if answer == 1 else whole(run.run_id, answer)

    async def load(self, run_id: str) -> RunRecord | None:
        answer = await self._do(scripts.LOAD, run_id)
        return None if answer is None else whole(run_id, answer)

    async def commit(self, commit: Commit, entry: AuditEntry | None = None) -> None:
        attributes = None if commit.attributes is None else _packed(commit.attributes)
        if commit.chunks:
            script = scripts.COMMIT_WITH_CHUNKS if attributes is None else scripts.COMMIT_WITH_BOTH
            chunks = _chunks(commit.run_id, commit.chunks)
            try:
                await self._commit(script, commit, (*(attributes or ()), *chunks, b"%d" % len(chunks)), entry)
            finally:
                self._streamed.add(commit.run_id)
        elif attributes is None:
            await self._commit(scripts.COMMIT, commit, (), entry)
        else:
            await self._commit(scripts.COMMIT_WITH_ATTRIBUTES, commit, attributes, entry)

    async def _commit(
        self, script: scripts.Script, commit: Commit, more: Sequence[bytes], entry: AuditEntry | None = None
    ) -> None:
        try:
            arguments = self._arguments(commit)
        except SerializationError as error:
            raise _of(error, commit.run_id) from None
        try:
            answer = await self._do(script, commit.run_id, *arguments, *more, entry=entry)
        finally:  # a cancelled commit may have been applied
            if commit.release or commit.status.finished:
                self._ends.add(commit.run_id)
        if answer != 1:
            raise _stale(commit.run_id, commit.expected_seq, commit.token, answer)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        limit = -1 if filter.limit is None else max(filter.limit, 0)
        if limit == 0:
            return []
        await self._complete(filter)
        if filter.attributes is not None:
            answer = await self._search(filter, PAGE)
            others = filter._replace(attributes=None)
            return await self._records(answer, lambda run: reading.matches(run, others))
        answer = await self._ask(
            scripts.RUNS, b"%d" % limit, b"%d" % PAGE, *_after(filter), filter.order.encode(),
            *(_indexes(filter) or (b"runs",)),
        )  # fmt: skip
        return await self._records(answer, lambda run: reading.matches(run, filter))

    async def count(self, filter: RunFilter) -> int:
        await self._complete(filter)
        return int(await self._search(filter, 0))

    async def _complete(self, filter: RunFilter) -> None:
        """Note the ends of runs with the status of a filter, if some ended in a process of an earlier version."""
        if filter.status is not None and _indexes(filter)[0].startswith((b"end:", b"outcome:", b"error:")):
            status = filter.status.value.encode()
            if not await self._ask(scripts.NOTED, status):
                await self._note_ends(status)

    async def _note_ends(self, status: bytes) -> None:
        at = 0
        while await self._ask(scripts.NOTE_ENDS, status, b"%d" % at, b"%d" % (at + PAGE - 1)):
            at += PAGE

    async def attribute_names(self) -> Sequence[tuple[str, bytes]]:
        found = await self._ask(scripts.ATTRIBUTE_NAMES)
        return [(name.decode(errors="replace"), kind) for name, kind in zip(found[::2], found[1::2], strict=True)]

    async def _search(self, filter: RunFilter, page: int) -> Any:
        """Return the answer of the script that looks at each run with all attributes of a filter."""
        bounds = filter.created_after, filter.created_before, filter.updated_after, filter.updated_before
        indexes, attributes = _indexes(filter), filter.attributes or {}
        limit = -1 if filter.limit is None else max(filter.limit, 0)
        ranges = [
            (text(name), b"%d" % len(allowed), *(each for bounds in allowed for each in bounds))
            for name, allowed in attributes.items()
        ]
        return await self._ask(
            scripts.SEARCH, b"%d" % limit, b"%d" % page, *_after(filter), text(filter.state or ""),
            *(b"" if bound is None else time(bound) for bound in bounds), filter.order.encode(),
            b"%d" % len(indexes), *indexes,
            b"%d" % len(ranges), *(each for some in ranges for each in some),
        )  # fmt: skip

    async def ready(self, now: float, workflows: Collection[str] | None = None) -> Sequence[RunRecord]:
        wanted = b"1" if workflows is None else b"0"
        answer = await self._ask(scripts.READY, time(now), b"%d" % PAGE, wanted, *map(text, workflows or ()))
        return await self._records(answer, lambda run: reading.could_go_on(run, now))

    async def history(self, run_id: str) -> Sequence[Transition]:
        return await self.history_page(run_id, None, None)

    async def history_page(self, run_id: str, after: int | None, limit: int | None) -> Sequence[Transition]:
        found: list[Transition] = []
        last = -1 if after is None else after
        while limit is None or len(found) < limit:
            most = -1 if limit is None else limit - len(found)
            answer = await self._do(scripts.HISTORY, run_id, b"%d" % last, b"%d" % most)
            if answer is None:
                return []
            promised, count, first, lines = answer
            if promised != b"%d" % count:
                raise unreadable(run_id, "entries of its history are missing")
            found += reading.history(run_id, last, lines)
            if first + len(lines) >= count:
                break
            last = found[-1].seq
        return found

    async def discard_history(self, run_id: str, before: int) -> None:
        await self._do(scripts.DISCARD, run_id, b"%d" % before)

    async def rewrite(self, commit: Commit, entries: Sequence[Transition]) -> None:
        run_id, new, lines = commit.run_id, {entry.seq: entry for entry in entries}, list[bytes]()
        last, newest = min(new, default=0) - 1, max(new, default=-1)
        while last < newest:
            answer = await self._do(scripts.HISTORY, run_id, b"%d" % last, b"%d" % PAGE)
            if answer is None or not answer[3]:
                break
            _, _, first, some = answer
            lines += reading.rewritten(run_id, first, some, new)
            last = reading.seq_of(run_id, some[-1])
        await self._commit(scripts.REWRITE, commit, [*lines, b"%d" % (len(lines) // 2)])

    async def rewrite_signals(self, run_id: str, some: Sequence[Signal]) -> None:
        sent = [self._sent(run_id, signal) for signal in some]
        flat = [each for signal, (id, _, *payload) in zip(some, sent, strict=True) for each in (
            _KINDS[signal.own], id, *payload
        )]  # fmt: skip
        await self._do(scripts.REWRITE_SIGNALS, run_id, *flat)

    async def delete(self, run_id: str, entry: AuditEntry | None = None) -> bool:
        return bool(await self._do(scripts.DELETE, run_id, self._op(), *self._news_of(run_id), entry=entry))

    # pruning

    async def expired(
        self, retention: Retention, now: float, limit: int, after: tuple[float, str] | None = None
    ) -> Sequence[RunRecord]:
        age, keep = retention.max_seconds, retention.keep_last
        found: dict[str, RunRecord] = {}

        async def find(latest: float, gone: Callable[[RunRecord], bool], *indexes: bytes) -> None:
            found.update(await self._placed(after, latest, limit, gone, *indexes))

        if retention.on_terminal == "delete":
            await find(float("inf"), lambda run: True, *_ENDED)
            keep = None
        elif age is not None:
            await find(now - age + _SLACK, lambda run: now - run.updated > age, *_ENDED)
        if keep is not None:
            for workflow in await self._workflows(keep):
                if place := await self._ask(scripts.NTH_FINISHED, workflow, b"%d" % keep):
                    first = float(place[0]), place[1].decode()
                    await find(first[0], partial(_is_before, first), b"ended:" + workflow)
        return sorted(found.values(), key=lambda run: run.place)[:limit]

    async def _workflows(self, keep: int) -> Sequence[bytes]:
        """Return the workflows of which more than `keep` runs have finished."""
        complete, found = await self._ask(scripts.WORKFLOWS, b"%d" % keep)
        if not complete:  # runs have ended in a process of an earlier version
            for status in (b"succeeded", b"failed", b"cancelled"):
                await self._note_ends(status)
            _, found = await self._ask(scripts.WORKFLOWS, b"%d" % keep)
        names: Sequence[bytes] = found
        return names

    async def _placed(
        self,
        after: tuple[float, str] | None,
        latest: float,
        limit: int,
        wanted: Callable[[RunRecord], bool],
        *indexes: bytes,
    ) -> dict[str, RunRecord]:
        """Return up to `limit` wanted runs of some indexes, by their ids: the first ones that were created."""
        found: dict[str, RunRecord] = {}
        created, last = after or (float("-inf"), "")
        while len(found) < limit:
            answer = await self._ask(scripts.PLACED, time(created), text(last), time(latest), b"%d" % PAGE, *indexes)
            for run in reading.placed(answer):
                if len(found) < limit and wanted(run):
                    found[run.run_id] = run
                created, last = run.place
            if len(answer) < 3 * PAGE:
                break
        return found

    async def delete_finished(
        self, run_ids: Sequence[str], now: float, audit: AuditEntry | None = None
    ) -> Sequence[str]:
        ids, gone = list(dict.fromkeys(run_ids)), list[str]()
        for at in range(0, len(ids), PAGE):
            runs = [
                (text(run_id), *((b"", b"") if audit is None else self._entry(audit._replace(run_id=run_id))))
                for run_id in ids[at : at + PAGE]
            ]
            answer = await self._ask(
                scripts.DELETE_FINISHED, self._op(), time(now), self._channel, self._tag + pack_ids(()).encode(),
                *(each for run in runs for each in run),
            )  # fmt: skip
            gone += [run_id.decode() for run_id in answer]
        return gone

    def _entry(self, entry: AuditEntry) -> tuple[bytes, bytes]:
        return audit.pack(self._op(), entry)

    # leases

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        answer = await self._do(scripts.CLAIM, run_id, self._op(), text(holder), time(now), time(expires))
        return None if answer is None else int(answer)

    async def claim_ready(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str] = (),
    ) -> Sequence[ClaimedRun]:
        if limit <= 0 or not definitions:
            return []
        answer = await self._ask(
            scripts.CLAIM_READY, self._op(), text(holder), time(now), time(expires), b"%d" % min(limit, PAGE),
            b"%d" % len(definitions), *(text(part) for each in definitions for part in each), *map(text, skip),
        )  # fmt: skip
        return [claimed(*answer[at : at + 4]) for at in range(0, len(answer), 4)]

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        leases = [(text(run_id), number(token)) for run_id, token in tokens.items()]
        answers = await asyncio.gather(
            *(
                self._ask(scripts.RENEW, text(holder), time(expires), *(each for lease in some for each in lease))
                for some in (leases[at : at + PAGE] for at in range(0, len(leases), PAGE))
            )
        )
        return [run_id.decode() for lost in answers for run_id in lost]

    async def release(self, run_id: str, token: int) -> None:
        await self._do(scripts.RELEASE, run_id, number(token), *self._news_of(run_id))

    # signals

    async def put_signal(self, run_id: str, signal: Signal, entry: AuditEntry | None = None) -> None:
        await self._put(run_id, signal, b"", entry)

    async def put_signal_within(self, run_id: str, signal: Signal, most: int, entry: AuditEntry | None = None) -> bool:
        return await self._put(run_id, signal, b"%d" % most, entry)

    async def _put(self, run_id: str, signal: Signal, most: bytes, entry: AuditEntry | None) -> bool:
        sent = self._sent(run_id, signal)
        kind = _KINDS[signal.own]
        answer = await self._do(scripts.PUT_SIGNAL, run_id, *sent, *self._news_of(run_id), kind, most, entry=entry)
        return bool(answer != 2)

    def _sent(self, run_id: str, signal: Signal) -> tuple[bytes, bytes, bytes, bytes]:
        """Return a signal's id, name, whether it has a payload, and that."""
        try:
            payload = payload_bytes(signal.payload)
            return field_of(signal.key), text(signal.name), b"0" if payload is None else b"1", payload or b""
        except SerializationError as error:
            raise _of(error, run_id) from None

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        answer = await self._do(scripts.TAKE_SIGNAL, run_id, text(name), _KINDS[own])
        return None if answer is None else reading.signal(run_id, name, own, *answer)

    async def signals(self, run_id: str) -> Signals:
        return reading.signals(run_id, *await self._do(scripts.SIGNALS, run_id))

    async def missing_recipients(self) -> Sequence[str]:
        return [run_id.decode(errors="replace") for run_id in await self._ask(scripts.RECIPIENTS)]

    # streams

    async def write_stream(self, run_id: str, token: int, chunks: Sequence[StreamChunk]) -> None:
        some = _chunks(run_id, chunks)
        try:
            answer = await self._do(scripts.WRITE_STREAM, run_id, number(token), *some, b"%d" % len(some))
        finally:  # a cancelled call may have been done
            self._streamed.add(run_id)
        if answer != 1:
            raise _stale(run_id, 0, token, answer)

    async def rewrite_stream(self, run_id: str, chunks: Sequence[StreamChunk]) -> None:
        await self._do(scripts.REWRITE_STREAM, run_id, *_chunks(run_id, chunks))

    async def read_stream(self, run_id: str, channel: str, after: int, limit: int) -> Sequence[StreamChunk]:
        wanted = text(channel), b"%d" % after, b"%d" % limit
        return streams.unpacked(run_id, channel, await self._do(scripts.READ_STREAM, run_id, *wanted))

    async def channels(self, run_id: str) -> Sequence[str]:
        return [name.decode(errors="replace") for name in await self._do(scripts.CHANNELS, run_id)]

    # slots

    async def take_slots(self, request: SlotRequest, now: float, at: float | None = None) -> float:
        run_id, token, seq, wanted, since, lenders = request
        answer = await self._do(
            scripts.TAKE_SLOTS, run_id, number(token), b"" if seq is None else number(seq), time(now),
            b"" if at is None else time(at), time(since), b"%d" % len(lenders), *map(text, lenders),
            *(each for name, size, interval in wanted for each in (text(name), b"%d" % size, time(interval))),
        )  # fmt: skip
        if isinstance(answer, list):
            raise _stale(run_id, seq or 0, token, answer)
        return float(answer)

    async def give_slots(self, run_id: str, token: int, names: Sequence[str]) -> None:
        for waiting in await self._do(scripts.GIVE_SLOTS, run_id, number(token), *map(text, names)):
            self._ends.add(waiting.decode())

    async def slots(self, names: Sequence[str] | None = None) -> Sequence[HeldSlot]:
        flat = await self._ask(scripts.SLOTS, b"1" if names is None else b"0", *map(text, sorted(set(names or ()))))
        found = [
            HeldSlot(name.decode(), int(size), run_id.decode(), float(since), kind == b"w")
            for name, run_id, size, kind, since in zip(*(iter(flat),) * 5, strict=True)
        ]
        return sorted(found, key=lambda slot: (slot.name, slot.waits, slot.since, slot.run_id))

    # audit

    async def add_audit(self, entries: Sequence[AuditEntry]) -> None:
        packed = [audit.pack(self._op(), entry) for entry in entries]
        for at in range(0, len(packed), PAGE):
            await self._ask(scripts.ADD_AUDIT, *(each for some in packed[at : at + PAGE] for each in some))

    async def audit(self, run_id: str | None, limit: int | None) -> Sequence[AuditEntry]:
        if limit is not None and limit <= 0:
            return []
        name = b"audit" if run_id is None else b"audit:" + text(run_id)
        return audit.unpack(await self._ask(scripts.LIST_AUDIT, name, b"%d" % (limit or 0)))

    async def prune_audit(self, before: float, entry: AuditEntry) -> int:
        return int(await self._ask(scripts.PRUNE_AUDIT, time(before), *audit.pack(self._op(), entry)))

    # scripts

    async def _do(self, script: scripts.Script, run_id: str, *arguments: bytes, entry: AuditEntry | None = None) -> Any:
        """Run a script for one run, with an entry for the audit, if there is one; and return its answer."""
        try:
            id = text(run_id)
        except SerializationError as error:
            raise _of(error, run_id) from None
        if entry is not None:
            script, arguments = scripts.AUDITED[script], (*arguments, *audit.pack(self._op(), entry))
        keys = self._keys
        return await self._pump.do(script, keys + b"run:" + id, (keys, id, *arguments), run_id)

    async def _ask(self, script: scripts.Script, *arguments: bytes) -> Any:
        """Run a script for many runs, and return its answer."""
        return await self._pump.do(script, self._keys + b"runs", (self._keys, *arguments))

    async def _records(self, answer: Any, wanted: Callable[[RunRecord], bool]) -> list[RunRecord]:
        """Return the wanted records of an index. The answer has the first ones; fetch the rest page by page."""
        members, page = answer
        found = list(filter(wanted, reading.records(page)))
        for at in range(PAGE, len(members), PAGE):
            page = await self._ask(scripts.RECORDS, *members[at : at + PAGE])
            found += filter(wanted, reading.records(page))
        return found

    def _op(self) -> bytes:
        """Return a new id for a call, by which its script recognises a repetition."""
        return self._tag + next(self._ops).to_bytes(8, "big")

    def _news_of(self, run_id: str) -> tuple[bytes, bytes]:
        return self._channel, self._tag + pack_ids([run_id]).encode(errors="replace")

    def _arguments(self, commit: Commit) -> list[bytes]:
        """Return the arguments of the commit script. Raise SerializationError if a value cannot be stored."""
        seq, expected, status, wait = commit.seq, commit.expected_seq, commit.status, commit.wait
        removed, release = commit.removed, commit.release
        own, own_removed = pairs(commit.own), commit.own_removed
        op, at, (changed, appended) = self._op(), commit.at, split(commit.changed)
        made = (commit.changed, removed, commit.own, own_removed) if seq != expected else None
        rest = texts(removed), *_consumed(commit), texts(own_removed), own
        plain = made is not None and status is RunStatus.RUNNING and not (release or any(rest))
        arguments = [
            op, number(commit.token), number(expected), number(seq), status.value.encode(), text(commit.state),
            time(at), pack_extra(commit.error, wait, commit.payload) or b"",
            pack_line(op, seq, commit.state, status.value, at, made), b"1" if plain else b"0",
            b"%d" % len(changed), b"%d" % len(appended), *changed, *appended,
        ]  # fmt: skip
        if plain:
            return arguments
        waits = wait if status is RunStatus.PARKED else None
        until = b"" if waits is None or waits.until is None else time(waits.until)
        awaited = b"0", b""
        if waits is not None and waits.signal is not None:
            awaited = b"2" if waits.own else b"1", text(waits.signal)
        return [
            *arguments, *(b"%d" % len(some) for some in rest), until, *awaited, b"1" if release else b"0",
            *(each for some in rest for each in some),
        ]  # fmt: skip


def _consumed(commit: Commit) -> tuple[list[bytes], list[bytes]]:
    """Return the fields of the consumed signals: those of users, and the engine's own."""
    fields: tuple[list[bytes], list[bytes]] = [], []
    for key in commit.consumed_keys:
        fields[key[0]].append(field_of(key))
    return fields


def _packed(attributes: Mapping[str, bytes]) -> tuple[bytes, ...]:
    """Return search attributes as the last arguments of a script."""
    flat = [each for name, value in attributes.items() for each in (value, text(name))]
    return *flat, b"%d" % len(flat)


def _chunks(run_id: str, chunks: Sequence[StreamChunk]) -> list[bytes]:
    """Return chunks as arguments of a script. Raise SerializationError if one cannot be stored."""
    try:
        return streams.packed(chunks)
    except SerializationError as error:
        raise _of(error, run_id) from None


def _stale(run_id: str, seq: int, token: int, answer: Any) -> ConflictError:
    """Return the error for a refused call, from the script's answer."""
    return stale(run_id, seq, token, None if None in answer else [part.decode(errors="replace") for part in answer])


def _indexes(filter: RunFilter) -> list[bytes]:
    """Return the names of the indexes that must contain a run that matches a filter."""
    indexes, status = list[bytes](), filter.status
    if status is not None and status.finished:
        name = status.value.encode()
        if filter.by_update:
            indexes.append(b"end:" + name)
        if filter.error is not None and status is RunStatus.FAILED:
            indexes.append(b"error:" + text(filter.error))
        if filter.state is not None:
            indexes.append(b"outcome:" + name + b":" + text(filter.state))
    if status is not None and not indexes:
        indexes.append(b"status:" + status.value.encode())
    if filter.workflow is not None:
        indexes.append(b"workflow:" + text(filter.workflow))
    if filter.parent is not None:
        indexes.append(b"parent:" + text(filter.parent))
    return indexes


def _after(filter: RunFilter) -> tuple[bytes, bytes]:
    """Return time and id of the run after which a list begins, or empty texts."""
    return (b"", b"") if filter.after is None else (time(filter.after[0]), text(filter.after[1]))


def _of(error: SerializationError, run_id: str) -> SerializationError:
    """Return the same error with the run's id."""
    message = f"the run {run_id!r} contains a value that cannot be stored: {error}"
    return SerializationError(message, key=error.key, run_id=run_id, actual=error.actual)


def _is_before(place: tuple[float, str], run: RunRecord) -> bool:
    """Return whether a run has finished, and is in this place of its workflow or an earlier one."""
    return run.status.finished and run.place <= place
