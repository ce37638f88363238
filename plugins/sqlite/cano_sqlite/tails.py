"""Where the runs stand that this process writes to, and what their lines have changed since the last fold.

Finding that out again takes as long as all else that a commit does. What is remembered counts only where the run's
row in the database, compared inside the transaction, says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from cano_sqlite.journal import Append

Change = tuple[Mapping[str, bytes], Sequence[str]]

MOST_TAILS = 1000
MOST_BYTES = 65_536
"""What is not worth the memory: more runs than that, or more than so many bytes written by one of them."""

OVERHEAD = 240
"""Bytes that a line takes beside what it has set."""


class Tail:
    """The lines of one run after its journal line `folded`.

    Attributes:
        run, head: the run's number, and that of its newest line.
        due: the seq from which on it is to be folded.
        folded: None where there may be more lines than are remembered here.
        seq, token: where they have brought the run, and under which lease.
        changes: what each has set and removed.
        size: about how many bytes they have set.
    """

    __slots__ = ("changes", "due", "folded", "head", "run", "seq", "size", "token")

    def __init__(self, run: int, head: int, folded: int | None, seq: int, token: int, due: int) -> None:
        self.run = run
        self.head = head
        self.due = due
        self.folded = folded
        self.seq = seq
        self.token = token
        self.size = 0
        self.changes: list[Change] = []

    def add(self, head: int, seq: int, size: int, change: Change) -> None:
        """One more line."""
        self.head = head
        self.seq = seq
        if self.folded is None:
            return
        self.size += size + OVERHEAD
        self.changes.append(change)
        if self.size > MOST_BYTES:
            self.folded = None
            self.changes = []

    def is_all(self, run: int, head: int, folded: int, count: int, seq: int, token: int) -> bool:
        """Whether a run whose row says this has made these lines since its last fold, and no other."""
        mine = self.run, self.head, self.folded, len(self.changes), self.seq, self.token
        return mine == (run, head, folded, count, seq, token)


class Tails:
    """The tails of many runs; used by whoever has the hand that writes.

    Attributes:
        every: after how many commits a run is folded.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._tails: dict[str, Tail] = {}

    def begin(self, run_id: str, run: int, head: int, folded: int | None, seq: int, token: int) -> Tail:
        """From now on remember what the run changes; see `Tail`."""
        if len(self._tails) >= MOST_TAILS:
            del self._tails[next(iter(self._tails))]  # the one that was begun first
        turn = crc32(run_id.encode(errors="replace"))  # so that runs that go in step are folded at different ones
        due = seq + self.every - (seq + turn) % self.every
        tail = self._tails[run_id] = Tail(run, head, folded, seq, token, due)
        return tail

    def find(self, run_id: str) -> Tail | None:
        """The run's tail."""
        return self._tails.get(run_id)

    def add(self, append: Append, head: int) -> Tail | None:
        """Note a line that was written, `head`: the tail that it is in, if there is one."""
        seq, _, _, _, _, run_id, expected_seq, token = append.line
        tail = self._tails.get(run_id)
        if tail is None:
            return None
        if tail.seq != expected_seq or tail.token != token:
            del self._tails[run_id]  # others have written to it, or a line was taken back with its transaction
            return None
        tail.add(head, seq, append.size, append.changes)
        return tail

    def take(self, run_id: str) -> Tail | None:
        """The run's tail, which is forgotten with that."""
        return self._tails.pop(run_id, None)
