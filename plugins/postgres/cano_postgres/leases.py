"""Leases: claim, renew and release the right to execute a run."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import getrandbits
from typing import LiteralString

from cano_durability.stores.lanes import Turns

from cano_postgres.arrays import bigs, texts
from cano_postgres.queues import CHOSEN, ENTER, PUT_BACK, STATUS, WAKE, columns, turns_of
from cano_postgres.reading import CLAIMED
from cano_postgres.work import Rows, Statement

_CLAIM: LiteralString = f"""
    UPDATE runs SET token = token + 1, holder = %s, expires = %s, mark = %s, status = {STATUS}, wake = {WAKE}
    WHERE run_id = %s AND (holder IS NULL OR expires IS NULL OR expires < %s) RETURNING token"""
_SERVED: LiteralString = "(%(queues)s::text[] IS NULL OR coalesce(queue, 'default') = ANY(%(queues)s))"
# what another process is about to claim is skipped; what it has just changed is looked at as it is now
CLAIM_READY: LiteralString = f"""
    WITH RECURSIVE given AS MATERIALIZED (
        SELECT * FROM unnest(%(workflows)s::text[], %(versions)s::text[], %(fingerprints)s::text[])
            AS given (workflow, version, fingerprint)
    ), woken AS MATERIALIZED (
        SELECT id FROM runs
        WHERE workflow = ANY(%(workflows)s) AND wake <= %(now)s AND status || '' = 'parked' AND holder IS NULL
            AND run_id <> ALL(%(skip)s) AND (workflow, version, fingerprint) IN (SELECT * FROM given)
            AND {_SERVED}
        LIMIT %(limit)s::bigint FOR UPDATE SKIP LOCKED
    ), interrupted AS MATERIALIZED (
        SELECT id FROM runs
        WHERE workflow = ANY(%(workflows)s) AND status = 'running' AND holder IS NULL
            AND run_id <> ALL(%(skip)s) AND (workflow, version, fingerprint) IN (SELECT * FROM given)
            AND {_SERVED}
        LIMIT %(limit)s::bigint - (SELECT count(*) FROM woken) FOR UPDATE SKIP LOCKED
    ), room AS MATERIALIZED (
        SELECT greatest(
            %(limit)s::bigint - (SELECT count(*) FROM woken) - (SELECT count(*) FROM interrupted), 0
        ) AS most
    ), entered AS ({ENTER}
    ), {CHOSEN}, claimed AS (
        UPDATE runs SET token = token + 1, holder = %(holder)s, expires = %(expires)s, mark = %(mark)s,
            status = {STATUS}, wake = {WAKE}
        WHERE id = ANY(ARRAY(
            SELECT id FROM woken UNION ALL SELECT id FROM interrupted
            UNION ALL SELECT id FROM found WHERE priority = (SELECT max(priority) FROM found)
        )) RETURNING id
    )
    SELECT set_config('cano.claimed', coalesce(array_agg(id)::text, '{{}}'), true), (SELECT count(*) FROM entered)
    FROM claimed"""
_CLAIMED_READY = """
    SELECT set_config('cano.claimed', coalesce(array_agg(id)::text, '{}'), true), 0 FROM runs
    WHERE status = ANY('{running,parked}') AND holder = %(holder)s AND mark = %(mark)s AND expires = %(expires)s"""
_CLAIMED = "SELECT token FROM runs WHERE run_id = %s AND holder = %s AND mark = %s"
_RENEW = """
    UPDATE runs SET expires = %s FROM unnest(%s::text[], %s::bigint[]) AS given (run_id, token)
    WHERE runs.run_id = given.run_id AND runs.token = given.token AND runs.holder = %s RETURNING runs.run_id"""
_RELEASE = "UPDATE runs SET holder = NULL, expires = NULL WHERE run_id = %s AND token = %s"


class Claim:
    """The work of claiming a lease. Its outcome is the new fencing token, or None."""

    news = None
    size = 0
    awaits = False

    def __init__(self, run_id: str, holder: str, now: float, expires: float) -> None:
        mark = getrandbits(63)
        self.run_id = run_id
        self._claim: Statement = _CLAIM, (holder, expires, mark, run_id, now)
        self._claimed: Statement = _CLAIMED, (run_id, holder, mark)

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the claim; before it, with `again`, a query whether it succeeded."""
        return [self._claimed, self._claim] if again else [self._claim]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> int | None:
        """Return the newest token."""
        return next((token for found in reversed(rows) for (token,) in found), None)


class ClaimReady:
    """The work of claiming runs that are ready. Its outcome is their rows, with all their data; see `outcome`.

    A statement of its own reads them in the same transaction: it sees all that was committed before the claim.
    """

    news = None
    run_id = None
    size = 0
    awaits = False

    def __init__(
        self,
        definitions: Sequence[tuple[str, str, str]],
        limit: int,
        holder: str,
        now: float,
        expires: float,
        skip: Sequence[str],
        queues: Collection[str] | None,
        turns: Turns,
    ) -> None:
        self._values = {
            **columns(definitions), "now": now, "skip": texts(skip), "limit": limit, "holder": holder,
            "expires": expires, "mark": getrandbits(63), "queues": None if queues is None else texts([*queues]),
            **turns_of(turns),
        }  # fmt: skip

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the claim; or, with `again`, a query for what it has claimed: the next call claims the others."""
        return [(_CLAIMED_READY if again else CLAIM_READY, self._values), (CLAIMED, ())]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> tuple[Rows, bool]:
        """Return the rows of the claimed runs, and whether delayed runs have entered their queues meanwhile."""
        ((_, entered),) = rows[0]
        return rows[1], entered > 0


class Renew:
    """The work of renewing leases. Its outcome is the ids of the lost ones."""

    news = None
    run_id = None
    size = 0
    awaits = False

    def __init__(self, holder: str, tokens: Mapping[str, int], expires: float) -> None:
        # in the order of the ids, as in each statement that locks several rows
        self._ids = sorted(tokens)
        self._renew: Statement = _RENEW, (
            expires, texts(self._ids), bigs([tokens[run_id] for run_id in self._ids]), holder,
        )  # fmt: skip

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the renewal, which may be repeated."""
        return [self._renew]

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> list[str]:
        """Return the ids that were not renewed."""
        kept = {run_id for (run_id,) in rows[0]}
        return [run_id for run_id in self._ids if run_id not in kept]


class Release:
    """The work of releasing a lease."""

    size = 0
    awaits = False

    def __init__(self, run_id: str, token: int) -> None:
        self.run_id = self.news = run_id
        self._statements: Sequence[Statement] = (_RELEASE, (run_id, token)), (PUT_BACK, (run_id,))

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the release, which may be repeated: after another claim, the token differs."""
        return self._statements

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""
