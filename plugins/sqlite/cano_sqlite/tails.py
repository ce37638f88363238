"""The changes of journal entries since the last compaction, for the runs that this process writes to.

Reading that again would take as long as the rest of a commit. A remembered tail is used only if it matches the run's
row, compared inside the transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

from cano import Appended

MOST_TAILS = 1000
MOST_BYTES = 65_536
"""The most runs to remember, and the most bytes of one run."""


class Tail:
    """The entries of a run after its snapshot.

    Attributes:
        run, head: the run's number, and the id of its newest entry.
        due: the seq from which the run is due for compaction.
        folded: the entry of the snapshot, or None if entries may be missing here.
        seq, token: the run's seq and fencing token after the newest entry.
        count: number of entries.
        size: number of bytes that they set.
        gone, latest: see `merge`.
    """

    __slots__ = ("count", "due", "folded", "gone", "head", "latest", "run", "seq", "size", "token")

    def __init__(self, run: int, head: int, folded: int | None, seq: int, token: int, due: int) -> None:
        self.run = run
        self.head = head
        self.due = due
        self.folded = folded
        self.seq = seq
        self.token = token
        self.count = 0
        self.size = 0
        self.gone: dict[str, None] = {}
        self.latest: dict[str, Any] = {}

    def add(
        self,
        head: int,
        before: int,
        token: int,
        seq: int,
        size: int,
        changed: Mapping[str, Any],
        removed: Sequence[str],
    ) -> bool:
        """Add an entry that was written when the run's seq was `before`. Return False if it does not follow.

        Then another process has written to the run, or a transaction was rolled back.
        """
        if self.seq != before or self.token != token:
            return False
        self.head = head
        self.seq = seq
        if self.folded is None:
            return True
        self.count += 1
        self.size += size
        if self.size > MOST_BYTES:
            self.folded = None
            self.gone, self.latest = {}, {}
        elif removed or Appended in map(type, changed.values()):
            merge(self.gone, self.latest, changed, removed)
        else:
            self.latest.update(changed)
        return True


def merge(gone: dict[str, None], latest: dict[str, Any], changed: Mapping[str, Any], removed: Sequence[str]) -> None:
    """Add an entry's changes to the keys removed since the snapshot, and to the values set or appended to since then.

    See `Appended.gather`: None is in place of a value that was only appended to since the snapshot.
    """
    gone.update(dict.fromkeys(removed))
    Appended.gather(latest, changed, removed)  # a key that is set again comes last


class Tails:
    """The tails of a store's runs. Only the thread that holds the writing connection uses them.

    Attributes:
        every: number of commits after which a run is compacted.
        find: return the tail of a run, or None.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._tails: dict[str, Tail] = {}
        self.find = self._tails.get

    def begin(self, run_id: str, run: int, head: int, folded: int | None, seq: int, token: int) -> Tail:
        """Begin a tail of the run; see `Tail` for the arguments."""
        if len(self._tails) >= MOST_TAILS:
            del self._tails[next(iter(self._tails))]  # the oldest
        turn = crc32(run_id.encode(errors="replace"))  # runs that step together are compacted at different steps
        due = seq + self.every - (seq + turn) % self.every
        tail = self._tails[run_id] = Tail(run, head, folded, seq, token, due)
        return tail

    def take(self, run_id: str) -> Tail | None:
        """Remove and return the run's tail, or None."""
        return self._tails.pop(run_id, None)
