"""Seals: keyed digests of all that a run's commits have written, which an encrypting layer hides in the store.

A run has a random key of its own. Each stored value has a tag: a digest with that key of the data's key and the stored
bytes. The tags of a run's present values are combined by exclusive or, so that a commit needs only those of the values
that it replaces. Without the key, no other values with the same result can be found. The digest of a run's head covers
that result and everything else that the last commit wrote. The links of its history are a chain: each covers an entry
and the link before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

from cano import Commit, RunRecord, RunStatus, Transition, Wait

from cano_durability.keys import PREFIX

SEAL = PREFIX + "seal"
"""The key under which a store keeps the seal of a run's last commit, and in its history that of each entry."""
SIZE = 16
"""Bytes of keys and digests."""
_FORM = b"\x01"


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
    changed: Mapping[str, int]
    removed: Iterable[str]
    total: int
    seq: int


class SealedRun:
    """The digests of a run that its next commit continues.

    Attributes:
        token, seq: the run's, by which a commit shows that no other came between.
        tags: the tag of each stored value, by its key.
        seal: the run's seal.
    """

    __slots__ = ("_fixed", "_total", "seal", "seq", "tags", "token")

    def __init__(self, record: RunRecord, seal: Seal) -> None:
        """Compute the tags of a record, as it is stored."""
        self.token, self.seq, self.seal = record.token, record.seq, seal
        self._fixed = _digest(seal.key, b"run", _fixed(record))
        self.tags = {key: tag(seal.key, key, value) for key, value in record.data.items() if key != SEAL}
        self._total = combined(self.tags.values())

    @classmethod
    def new(cls, record: RunRecord, history: Iterable[Transition], consumed: Iterable[str]) -> SealedRun:
        """Return a run that has no seal yet, with a new key.

        Args:
            record: the run, as it is stored.
            history: its history.
            consumed: the ids of the signals that it has consumed.
        """
        run = cls(record, Seal(os.urandom(SIZE), _bytes(0), b"", b""))
        link = _bytes(0)
        for entry in history:
            link = run.link(link, entry)
        run.seal = Seal(run.seal.key, run.signals(consumed), link, b"")
        run.seal = run.seal._replace(head=run.head(record))
        return run

    def head(self, record: RunRecord) -> bytes:
        """Return the digest of a record, as it is stored."""
        seal = self.seal
        return _head(
            seal.key, self._fixed, seal.link, self._total, seal.consumed,
            (record.state, record.seq, record.status, record.updated, record.wait, record.error, record.payload),
        )  # fmt: skip

    def link(self, before: bytes, entry: Transition) -> bytes:
        """Return the link of an entry of the history, as it is stored."""
        key = self.seal.key
        changed = combined(tag(key, name, value) for name, value in entry.changed.items() if name != SEAL)
        return _link(key, before, (entry.seq, entry.state, entry.status, entry.at), changed, entry.removed)

    def signals(self, consumed: Iterable[str]) -> bytes:
        """Return the combined tags of the ids of consumed signals."""
        key, name = self.seal.key, PREFIX + "consumed"
        return _bytes(combined(tag(key, name, id.encode(errors="surrogatepass")) for id in consumed))

    def after(self, commit: Commit, consumed: Iterable[str]) -> Next:
        """Return the run after `commit`, whose values are as they will be stored.

        Args:
            commit: the commit, without a seal.
            consumed: the ids of the signals that it really consumes.
        """
        seal, tags, total = self.seal, self.tags, self._total
        changed = {key: tag(seal.key, key, value) for key, value in commit.changed.items()}
        for key in {*commit.removed, *changed}:
            total ^= tags.get(key, 0)
        added = combined(changed.values())
        total ^= added
        link = seal.link
        if commit.seq != commit.expected_seq:
            entry = commit.seq, commit.state, commit.status, commit.at
            link = _link(seal.key, link, entry, added, commit.removed)
        signals = int.from_bytes(seal.consumed) ^ int.from_bytes(self.signals(consumed))
        head = _head(
            seal.key, self._fixed, link, total, _bytes(signals),
            (commit.state, commit.seq, commit.status, commit.at, commit.wait, commit.error, commit.payload),
        )  # fmt: skip
        return Next(Seal(seal.key, _bytes(signals), link, head), changed, commit.removed, total, commit.seq)

    def moved(self, next: Next) -> None:
        """Take note that the commit was applied which led to `next`."""
        for key in next.removed:
            self.tags.pop(key, None)
        self.tags.update(next.changed)
        self.seal, self._total, self.seq = next.seal, next.total, next.seq


def tag(key: bytes, name: str, value: bytes) -> int:
    """Return the tag of a stored value."""
    text = name.encode(errors="surrogatepass")
    return int.from_bytes(_digest(key, b"value", len(text).to_bytes(8) + text + value))


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
    waits = None if wait is None else (*wait[:2], None if wait.until is None else float(wait.until), wait.on_timeout)
    said = None if error is None else json.dumps(error, sort_keys=True, default=repr)  # a store may change the order
    sent = None if payload is None else tag(key, PREFIX + "payload", payload)
    changing = _text((state, seq, status.value, float(at), waits, said, sent))
    return _digest(key, b"head", fixed + link + _bytes(total) + consumed + changing)


def _link(
    key: bytes, before: bytes, entry: tuple[int, str, RunStatus, float], changed: int, removed: Iterable[str]
) -> bytes:
    seq, state, status, at = entry
    return _digest(key, b"link", before + _bytes(changed) + _text((seq, state, status.value, float(at), {*removed})))


def _text(fields: tuple[Any, ...]) -> bytes:
    """Return plain values as bytes that no other values have."""
    return repr([sorted(each) if isinstance(each, set) else each for each in fields]).encode(errors="surrogatepass")


def _bytes(total: int) -> bytes:
    return total.to_bytes(SIZE)


def _digest(key: bytes, person: bytes, data: bytes) -> bytes:
    return blake2b(data, key=key, digest_size=SIZE, person=person).digest()
