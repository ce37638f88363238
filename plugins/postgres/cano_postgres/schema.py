"""The tables, and their migrations.

- `runs` has one small row for each run, updated in place: its status and lease. While a run steps, no index changes.
- `journal` gets an entry (`line`) for each commit, numbered from 1 in each run; `runs.head` is the newest. `mark` is a
  random number by which the writer finds a commit again if its answer was lost.
- `runs.discarded` is the number of its oldest entries that were deleted; null for none.
- `snapshot` has a run's data as of its entry `runs.folded`. A commit writes its changes once instead of a row for each
  key, and `load` reads only the entries after the last compaction. Each key has a row whose `part` is 0 and, if commits
  have appended to its value, one for each compaction since: with the parts that were appended, and the entry as `part`.
  So a compaction writes the new parts only. `content` is null if nothing was set.
- `signals` has the signals sent to a run, even before the run exists. A consumed signal keeps its id. Its
  `addressee` is the seq of the wait that it answers, or ANY: ids are unique for each.
- `runs.wake` is the time from which a parked run can continue: the end of its wait, or minus infinity once its signal
  has come. So one index finds the runs that are ready, however many are parked and however many signals no run awaits.
- `runs.queue`, `priority` and `key` are those of a submitted run, otherwise null; `class` is the number of its
  definition and queue. While it waits there its `status` is `enqueued`; with a delay `delayed` until the time `due`,
  then `due`. A claim sets the run's own status, so it leaves the index of its queue.
- `runs.ended` is the time of the last update of a run that has ended. No other run has an entry in its index.
- `runs.outcome` is the state of a run that has ended. `runs.error` and `runs.cause` are the classes of its last error,
  which count while it has failed.
- `attributes` has the search attributes of runs, as bytes that keep the order of values, and the time of the creation,
  by which lists are sorted.
- `chunks` has the streams of runs.
- `slots` has the slots that runs hold of limits of all processes, and the requests that wait for one; `rates` has the
  next time of each rate. Rows that no longer count are deleted when another run asks.
- `joined` has what an open transaction of a user's has stored under provisional run ids. No committed row is in it: see
  `cano_postgres.joined`.
- `audit` has the entries of the audit. They stay when their run is deleted. `mark` is a random number, as in `journal`.

The column `own` tells the engine's own values and signals from those of users; `runs.awaits_own`, which kind `awaited`
is. An entry of the journal has both apart in one blob.

Keys, and the names and ids of signals, are bytes, since PostgreSQL's text cannot contain NUL. An index has their hash,
since it takes at most about 2,700 bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, LiteralString, NamedTuple

from cano import RunStatus, StoreUnavailableError
from cano_msgspec.packing import (
    DamagedError,
    addressed,
    apart,
    outcome_of,
    pack_changes,
    unpack_changes,
    unpack_extra,
)
from psycopg import AsyncConnection, sql

ANY = -1
"""The `addressee` of a signal that is for any wait."""
_PAGE = 1000


async def _apart(connection: AsyncConnection[Any]) -> None:
    """Rewrite the journal entries with keys of the engine's own values, which began with NUL."""
    last: tuple[Any, Any] = 0, 0
    while rows := await (await connection.execute(_WITH_NUL, (*last, _PAGE), binary=True)).fetchall():
        for *last_row, blob in rows:
            with suppress(DamagedError):  # a corrupt entry stays, for `load` to report it
                changes = unpack_changes(blob)
                if (moved := apart(changes)) != changes:
                    await connection.execute(_REWRITE, (pack_changes(*moved), *last_row))
        last = rows[-1][0], rows[-1][1]


async def _address(connection: AsyncConnection[Any]) -> None:
    """Take the addressees out of the ids of callers' signals."""
    for row, signal in await (await connection.execute(_TO_WAITS, binary=True)).fetchall():
        to, id = addressed(signal)
        if to is not None:
            await connection.execute("UPDATE signals SET addressee = %s, signal_id = %s WHERE id = %s", (to, id, row))


async def _note_errors(connection: AsyncConnection[Any]) -> None:
    """Note the classes of the errors of failed runs."""
    last = -1
    while rows := await (await connection.execute(_FAILED, (last, _PAGE), binary=True)).fetchall():
        for row, extra in rows:
            with suppress(DamagedError):  # a corrupt run is found by no error
                error, *_ = unpack_extra(extra)
                _, *names = outcome_of(RunStatus.FAILED, "", error)
                await connection.execute("UPDATE runs SET error = %s, cause = %s WHERE id = %s", (*names, row))
        last = rows[-1][0]


