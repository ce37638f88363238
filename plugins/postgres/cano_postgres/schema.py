"""The tables, and how a database gets the newest ones.

- `runs` has one small row for each run, updated in place: where the run stands, and its lease. Its updates touch no
  index while the run goes on.
- `journal` is appended to: a line for each commit, numbered from 1 in each run; `runs.head` is the number of the last
  one. `mark` is a random number by which a commit is found again whose answer was lost.
- `snapshot` holds a run's data as they were after its line `runs.folded`, a row for each key. So a commit writes its
  changes once, and not a row for each key; and loading a run reads the lines that came after the last fold only.
- `signals` holds what was sent to a run, or to an id under which there is none yet. Consumed ones keep their id.

Keys, and the names and ids of signals, are bytes: PostgreSQL's text cannot hold NUL. Those that are part of an index
are in it as a hash, since an index holds nothing that is longer than about 2,700 bytes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, LiteralString, NamedTuple

from cano import StoreUnavailableError
from psycopg import AsyncConnection, sql

MIGRATIONS: tuple[tuple[LiteralString, ...], ...] = (
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
)
"""What brings a schema from each version to the next, beginning with an empty one."""

VERSION = len(MIGRATIONS)
_FOUND = """
    SELECT to_regclass(format('%%I.cano_schema', %(schema)s::text)) IS NOT NULL,
        EXISTS (SELECT FROM pg_class WHERE relnamespace = to_regnamespace(format('%%I', %(schema)s::text))),
        to_regnamespace(format('%%I', %(schema)s::text)) IS NOT NULL"""


async def migrate(connection: AsyncConnection[Any], schema: str, label: str) -> None:
    """Bring the tables up to date, in one transaction, in which no other process does the same.

    Raises:
        StoreUnavailableError: they belong to a newer version of this plugin, or to another program.
    """
    if await _version(connection, schema, label) == VERSION:
        return  # without asking for more rights than that
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
            for statement in migration:
                await connection.execute(statement)
        await connection.execute("UPDATE cano_schema SET version = %s", (VERSION,))


async def is_there(connection: AsyncConnection[Any], schema: str) -> bool:
    """Whether there are tables of this plugin, whatever their version. Nothing is made."""
    return (await _found(connection, schema)).marked


class _Found(NamedTuple):
    """What is known of a schema: whether it has our tables, and any; and whether there is such a schema."""

    marked: bool
    used: bool
    exists: bool


async def _found(connection: AsyncConnection[Any], schema: str) -> _Found:
    row = await (await connection.execute(_FOUND, {"schema": schema})).fetchone()
    assert row is not None
    return _Found(*row)


async def _version(connection: AsyncConnection[Any], schema: str, label: str) -> int:
    """The version that the tables have; 0 where there are none."""
    found = await _found(connection, schema)
    if not found.marked:
        if found.used:
            raise StoreUnavailableError(
                f"the store {label} cannot be used: its schema {schema!r} holds the tables of another program; name "
                "one of our own with ?schema=..."
            )
        return 0
    row = await (await connection.execute("SELECT version FROM cano_schema")).fetchone()
    version = -1 if row is None else int(row[0])
    if not 0 <= version <= VERSION:
        raise StoreUnavailableError(
            f"the store {label} has schema version {version}, but this cano-postgres knows versions up to {VERSION}; "
            "install the newer cano-postgres that wrote it"
        )
    return version
