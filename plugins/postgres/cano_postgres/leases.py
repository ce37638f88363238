"""Leases: who may commit to a run, and until when nobody else may claim it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import getrandbits

from cano_postgres.work import Rows, Statement

_CLAIM = """
    UPDATE runs SET token = token + 1, holder = %s, expires = %s, mark = %s
    WHERE run_id = %s AND (holder IS NULL OR expires < %s) RETURNING token"""
_CLAIMED = "SELECT token FROM runs WHERE run_id = %s AND holder = %s AND mark = %s"
_RENEW = """
    UPDATE runs SET expires = %s FROM unnest(%s::text[], %s::bigint[]) AS given (run_id, token)
    WHERE runs.run_id = given.run_id AND runs.token = given.token AND runs.holder = %s RETURNING runs.run_id"""
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = %s AND token = %s"


class Claim:
    """The work of taking a lease. Its outcome is the new token, or None."""

    news = None
    size = 0

    def __init__(self, run_id: str, holder: str, now: float, expires: float) -> None:
        mark = getrandbits(63)
        self.run_id = run_id
        self._claim: Statement = _CLAIM, (holder, expires, mark, run_id, now)
        self._claimed: Statement = _CLAIMED, (run_id, holder, mark)

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """The claim; before it, a look whether it was successful already."""
        return [self._claimed, self._claim] if again else [self._claim]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> int | None:
        """The newest token that was got."""
        return next((token for found in reversed(rows) for (token,) in found), None)


class Renew:
    """The work of extending leases. Its outcome are the ids of those that are lost."""

    news = None
    run_id = None
    size = 0

    def __init__(self, holder: str, tokens: Mapping[str, int], expires: float) -> None:
        # in the order of the ids, like everything that locks several rows
        self._ids = sorted(tokens)
        self._renew: Statement = _RENEW, (expires, self._ids, [tokens[run_id] for run_id in self._ids], holder)

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """The same, however often."""
        return [self._renew]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> list[str]:
        """Those that were not extended."""
        kept = {run_id for (run_id,) in rows[0]}
        return [run_id for run_id in self._ids if run_id not in kept]


class Release:
    """The work of freeing a lease."""

    size = 0

    def __init__(self, run_id: str, token: int) -> None:
        self.run_id = self.news = run_id
        self._release: Statement = _RELEASE, (run_id, token)

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """The same, however often: the token is another as soon as somebody has claimed the run."""
        return [self._release]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Nothing."""