_FAILED = "SELECT id, extra FROM runs WHERE id > %s AND status = 'failed' ORDER BY id LIMIT %s"
_TO_WAITS = "SELECT id, signal_id FROM signals WHERE NOT own AND position('\\000wait '::bytea IN signal_id) = 1"
_WITH_NUL = """
    SELECT run, line, changes FROM journal
    WHERE (run, line) > (%s, %s) AND position('\\000'::bytea IN changes) > 0 ORDER BY run, line LIMIT %s"""
_REWRITE = "UPDATE journal SET changes = %s WHERE run = %s AND line = %s"
# of bytes that began with NUL and were the engine's own then
_LED: LiteralString = "(substring({0} FROM 1 FOR 1) = '\\000'::bytea)"
_CANCELS: LiteralString = "position('\\000cancel'::bytea IN signal) = 1"  # copies lacked the consumed one's name

SETTLE: LiteralString = """
    CREATE OR REPLACE FUNCTION settle() RETURNS trigger LANGUAGE plpgsql
    SET search_path FROM CURRENT SET lock_timeout = '10s' AS $$
    DECLARE
        entry record;
        made boolean;
        runs_of text[];
    BEGIN
        IF NOT EXISTS (SELECT FROM joined WHERE id = NEW.id) THEN
            RETURN NULL;  -- the call for the first row has settled all rows of the transaction
        END IF;
        -- of those only that a signal may wake: the server has locks for about 10,000
        runs_of := ARRAY(
            SELECT DISTINCT run_id FROM joined
            WHERE is_signal OR EXISTS (SELECT FROM runs WHERE runs.run_id = provisional AND awaited IS NOT NULL));
        PERFORM pg_advisory_xact_lock(key) FROM (
            SELECT DISTINCT hashtextextended(run_id, 0) AS key FROM unnest(runs_of) AS run_id ORDER BY key OFFSET 0
        ) AS keys;
        BEGIN  -- once: each block with a handler is a subtransaction
            FOR entry IN SELECT * FROM joined ORDER BY run_id, id LOOP
                IF entry.is_signal THEN
                    IF current_setting('transaction_isolation') <> 'read committed' THEN
                        -- fails if the run has changed since the snapshot, which may not show that it waits now
                        PERFORM FROM runs WHERE run_id = entry.run_id FOR NO KEY UPDATE;
                    END IF;
                    INSERT INTO signals (run_id, own, addressee, signal_id, name, payload)
                    SELECT entry.run_id, given.own, addressee, signal_id, name, payload FROM signals AS given
                    WHERE run_id = entry.provisional
                    ON CONFLICT (run_id, own, addressee, sha256(signal_id)) DO NOTHING;
                    made := FOUND;
                    DELETE FROM signals WHERE run_id = entry.provisional;
                    IF made AND entry.most < (
                        SELECT count(*) FROM (
                            SELECT FROM signals WHERE run_id = entry.run_id AND NOT consumed AND NOT signals.own
                            LIMIT entry.most + 1
                        ) AS waiting
                    ) THEN
                        RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded', MESSAGE = format(
                            'more than %s signals wait for run %s, since another transaction has sent some meanwhile',
                            entry.most, entry.run_id);
                    END IF;
                ELSE
                    UPDATE runs SET run_id = entry.run_id WHERE run_id = entry.provisional;
                    made := true;
                END IF;
                IF made AND entry.action IS NOT NULL THEN
                    INSERT INTO audit (run_id, action, actor, at, detail)
                    VALUES (entry.audited, entry.action, entry.actor, entry.at, entry.detail);
                END IF;
            END LOOP;
        EXCEPTION WHEN unique_violation THEN
            RAISE EXCEPTION USING ERRCODE = 'serialization_failure', MESSAGE = format(
                'another transaction has stored run %s meanwhile; repeat this one', entry.run_id);
        END;
        UPDATE runs SET wake = '-Infinity' WHERE run_id = ANY(runs_of) AND status = 'parked' AND EXISTS (
            SELECT FROM signals
            WHERE signals.run_id = runs.run_id AND (signals.name, signals.own) = (runs.awaited, runs.awaits_own)
                AND NOT consumed);
        DELETE FROM joined;
        RETURN NULL;
    END
    $$"""
