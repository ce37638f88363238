"""What a run's lines have changed since its last fold, remembered by the process that wrote them.

Reading them again for the next fold takes as long as all else that their commits do. What is remembered counts only
where the run's row in the database, compared inside the transaction, shows that it is all there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

MOST_TAILS = 1000
MOST_BYTES = 65_536
"""What is not worth the memory: more runs than that, or more than so many bytes written by one of them."""


class Tail:
    """The lines of one run after its journal line `folded`.

    Attributes:
        gone, latest: what they have removed and set.
        count: how many they are.
        seq, token: where they have brought the run, and under which lease.
        size: about how many bytes they have set.
    """

    __slots__ = ("count", "folded", "gone", "latest", "seq", "size", "token")

    def __init__(self, folded: int, seq: int, token: int) -> None:
        self.folded = folded
        self.seq = seq
        self.token = token
        self.count = 0
        self.size = 0
        self.gone: dict[str, None] = {}
        self.latest: dict[str, bytes] = {}

    def add(self, changed: Mapping[str, bytes], removed: Sequence[str]) -> None:
        """One more line."""
        for key in removed:
            self.gone[key] = None
            self.latest.pop(key, None)  # set anew, it comes last
        self.latest.update(changed)

    def is_all(self, folded: int, count: int, seq: int, token: int) -> bool:
        """Whether a run whose row says this has made these lines since its last fold, and no other."""
        return (self.folded, self.count, self.seq, self.token) == (folded, count, seq, token)


class Tails:
    """The tails of many runs; used in the thread that writes."""

    def __init__(self) -> None:
        self._tails: dict[str, Tail] = {}

    def begin(self, run_id: str, folded: int, seq: int, token: int) -> None:
        """From now on remember what the run changes: it was folded up to its newest line."""
        if len(self._tails) >= MOST_TAILS:
            self._tails.clear()
        self._tails[run_id] = Tail(folded, seq, token)

    def add(
        self, run_id: str, expected_seq: int, seq: int, token: int, size: int,
        changed: Mapping[str, bytes], removed: Sequence[str],
    ) -> None:  # fmt: skip
        """Note a line that was written."""
        tail = self._tails.get(run_id)
        if tail is None:
            return
        tail.size += size
        if tail.seq != expected_seq or tail.token != token or tail.size > MOST_BYTES:
            del self._tails[run_id]  # others have written to it, or a line was taken back with its transaction
            return
        tail.seq = seq
        tail.count += 1
        tail.add(changed, removed)

    def take(self, run_id: str) -> Tail | None:
        """The run's tail, which is forgotten with that."""
        return self._tails.pop(run_id, None)
