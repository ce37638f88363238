"""Queues of submitted runs: which run begins next, and how many wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from cano import Lane, RunRecord
from cano_durability.stores.lanes import IN_QUEUE, Turns, class_of

from cano_postgres.arrays import bigs, integers, texts
from cano_postgres.connection import Connection

STATUS: LiteralString = """CASE status
            WHEN 'enqueued' THEN 'running' WHEN 'delayed' THEN 'parked' WHEN 'due' THEN 'parked' ELSE status END"""
WAKE: LiteralString = "CASE WHEN status IN ('delayed', 'due') THEN due ELSE wake END"
"""Status and time of a row that is claimed. Most rows keep theirs, so that no index changes."""
PUT_BACK: LiteralString = """
    UPDATE runs SET status = CASE status WHEN 'running' THEN 'enqueued' ELSE 'delayed' END, due = wake, wake = NULL
    WHERE run_id = %s AND holder IS NULL AND class IS NOT NULL AND seq = 0 AND (token = 0 OR updated < created)
        AND awaited IS NULL AND (status = 'running' OR (status = 'parked' AND wake IS NOT NULL))"""
"""Let a run that was released enter its queue, if it has not begun. See `RunRecord.in_queue`."""
ENTER: LiteralString = """
        UPDATE runs SET status = 'due' WHERE id = ANY(ARRAY(
            SELECT id FROM runs WHERE status = 'delayed' AND due <= %(now)s ORDER BY due LIMIT 1000
            FOR UPDATE SKIP LOCKED
        )) RETURNING id"""
"""Let runs whose delay has passed enter their queues. The next claim finds them there."""
CLASSES: LiteralString = f"""classes (class) AS (
        SELECT min(class) FROM runs WHERE {IN_QUEUE}
        UNION ALL
        SELECT (SELECT min(class) FROM runs WHERE {IN_QUEUE} AND class > classes.class) FROM classes
        WHERE class IS NOT NULL
    )"""
MINE: LiteralString = f"""{CLASSES}, mine AS MATERIALIZED (
        SELECT classes.class, first.queue FROM classes, LATERAL (
            SELECT workflow, version, fingerprint, queue FROM runs WHERE {IN_QUEUE} AND class = classes.class
            ORDER BY priority DESC, key, id LIMIT 1
        ) AS first
        WHERE (workflow, version, fingerprint) IN (SELECT * FROM given)
            AND (%(queues)s::text[] IS NULL OR queue = ANY(%(queues)s))
    )"""
"""The numbers of the definitions and queues with runs to claim, from one hop to the next."""
# below, an order that only the index of queues has keeps the planner from others, which its guesses may prefer
_LANE: LiteralString = f"{IN_QUEUE} AND class = span.class AND priority = span.priority"
# the next text after a key, in the order of bytes
_AFTER: LiteralString = "|| E'\\x01'"
CHOSEN: LiteralString = f"""{MINE}, levels (class, priority) AS (
        SELECT class, (
            SELECT priority FROM runs WHERE {IN_QUEUE} AND runs.class = mine.class ORDER BY priority DESC LIMIT 1
        ) FROM mine
        UNION ALL
        SELECT class, (
            SELECT priority FROM runs WHERE {IN_QUEUE} AND runs.class = levels.class
                AND runs.priority < levels.priority ORDER BY priority DESC LIMIT 1
        ) FROM levels WHERE priority IS NOT NULL
    ), turns AS MATERIALIZED (
        SELECT * FROM unnest(%(turn_priorities)s::integer[], %(turn_classes)s::bigint[], %(turn_keys)s::text[])
            AS turns (priority, class, key)
    ), spans AS MATERIALIZED (
        SELECT levels.class, levels.priority, CASE WHEN levels.class < turns.class THEN 1 ELSE 0 END AS part,
            CASE WHEN levels.class = turns.class THEN turns.key {_AFTER} ELSE '' END AS low, NULL AS high
        FROM levels LEFT JOIN turns ON turns.priority = levels.priority WHERE levels.priority IS NOT NULL
        UNION ALL
        SELECT levels.class, levels.priority, 2, '', turns.key
        FROM levels JOIN turns ON turns.priority = levels.priority AND turns.class = levels.class
    ), lanes AS MATERIALIZED (
        SELECT span.class, span.priority, lane.key, row_number() OVER () AS turn
        FROM (SELECT * FROM spans ORDER BY priority DESC, part, class) AS span, LATERAL (
            WITH RECURSIVE keys (key) AS (
                SELECT (SELECT min(key) FROM runs WHERE {_LANE} AND key >= span.low)
                UNION ALL
                SELECT (SELECT min(key) FROM runs WHERE {_LANE} AND key > keys.key) FROM keys
                WHERE key IS NOT NULL AND (span.high IS NULL OR key <= span.high)
            )
            SELECT key FROM keys WHERE key IS NOT NULL AND (span.high IS NULL OR key <= span.high)
        ) AS lane
        LIMIT (SELECT most FROM room)
    ), shares AS MATERIALIZED (
        SELECT *, row_number() OVER (PARTITION BY priority ORDER BY turn) AS place,
            count(*) OVER (PARTITION BY priority) AS number
        FROM lanes
    ), found AS MATERIALIZED (
        SELECT share.priority, run.id FROM (SELECT * FROM shares ORDER BY turn) AS share, LATERAL (
            SELECT id FROM runs
            WHERE {IN_QUEUE} AND class = share.class AND priority = share.priority
                AND key >= share.key AND key <= share.key AND holder IS NULL
            ORDER BY key, id
            LIMIT (SELECT most / share.number + (share.place <= mod(most, share.number))::integer FROM room)
            FOR UPDATE SKIP LOCKED
        ) AS run
        LIMIT (SELECT most FROM room)
    )"""
"""The runs that begin now, of the largest priority first, and in it one of each lane in turn. `spans` are the parts of
the lanes of a priority, in the order of their turns; `room` says how many are wanted."""
_SIZES: LiteralString = f"""
    WITH RECURSIVE given AS MATERIALIZED (
        SELECT * FROM unnest(%(workflows)s::text[], %(versions)s::text[], %(fingerprints)s::text[])
            AS given (workflow, version, fingerprint)
    ), {MINE}
    SELECT queue, (
        SELECT count(*) FROM (
            SELECT FROM runs WHERE {IN_QUEUE} AND runs.class = mine.class
            ORDER BY priority DESC, key, id LIMIT %(most)s::bigint
        ) AS counted
    ) FROM mine"""
_BEFORE: LiteralString = f"""
    SELECT (
        SELECT count(*) FROM (
            SELECT FROM runs WHERE {IN_QUEUE} AND class = %(class)s AND priority > %(priority)s
            ORDER BY priority DESC, key, id LIMIT %(most)s::bigint
        ) AS larger
    ), (
        SELECT count(*) FROM (
            SELECT FROM runs WHERE {IN_QUEUE} AND class = %(class)s AND priority = %(priority)s
                AND key >= %(key)s AND key <= %(key)s AND id < (SELECT id FROM runs WHERE run_id = %(run_id)s)
            ORDER BY key, id LIMIT %(most)s::bigint
        ) AS older
    )"""


def columns(definitions: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Return the definitions as values of parameters."""
    workflows, versions, fingerprints = (texts([each[column] for each in definitions]) for column in range(3))
    return {"workflows": workflows, "versions": versions, "fingerprints": fingerprints}