"""Settles what a user's transaction has stored under provisional run ids: see `cano_postgres.joined`."""

Step = LiteralString | Callable[[AsyncConnection[Any]], Awaitable[None]]

MIGRATIONS: tuple[tuple[Step, ...], ...] = (
    (
        """CREATE TABLE runs (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text COLLATE "C" NOT NULL UNIQUE,
            workflow text COLLATE "C" NOT NULL,
            version text COLLATE "C" NOT NULL,
            fingerprint text COLLATE "C" NOT NULL,
            parent text COLLATE "C",
            created float8 NOT NULL,
            updated float8 NOT NULL,
            state text COLLATE "C" NOT NULL,
            status text COLLATE "C" NOT NULL,
            seq bigint NOT NULL,
            head bigint NOT NULL,
            folded bigint NOT NULL,
            tail integer NOT NULL,
            holder text COLLATE "C",
            expires float8,
            token bigint NOT NULL,
            mark bigint,
            wake float8,
            awaited bytea,
            extra bytea
        ) WITH (fillfactor = 60)""",
        "CREATE INDEX runs_by_age ON runs (created)",
        "CREATE INDEX runs_by_status ON runs (status, created)",
        "CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL",
        "CREATE INDEX runs_to_wake ON runs (wake) WHERE wake IS NOT NULL",
        """CREATE TABLE journal (
            run bigint NOT NULL,
            line bigint NOT NULL,
            seq bigint NOT NULL,
            state text COLLATE "C" NOT NULL,
            status text COLLATE "C" NOT NULL,
            at float8 NOT NULL,
            mark bigint,
            changes bytea NOT NULL,
            PRIMARY KEY (run, line)
        )""",
        """CREATE TABLE snapshot (
            run bigint NOT NULL,
            key bytea NOT NULL,
            value bytea NOT NULL,
            place bigint NOT NULL
        )""",
        "CREATE UNIQUE INDEX snapshot_keys ON snapshot (run, sha256(key))",
        """CREATE TABLE signals (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text COLLATE "C" NOT NULL,
            signal bytea NOT NULL,
            name bytea NOT NULL,
            payload bytea,
            consumed boolean NOT NULL DEFAULT false
        )""",
        "CREATE UNIQUE INDEX signals_sent ON signals (run_id, sha256(signal))",
        "CREATE INDEX signals_waiting ON signals (run_id) WHERE NOT consumed",
    ),
    (
        "DROP INDEX runs_by_age, runs_by_parent",
        # an expression, so that the planner reads it only for the list of all runs
        "CREATE INDEX runs_by_age ON runs ((created + 0))",
        "CREATE INDEX runs_by_parent ON runs (parent, created) WHERE parent IS NOT NULL",
        "CREATE INDEX runs_by_workflow ON runs (workflow, created)",
        """UPDATE runs SET wake = '-Infinity' WHERE status = 'parked' AND EXISTS (
            SELECT FROM signals
            WHERE signals.run_id = runs.run_id AND signals.name = runs.awaited AND NOT signals.consumed
        )""",
    ),
    (
        """CREATE TABLE audit (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text COLLATE "C",
            action text COLLATE "C" NOT NULL,
            actor text NOT NULL,
            at float8 NOT NULL,
            detail bytea NOT NULL,
            mark bigint
        )""",
        "CREATE INDEX audit_of_runs ON audit (run_id)",
    ),
    (
        "ALTER TABLE runs ADD COLUMN awaits_own boolean NOT NULL DEFAULT false",
        "ALTER TABLE snapshot ADD COLUMN own boolean NOT NULL DEFAULT false",
        "DROP INDEX snapshot_keys",
        f"UPDATE snapshot SET own = true, key = substring(key FROM 2) WHERE {_LED.format('key')}",
        "CREATE UNIQUE INDEX snapshot_keys ON snapshot (run, own, sha256(key))",
        "ALTER TABLE signals ADD COLUMN own boolean NOT NULL DEFAULT false",
        "DROP INDEX signals_sent",
        f"""UPDATE signals SET own = true,
            signal = CASE WHEN {_LED.format("signal")} THEN substring(signal FROM 2) ELSE signal END,
            name = CASE WHEN {_LED.format("name")} THEN substring(name FROM 2) ELSE name END
            WHERE {_LED.format("name")} OR {_CANCELS}""",
        """DELETE FROM signals AS later USING signals AS first
            WHERE first.own AND later.own AND first.run_id = later.run_id AND first.signal = later.signal
                AND first.id < later.id""",
        "CREATE UNIQUE INDEX signals_sent ON signals (run_id, own, sha256(signal))",
        _apart,
    ),
    (
        # so that a process of an earlier version fails that is still connected; its engine's values would be lost
        "ALTER TABLE journal RENAME COLUMN changes TO packed",
    ),
    (
        # space for four versions of each run that begins on a new page: its claim, two steps and its end; an update
        # that finds no space goes to another page and to all indexes, so that less space makes them all larger
        "ALTER TABLE runs SET (fillfactor = 40)",
    ),
    (
        "ALTER TABLE snapshot ADD COLUMN part bigint NOT NULL DEFAULT 0",
        "ALTER TABLE snapshot ALTER COLUMN value DROP NOT NULL",
        "ALTER TABLE snapshot RENAME COLUMN value TO content",  # so that a process of an earlier version fails
        "DROP INDEX snapshot_keys",
        "CREATE UNIQUE INDEX snapshot_keys ON snapshot (run, own, sha256(key), part)",
    ),
    (
        "DROP INDEX audit_of_runs",
        "CREATE INDEX audit_by_age ON audit (at, id)",
        "CREATE INDEX audit_of_runs ON audit (run_id, at, id)",
    ),
    (
        # by workflow, so that a poll reads no queue of another one
        "DROP INDEX runs_by_status, runs_to_wake",
        "CREATE INDEX runs_by_status ON runs (status, created) WHERE NOT status = 'running'",
        "CREATE INDEX runs_running ON runs (workflow, created) WHERE status = 'running'",
        "CREATE INDEX runs_to_wake ON runs (workflow, wake) WHERE wake IS NOT NULL",
    ),
    ("ALTER TABLE runs ADD COLUMN discarded bigint",),
    (
        """CREATE TABLE attributes (
            run bigint NOT NULL,
            name text COLLATE "C" NOT NULL,
            value bytea NOT NULL,
            created float8 NOT NULL,
            PRIMARY KEY (run, name)
        )""",
        "CREATE INDEX attributes_by_value ON attributes (name, value, created)",
    ),
    (
        """CREATE TABLE chunks (
            run bigint NOT NULL,
            channel bytea NOT NULL,
            first bigint NOT NULL,
            last bigint NOT NULL,
            value bytea NOT NULL
        )""",
        "CREATE UNIQUE INDEX chunks_of_runs ON chunks (run, sha256(channel), last)",
    ),
    (
        # an index on `updated` would get an entry for each step, also if it were partial
        """ALTER TABLE runs ADD COLUMN ended float8 GENERATED ALWAYS AS (
            CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN updated END
        ) STORED""",
        "CREATE INDEX runs_by_end ON runs (status, ended) WHERE ended IS NOT NULL",
    ),
    (
        "ALTER TABLE signals ADD COLUMN addressee bigint NOT NULL DEFAULT -1",
        "DROP INDEX signals_sent",
        # so that a process of an earlier version fails that is still connected
        "ALTER TABLE signals RENAME COLUMN signal TO signal_id",
        _address,
        "CREATE UNIQUE INDEX signals_sent ON signals (run_id, own, addressee, sha256(signal_id))",
    ),
    (
        """CREATE TABLE joined (
            id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
            run_id text COLLATE "C" NOT NULL,
            provisional text COLLATE "C" NOT NULL,
            is_signal boolean NOT NULL,
            most integer,
            audited text COLLATE "C",
            action text COLLATE "C",
            actor text COLLATE "C",
            at float8,
            detail bytea
        )""",
        SETTLE,
        """CREATE CONSTRAINT TRIGGER settle AFTER INSERT ON joined DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION settle()""",
        "ALTER TABLE joined ENABLE ALWAYS TRIGGER settle",
    ),
    (
        """CREATE TABLE slots (
            name text COLLATE "C" NOT NULL,
            run_id text COLLATE "C" NOT NULL,
            token bigint NOT NULL,
            seq bigint,
            size bigint NOT NULL,
            since float8 NOT NULL,
            waits boolean NOT NULL,
            lender text COLLATE "C",
            PRIMARY KEY (name, run_id)
        )""",
        'CREATE TABLE rates (name text COLLATE "C" PRIMARY KEY, next_at float8 NOT NULL)',
        "CREATE INDEX rates_by_time ON rates (next_at)",
    ),
    (
        # generated, since an index on `state` would get an entry for each step; an index takes no text of any length
        """ALTER TABLE runs ADD COLUMN error text COLLATE "C", ADD COLUMN cause text COLLATE "C",
            ADD COLUMN outcome text COLLATE "C" GENERATED ALWAYS AS (
                CASE WHEN status IN ('succeeded', 'failed', 'cancelled') THEN left(state, 200) END
            ) STORED""",
        _note_errors,
        "CREATE INDEX runs_by_outcome ON runs (status, outcome, created) WHERE outcome IS NOT NULL",
        "CREATE INDEX runs_by_error ON runs (error, created) WHERE status = 'failed' AND error IS NOT NULL",
        "CREATE INDEX runs_by_cause ON runs (cause, created) WHERE status = 'failed' AND cause IS NOT NULL",
    ),
    (
        """ALTER TABLE runs ADD COLUMN queue text COLLATE "C", ADD COLUMN priority integer,
            ADD COLUMN key text COLLATE "C", ADD COLUMN class bigint, ADD COLUMN due float8""",
        "CREATE INDEX runs_queued ON runs (class, priority DESC, key, id) WHERE status IN ('enqueued', 'due')",
        "CREATE INDEX runs_delayed ON runs (due) WHERE status = 'delayed'",
    ),
    (
        # last, so that no temporary table of a user is taken for one of these
        "SELECT set_config('search_path', current_setting('search_path') || ', pg_temp', true)",
        SETTLE,
        "CREATE INDEX joined_of_runs ON joined (run_id)",
    ),
)
"""The statements and functions that migrate a schema from each version to the next; the first creates the tables."""

