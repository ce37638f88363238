"""Where the runs stand that this process writes to, and what their lines have changed since the last fold.

Finding that out again takes as long as all else that a commit does. What is remembered counts only where the run's
row in the database, compared inside the transaction, says the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zlib import crc32

MOST_TAILS = 1000
MOST_BYTES = 65_536
"""What is not worth the memory: more runs than that, or more than so many bytes written by one of them."""


class Tail:
    """The lines of one run after its journal line `folded`.

    Attributes:
        run, head: the run's number, and that of its newest line.
        due: the seq from which on it is to be folded.
        folded: None where there may be more lines than are remembered here.
        seq, token: where they have brought the run, and under which lease.
        count: how many they are.
        size: how many bytes they have set.
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
        self.latest: dict[str, bytes] = {}

    def add(
        self,
        head: int,
        before: int,
        token: int,
        seq: int,
        size: int,
        changed: Mapping[str, bytes],
        removed: Sequence[str],
    ) -> bool:
        """One more line, which was written when the run's `seq` was `before`; False where it is not the next one.

        Then others have written to the run, or a line was taken back with its transaction.
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
        elif removed:
            merge(self.gone, self.latest, changed, removed)
        else:
            self.latest.update(changed)
        return True


def merge(
    gone: dict[str, None], latest: dict[str, bytes], changed: Mapping[str, bytes], removed: Sequence[str]
) -> None:
    """Add what one more line says: to the keys that were removed from a run's data, and what was set since then."""
    for key in removed:
        gone[key] = None
        latest.pop(key, None)  # set anew, it comes last
    latest.update(changed)


class Tails:
    """The tails of many runs; used by whoever has the hand that writes.

    Attributes:
        every: after how many commits a run is folded.
        find: the tail of a run, or None.
    """

    def __init__(self, every: int) -> None:
        self.every = every
        self._tails: dict[str, Tail] = {}
        self.find = self._tails.get

    def begin(self, run_id: str, run: int, head: int, folded: int | None, seq: int, token: int) -> Tail:
        """From now on remember what the run changes; see `Tail`."""
        if len(self._tails) >= MOST_TAILS:
            del self._tails[next(iter(self._tails))]  # the one that was begun first
        turn = crc32(run_id.encode(errors="replace"))  # so that runs that go in step are folded at different ones
        due = seq + self.every - (seq + turn) % self.every
        tail = self._tails[run_id] = Tail(run, head, folded, seq, token, due)
        return tail

    def take(self, run_id: str) -> Tail | None:
        """The run's tail, which is forgotten with that."""
        return self._tails.pop(run_id, None)