def turns_of(turns: Turns) -> dict[str, Any]:
    """Return the lanes that had the last turns as values of parameters."""
    return {
        "turn_priorities": integers([*turns.last]),
        "turn_classes": bigs([number for number, _ in turns.last.values()]),
        "turn_keys": texts([key for _, key in turns.last.values()]),
    }


async def sizes(connection: Connection, definitions: Sequence[tuple[str, str, str]], most: int) -> Mapping[str, int]:
    """Return how many runs of these definitions wait in each queue; of each definition, at most `most`."""
    found: dict[str, int] = {}
    values = {**columns(definitions), "queues": None, "most": most}
    async for queue, number in await connection.execute(_SIZES, values, binary=True):
        found[queue] = found.get(queue, 0) + number
    return found


async def before(connection: Connection, run: RunRecord, most: int) -> tuple[int, int]:
    """Return how many runs with a larger priority, and older ones with the same lane, wait before `run`."""
    queue, priority, key = run.lane or Lane()
    number = class_of(run.workflow, run.version, run.fingerprint, queue)
    values = {"class": number, "priority": priority, "key": key, "run_id": run.run_id, "most": most}
    row = await (await connection.execute(_BEFORE, values, binary=True)).fetchone()
    assert row is not None
    return row[0], row[1]
