"""Seals: keyed digests of all that a run's commits have written, which an encrypting layer hides in the store.

A run has a random key of its own. Each stored value has a tag: a digest with that key of the data's key and the stored
bytes. A part that is appended to the value changes the tag: to a digest of the tag before and the part. The tags of a
run's present values are combined by exclusive or, so that a commit needs only those of the values that it replaces.
Without the key, no other values with the same result can be found. The digest of a run's head covers that result and
everything else that the last commit wrote. The links of its history are a chain: each covers an entry and the link
before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from itertools import repeat
from typing import Any, NamedTuple

from cano import Appended, Commit, RunRecord, RunStatus, SignalKey, Transition, Wait

SEAL = "seal"
"""The name of the engine's value that is the seal of a run's last commit; in its history, that of each entry's."""
SIZE = 16
"""Bytes of keys and digests."""
NO_LINK = bytes(SIZE)
"""The link before the first entry of a history."""
_FORM = b"\x01"


Name = tuple[bool, str]
"""Whether a value or signal is one of the engine's own; and its name, key or id."""
_NOTHING: Mapping[Name, int] = {}


class Seal(NamedTuple):
    """The record that a layer hides in the store with each commit.

    Attributes:
        key: the run's key.
        consumed: the combined tags of the ids of all signals that the run has consumed.
        link: the link of the last entry in its history.
        head: the digest of its head.
    """

    key: bytes
    consumed: bytes
    link: bytes
    head: bytes

    def packed(self) -> bytes:
        """Return the seal as bytes."""
        return _FORM + b"".join(self)

    @classmethod
    def unpacked(cls, data: bytes) -> Seal:
        """Return the seal that `packed` has packed. Raises ValueError if a later version did."""
        if len(data) != 1 + 4 * SIZE or not data.startswith(_FORM):
            raise ValueError("a later version sealed it; upgrade cano-durability")
        return cls(*(data[at : at + SIZE] for at in range(1, len(data), SIZE)))


class Next(NamedTuple):
    """A run after a commit: its seal, and the changes of a `SealedRun`."""

    seal: Seal
    changed: Mapping[Name, int]
    removed: Iterable[Name]
    total: int
    seq: int


class SealedRun:
    """The digests of a run that its next commit continues.

    Attributes:
        token, seq: the run's, by which a commit shows that no other came between.
        tags: the tag of each stored value, by its name.
        seal: the run's seal.
    """

    __slots__ = ("_fixed", "_total", "seal", "seq", "tags", "token")

    def __init__(self, record: RunRecord, seal: Seal) -> None:
        """Compute the tags of a record, as it is stored."""
        self.token, self.seq, self.seal = record.token, record.seq, seal
        self._fixed = _digest(seal.key, b"run", _fixed(record))
        self.tags = tags(seal.key, record.data, record.own)
        self._total = combined(self.tags.values())

    @classmethod
    def new(cls, record: RunRecord, history: Iterable[Transition], consumed: Iterable[SignalKey]) -> SealedRun:
        """Return a run that has no seal yet, with a new key.

        Args:
            record: the run, as it is stored.
            history: its history.
            consumed: the keys of the signals that it has consumed.
        """
        run = cls(record, Seal(os.urandom(SIZE), _bytes(0), b"", b""))
        run.seal = Seal(run.seal.key, run.signals(consumed), run.chain(NO_LINK, history), b"")
        run.seal = run.seal._replace(head=run.head(record))
        return run

    def head(self, record: RunRecord) -> bytes:
        """Return the digest of a record, as it is stored."""
        seal = self.seal
        return _head(
            seal.key, self._fixed, seal.link, self._total, seal.consumed,
            (record.state, record.seq, record.status, record.updated, record.wait, record.error, record.payload),
        )  # fmt: skip

    def link(self, before: bytes, entry: Transition, written: int | None = None) -> bytes:
        """Return the link of an entry of the history, as it is stored; `written` if it is known. See `written`."""
        line = entry.seq, entry.state, entry.status, entry.at
        written = self.written(entry) if written is None else written
        return _link(self.seal.key, before, line, written, names(entry.removed, entry.own_removed))

    def written(self, entry: Transition) -> int:
        """Return the combined tags of what an entry has written. It takes the longest part of its link."""
        return combined(self._written(entry.changed, entry.own).values())

    def chain(
        self, before: bytes, entries: Iterable[Transition], written: Iterable[int | None] = repeat(None)
    ) -> bytes:
        """Return the link of the last of several entries."""
        for entry, each in zip(entries, written, strict=False):
            before = self.link(before, entry, each)
        return before

    def signals(self, consumed: Iterable[SignalKey]) -> bytes:
        """Return the combined tags of consumed signals."""
        ids = ((f"consumed{' own' * key[0]}", sealed_id(key).encode(errors="surrogatepass")) for key in consumed)
        return _bytes(combined(tag(self.seal.key, name, id, b"signal") for name, id in ids))

    def after(self, commit: Commit, consumed: Iterable[SignalKey]) -> Next:
        """Return the run after `commit`, whose values are as they will be stored.

        Args:
            commit: the commit, without a seal.
            consumed: the keys of the signals that it really consumes.
        """
        seal, known, total = self.seal, self.tags, self._total
        changed = written = self._written(commit.changed, commit.own)
        removed = names(commit.removed, commit.own_removed)
        if Appended in map(type, commit.changed.values()):
            before = {name: 0 if name in removed else known.get(name, 0) for name in changed}
            changed = tags(seal.key, commit.changed, commit.own, before)
        for name in {*removed, *changed}:
            total ^= known.get(name, 0)
        total ^= combined(changed.values())
        link = seal.link
        if commit.seq != commit.expected_seq:
            entry = commit.seq, commit.state, commit.status, commit.at
            link = _link(seal.key, link, entry, combined(written.values()), removed)
        signals = int.from_bytes(seal.consumed) ^ int.from_bytes(self.signals(consumed))
        head = _head(
            seal.key, self._fixed, link, total, _bytes(signals),
            (commit.state, commit.seq, commit.status, commit.at, commit.wait, commit.error, commit.payload),
        )  # fmt: skip
        return Next(Seal(seal.key, _bytes(signals), link, head), changed, removed, total, commit.seq)

    def _written(self, changed: Mapping[str, Any], own: Mapping[str, bytes]) -> dict[Name, int]:
        """Return the tags of what a commit writes, which tell a value from one that was appended to another."""
        return tags(self.seal.key, changed, own, dict.fromkeys(names(changed, ()), 1))

    def moved(self, next: Next) -> None:
        """Take note that the commit was applied which led to `next`."""
        for key in next.removed:
            self.tags.pop(key, None)
        self.tags.update(next.changed)
        self.seal, self._total, self.seq = next.seal, next.total, next.seq