VERSION = len(MIGRATIONS)
_FOUND = """
    SELECT to_regclass(format('%%I.cano_schema', %(schema)s::text)) IS NOT NULL,
        EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(format('%%I', %(schema)s::text))),
        to_regnamespace(format('%%I', %(schema)s::text)) IS NOT NULL"""


async def migrate(connection: AsyncConnection[Any], schema: str, label: str) -> None:
    """Migrate the tables to the newest schema version, in one transaction under a lock.

    Raises:
        StoreUnavailableError: a newer version of this plugin, or another program, created the tables.
    """
    if await _version(connection, schema, label) == VERSION:
        return  # the rest needs more privileges
    lock = int.from_bytes(sha256(b"cano " + schema.encode()).digest()[:8], "big", signed=True)
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(%s)", (lock,))
        version = await _version(connection, schema, label)
        if version == 0:
            if not (await _found(connection, schema)).exists:
                await connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            await connection.execute("CREATE TABLE cano_schema (version integer NOT NULL)")
            await connection.execute("INSERT INTO cano_schema VALUES (0)")
        for migration in MIGRATIONS[version:]:
            for step in migration:
                if callable(step):
                    await step(connection)
                else:
                    await connection.execute(step)
        await connection.execute("UPDATE cano_schema SET version = %s", (VERSION,))


