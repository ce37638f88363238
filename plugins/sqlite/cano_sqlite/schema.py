"""The tables, and how a file gets the newest ones.

- `runs` has one small row for each run, updated in place: where the run stands, and its lease. The more rows there are
  in a page, the fewer pages are written when many runs go on together.
- `definitions` says what each run is a run of. That is longer, and never changes.
- `journal` is appended to: a line for each commit, which points at the line before it of the same run. `runs.head`
  is the last one, which a trigger sees to. So a commit touches the end of one table and one row of another, and no
  index; and a step, or the steps of many runs, are one statement, during which Python can do something else.
- `snapshot` holds a run's data as they were after its journal line `runs.folded`, a row for each key.
- `signals` holds what was sent to a run, or to an id under which there is none yet. Consumed ones keep their id.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cano import StoreUnavailableError

APPLICATION_ID = 0x43616E6F  # "Cano": tells our files from those of other programs

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL UNIQUE,
            workflow TEXT NOT NULL,
            version TEXT NOT NULL,
            fingerprint TEXT NOT NULL,
            parent TEXT,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            status TEXT NOT NULL,
            seq INTEGER NOT NULL,
            head INTEGER NOT NULL,
            folded INTEGER NOT NULL,
            tail INTEGER NOT NULL,
            holder TEXT,
            expires REAL,
            token INTEGER NOT NULL,
            wake REAL,
            awaited TEXT
        )""",
        "CREATE INDEX runs_by_age ON runs (created)",
        "CREATE INDEX runs_by_status ON runs (status, created)",
        "CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL",
        "CREATE INDEX runs_to_wake ON runs (wake) WHERE wake IS NOT NULL",
        """CREATE TABLE journal (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL,
            prev INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            state TEXT NOT NULL,
            status TEXT NOT NULL,
            at REAL NOT NULL,
            extra BLOB,
            changes BLOB NOT NULL
        )""",
        """CREATE TABLE snapshot (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL,
            key TEXT NOT NULL,
            value BLOB NOT NULL,
            UNIQUE (run, key)
        )""",
        """CREATE TABLE signals (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            signal TEXT NOT NULL,
            name TEXT NOT NULL,
            payload BLOB,
            consumed INTEGER NOT NULL DEFAULT 0,
            UNIQUE (run_id, signal)
        )""",
        "CREATE INDEX signals_waiting ON signals (run_id, name) WHERE consumed = 0",
        "PRAGMA application_id = 0x43616E6F",
        "PRAGMA user_version = 1",
    ),
    (
        """CREATE TRIGGER runs_follow AFTER INSERT ON journal BEGIN
            UPDATE runs SET seq = new.seq, head = new.id, updated = new.at, tail = tail + 1 WHERE id = new.run;
        END""",
        "PRAGMA user_version = 2",
    ),
    (
        """CREATE TABLE definitions (
            run INTEGER PRIMARY KEY,
            workflow TEXT NOT NULL,
            version TEXT NOT NULL,
            fingerprint TEXT NOT NULL
        )""",
        "INSERT INTO definitions SELECT id, workflow, version, fingerprint FROM runs",
        """CREATE TABLE small_runs (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL UNIQUE,
            parent TEXT,
            created REAL NOT NULL,
            updated REAL NOT NULL,
            status TEXT NOT NULL,
            seq INTEGER NOT NULL,
            head INTEGER NOT NULL,
            folded INTEGER NOT NULL,
            tail INTEGER NOT NULL,
            holder TEXT,
            expires REAL,
            token INTEGER NOT NULL,
            wake REAL,
            awaited TEXT
        )""",
        """INSERT INTO small_runs SELECT id, run_id, parent, created, updated, status, seq, head, folded, tail, holder,
            expires, token, wake, awaited FROM runs""",
        "DROP TRIGGER runs_follow",
        "DROP TABLE runs",
        "ALTER TABLE small_runs RENAME TO runs",
        "CREATE INDEX runs_by_age ON runs (created)",
        "CREATE INDEX runs_by_status ON runs (status, created)",
        "CREATE INDEX runs_by_parent ON runs (parent) WHERE parent IS NOT NULL",
        "CREATE INDEX runs_to_wake ON runs (wake) WHERE wake IS NOT NULL",
        """CREATE TRIGGER runs_follow AFTER INSERT ON journal BEGIN
            UPDATE runs SET seq = new.seq, head = new.id, updated = new.at, tail = tail + 1 WHERE id = new.run;
        END""",
        "PRAGMA user_version = 3",
    ),
)
"""What brings a file from each version of the schema to the next, beginning with an empty file."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the tables up to date, inside the caller's transaction.

    Raises:
        StoreUnavailableError: the file belongs to a newer version of this plugin, or to another program.
    """
    version = check(connection, path)
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            connection.execute(statement)


def check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the schema that the file has; 0 where it is new."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise StoreUnavailableError(f"the store {path} cannot be used: it is the database of another program")
    if not 0 <= version <= len(MIGRATIONS):
        raise StoreUnavailableError(
            f"the store {path} has schema version {version}, but this cano-sqlite knows versions up to "
            f"{len(MIGRATIONS)}; install the newer cano-sqlite that wrote it"
        )
    return int(version)