def tag(key: bytes, name: str, value: bytes, kind: bytes = b"value") -> int:
    """Return the tag of a stored value. `kind` tells those of the data from others with the same name."""
    text = name.encode(errors="surrogatepass")
    return int.from_bytes(_digest(key, kind, len(text).to_bytes(8) + text + value))


def tags(
    key: bytes, data: Mapping[str, Any], own: Mapping[str, bytes], before: Mapping[Name, int] = _NOTHING
) -> dict[Name, int]:
    """Return the tags of values of the data and of the engine's own, without the seal.

    Args:
        key: the run's key.
        data, own: the values.
        before: the tags of the values that `Appended` ones are added to.
    """
    found: dict[Name, int] = {}
    for name, value in data.items():
        if value.__class__ is Appended:
            total = before.get((False, name), 0)
            for part in value:
                total = tag(key, name, _bytes(total) + part, b"part") if total else tag(key, name, part)
            found[False, name] = total
        else:
            found[False, name] = tag(key, name, value)
    found |= {(True, name): tag(key, name, value, b"own") for name, value in own.items() if name != SEAL}
    return found


def names(users: Iterable[str], own: Iterable[str]) -> list[Name]:
    """Return names of both kinds: of users, and of the engine."""
    return [*((False, name) for name in users), *((True, name) for name in own)]


def sealed_id(key: SignalKey) -> str:
    """Return `to` and id of a signal as one text, as in the seals of earlier versions. No other signal has the same."""
    own, to, id = key
    if to is not None:
        return f"\0wait {to} {id}"
    return f"\0{id}" if not own and id.startswith("\0") else id


def combined(tags: Iterable[int]) -> int:
    """Return the exclusive or of several tags."""
    total = 0
    for each in tags:
        total ^= each
    return total


def _fixed(record: RunRecord) -> bytes:
    """Return what no commit changes, as bytes."""
    fields = record.run_id, record.workflow, record.version, record.fingerprint, record.parent, float(record.created)
    return _text(fields)


_Head = tuple[str, int, RunStatus, float, Wait | None, Mapping[str, Any] | None, bytes | None]


def _head(key: bytes, fixed: bytes, link: bytes, total: int, consumed: bytes, fields: _Head) -> bytes:
    state, seq, status, at, wait, error, payload = fields
    waits = None if wait is None else wait._replace(until=None if wait.until is None else float(wait.until))
    said = None if error is None else json.dumps(error, sort_keys=True, default=repr)  # a store may change the order
    sent = None if payload is None else tag(key, "payload", payload, b"payload")
    changing = _text((state, seq, status.value, float(at), waits and tuple(waits), said, sent))
    return _digest(key, b"head", fixed + link + _bytes(total) + consumed + changing)


def _link(
    key: bytes, before: bytes, entry: tuple[int, str, RunStatus, float], changed: int, removed: Iterable[Name]
) -> bytes:
    line = _text((*entry[:2], entry[2].value, float(entry[3]), sorted({*removed})))
    return _digest(key, b"link", before + _bytes(changed) + line)


def _text(fields: tuple[Any, ...]) -> bytes:
    """Return plain values as bytes that no other values have."""
    return repr([*fields]).encode(errors="surrogatepass")


def _bytes(total: int) -> bytes:
    return total.to_bytes(SIZE)


def _digest(key: bytes, person: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=SIZE, person=person).digest()