async def is_there(connection: AsyncConnection[Any], schema: str) -> bool:
    """Return whether this plugin's tables exist, in any version. Create nothing."""
    return (await _found(connection, schema)).marked


class _Found(NamedTuple):
    """The state of a schema: whether it has this plugin's tables, or any relation, and whether it exists."""

    marked: bool
    used: bool
    exists: bool


async def _found(connection: AsyncConnection[Any], schema: str) -> _Found:
    row = await (await connection.execute(_FOUND, {"schema": schema})).fetchone()
    assert row is not None
    return _Found(*row)


async def _version(connection: AsyncConnection[Any], schema: str, label: str) -> int:
    """Return the version of the tables, or 0 if there are none."""
    found = await _found(connection, schema)
    if not found.marked:
        if found.used:
            raise StoreUnavailableError(
                f"the store {label} cannot be used: its schema {schema!r} has tables of another program; name another "
                "schema with ?schema=..."
            )
        return 0
    row = await (await connection.execute("SELECT version FROM cano_schema")).fetchone()
    version = -1 if row is None else int(row[0])
    if not 0 <= version <= VERSION:
        raise StoreUnavailableError(
            f"the store {label} has schema version {version}, but this cano-postgres supports versions up to "
            f"{VERSION}; install the newer cano-postgres that wrote it"
        )
    return version
