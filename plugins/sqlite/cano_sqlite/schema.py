"""The tables, and their migrations.

- `runs` has one small row for each run, updated in place: its status and lease. The smaller the rows, the fewer pages
  the steps of many runs write.
- `definitions` has a run's workflow, version and fingerprint. They are longer, and never change; so its index by
  workflow and age is written only when a run is created.
- `journal` gets an entry for each commit. An entry points to the run's previous one, and `runs.head` to its newest; a
  trigger updates that. So a commit writes the end of one table, one row of another and no index. The steps of many
  runs are one statement, during which Python can run other code.
- `snapshot` has a run's data as of its journal entry `runs.folded`. Compaction moves it forward. Each key has a row
  whose `part` is 0 and, if commits have appended to its value, one for each compaction since: with the parts that were
  appended, and the entry as `part`. So a compaction writes the new parts only. `content` is NULL if nothing was set.
- `marks` has the seq and the id of the journal entry of each compaction. So a part of a long history is found without
  the entries after it.
- `signals` has the signals sent to a run, even before the run exists. A consumed signal keeps its id. Its
  `addressee` is the seq of the wait that it answers, or ANY: ids are unique for each.
- `runs.wake` is the time from which a parked run can continue: the end of its wait, or DUE once its signal has come. So
  one index finds the runs that are ready, however many are parked and however many signals no run awaits.
- `runs.queue`, `priority` and `key` are those of a submitted run, otherwise null; `class` is the number of its
  definition and queue. While it waits there its `status` is `enqueued`; with a delay `delayed` until the time `due`,
  then `due`. A claim sets the run's own status, so it leaves the index of its queue.
- `news` has the last runs that were released or deleted, NULL for any run: what no other table shows to those who look
  for changes.
- `attributes` has the search attributes of runs, as bytes that keep the order of values, and the time of the creation,
  by which lists are sorted.
- `audit` has the entries of the audit. They stay when their run is deleted.
- `chunks` has the streams of runs.
- `slots` has the slots that runs hold of limits of all processes, and the requests that wait for one; `rates` has the
  next time of each rate. Rows that no longer count are deleted when another run asks.

`runs.outcome` is the state of a run that has ended; `runs.error` and `runs.cause`, the classes of a failed run's error.
No other run has an entry in their indexes.

The column `own` tells the engine's own values and signals from those of users; `runs.awaits_engine`, which kind
`awaited` is. An entry of the journal has both apart in one blob.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

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

APPLICATION_ID = 0x43616E6F  # "Cano": distinguishes our files from those of other programs

ANY = -1
"""The `addressee` of a signal that is for any wait."""
DUE = "-9e999"
"""Minus infinity, as SQL."""
_ENDED = "status IN ('cancelled', 'failed', 'succeeded')"
_HAS_ENDED = "NOT (runs.status <> 'cancelled' AND runs.status <> 'failed' AND runs.status <> 'succeeded')"
ENDED = f"runs.{_ENDED} AND {_HAS_ENDED}"
"""The runs that have ended. The second half is the condition of the index `runs_by_update`, in these very words.

Each step evaluates that twice, and for `IN` with three values SQLite would make a table each time.
"""

_SPACE = r"(?>[ \t\n\f\r]|--[^\n]*\n|/\*.*?\*/)+"  # atomic: otherwise each comment of a crafted file doubles the time
_TRIGGER = re.compile(f"CREATE{_SPACE}(?:TEMP{_SPACE}|TEMPORARY{_SPACE})?TRIGGER\\b", re.IGNORECASE | re.DOTALL)
_TABLE = re.compile(
    r"\b(runs|definitions|journal|snapshot|marks|signals|news|audit|attributes|chunks|slots|rates)\b", re.IGNORECASE
)
_FOLLOW = """CREATE TRIGGER runs_follow AFTER INSERT ON journal BEGIN
            UPDATE runs SET seq = new.seq, head = new.id, updated = new.at, tail = tail + 1 WHERE id = new.run;
        END"""

# text of a key or a name that began with NUL, and was the engine's own then. SQLite's functions of text stop at a NUL
_IS_OWN = "(substr(CAST({0} AS BLOB), 1, 1) = x'00')"
_UNLED = f"iif({_IS_OWN}, CAST(substr(CAST({{0}} AS BLOB), 2) AS TEXT), {{0}})"

_CANCELS = (
    "substr(CAST(signal AS BLOB), 1, 7) = CAST(char(0) || 'cancel' AS BLOB)"  # copies lacked the consumed one's name
)

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
        _FOLLOW,
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
        _FOLLOW,
        "PRAGMA user_version = 3",
    ),
    (
        "ALTER TABLE definitions ADD COLUMN created REAL NOT NULL DEFAULT 0",
        "UPDATE definitions SET created = coalesce((SELECT created FROM runs WHERE runs.id = definitions.run), 0)",
        "CREATE INDEX runs_by_workflow ON definitions (workflow, created)",
        "DROP INDEX runs_by_parent",
        "CREATE INDEX runs_by_parent ON runs (parent, created) WHERE parent IS NOT NULL",
        f"""UPDATE runs SET wake = {DUE} WHERE status = 'parked' AND EXISTS (
            SELECT 1 FROM signals
            WHERE signals.run_id = runs.run_id AND signals.name = runs.awaited AND signals.consumed = 0
        )""",
        "PRAGMA user_version = 4",
    ),
    (
        """CREATE TABLE audit (
            id INTEGER PRIMARY KEY,
            run_id TEXT,
            action TEXT NOT NULL,
            actor TEXT NOT NULL,
            at REAL NOT NULL,
            detail TEXT NOT NULL
        )""",
        "CREATE INDEX audit_of_runs ON audit (run_id)",
        "PRAGMA user_version = 5",
    ),
    (
        "ALTER TABLE runs ADD COLUMN awaits_own INTEGER NOT NULL DEFAULT 0",
        """CREATE TABLE apart_snapshot (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL,
            own INTEGER NOT NULL,
            key TEXT NOT NULL,
            value BLOB NOT NULL,
            UNIQUE (run, own, key)
        )""",
        f"""INSERT INTO apart_snapshot SELECT id, run, {_IS_OWN.format("key")}, {_UNLED.format("key")}, value
            FROM snapshot""",
        "DROP TABLE snapshot",
        "ALTER TABLE apart_snapshot RENAME TO snapshot",
        """CREATE TABLE apart_signals (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            own INTEGER NOT NULL DEFAULT 0,
            signal TEXT NOT NULL,
            name TEXT NOT NULL,
            payload BLOB,
            consumed INTEGER NOT NULL DEFAULT 0,
            UNIQUE (run_id, own, signal)
        )""",
        f"""INSERT OR IGNORE INTO apart_signals
            SELECT id, run_id, own, iif(own, {_UNLED.format("signal")}, signal), {_UNLED.format("name")}, payload,
                consumed
            FROM (SELECT *, {_IS_OWN.format("name")} OR {_CANCELS} AS own FROM signals)""",
        "DROP TABLE signals",
        "ALTER TABLE apart_signals RENAME TO signals",
        "CREATE INDEX signals_waiting ON signals (run_id, name) WHERE consumed = 0",
        "UPDATE journal SET changes = cano_apart(changes) WHERE instr(changes, x'00') > 0",
        "PRAGMA user_version = 6",
    ),
    (
        # so that a process of an earlier version fails that still has the file open; its engine's values would be lost
        "ALTER TABLE journal RENAME COLUMN changes TO packed",
        "PRAGMA user_version = 7",
    ),
    (
        """CREATE TABLE marks (
            run INTEGER NOT NULL,
            seq INTEGER NOT NULL,
            id INTEGER NOT NULL,
            PRIMARY KEY (run, seq)
        ) WITHOUT ROWID""",
        "PRAGMA user_version = 8",
    ),
    (
        """CREATE TABLE parted_snapshot (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL,
            own INTEGER NOT NULL,
            key TEXT NOT NULL,
            part INTEGER NOT NULL DEFAULT 0,
            content BLOB,
            UNIQUE (run, own, key, part)
        )""",
        "INSERT INTO parted_snapshot (id, run, own, key, content) SELECT id, run, own, key, value FROM snapshot",
        "DROP TABLE snapshot",  # a process of an earlier version fails, since there is no `value`
        "ALTER TABLE parted_snapshot RENAME TO snapshot",
        "PRAGMA user_version = 9",
    ),
    (
        "CREATE TABLE news (id INTEGER PRIMARY KEY, run_id TEXT)",
        "PRAGMA user_version = 10",
    ),
    (
        "CREATE INDEX audit_by_age ON audit (at)",
        "DROP INDEX audit_of_runs",
        "CREATE INDEX audit_of_runs ON audit (run_id, at)",
        "PRAGMA user_version = 11",
    ),
    (
        """CREATE TABLE attributes (
            run INTEGER NOT NULL,
            name TEXT NOT NULL,
            value BLOB NOT NULL,
            created REAL NOT NULL,
            PRIMARY KEY (run, name)
        ) WITHOUT ROWID""",
        "CREATE INDEX attributes_by_value ON attributes (name, value, created)",
        "PRAGMA user_version = 12",
    ),
    (
        """CREATE TABLE chunks (
            id INTEGER PRIMARY KEY,
            run INTEGER NOT NULL,
            channel TEXT NOT NULL,
            first INTEGER NOT NULL,
            last INTEGER NOT NULL,
            value BLOB NOT NULL,
            UNIQUE (run, channel, last)
        )""",
        "PRAGMA user_version = 13",
    ),
    (
        # of ended runs only, so that a step writes no entry
        f"CREATE INDEX runs_by_update ON runs (status, updated) WHERE {_ENDED}",
        "PRAGMA user_version = 14",
    ),
    (
        # `signal` has a new name, so that a process of an earlier version fails that still has the file open
        f"""CREATE TABLE addressed_signals (
            id INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL,
            own INTEGER NOT NULL DEFAULT 0,
            addressee INTEGER NOT NULL DEFAULT {ANY},
            signal_id TEXT NOT NULL,
            name TEXT NOT NULL,
            payload BLOB,
            consumed INTEGER NOT NULL DEFAULT 0,
            UNIQUE (run_id, own, addressee, signal_id)
        )""",
        f"""INSERT INTO addressed_signals
            SELECT id, run_id, own, iif(own, {ANY}, cano_addressee(CAST(signal AS BLOB))),
                iif(own, signal, CAST(cano_addressed_id(CAST(signal AS BLOB)) AS TEXT)), name, payload, consumed
            FROM signals""",
        "DROP TABLE signals",
        "ALTER TABLE addressed_signals RENAME TO signals",
        "CREATE INDEX signals_waiting ON signals (run_id, name) WHERE consumed = 0",
        "PRAGMA user_version = 15",
    ),
    (
        """CREATE TABLE slots (
            name TEXT NOT NULL,
            run_id TEXT NOT NULL,
            token INTEGER NOT NULL,
            seq INTEGER,
            size INTEGER NOT NULL,
            since REAL NOT NULL,
            waits INTEGER NOT NULL,
            lender TEXT,
            PRIMARY KEY (name, run_id)
        ) WITHOUT ROWID""",
        "CREATE TABLE rates (name TEXT PRIMARY KEY, next_at REAL NOT NULL) WITHOUT ROWID",
        "CREATE INDEX rates_by_time ON rates (next_at)",
        "PRAGMA user_version = 16",
    ),
    (
        "ALTER TABLE runs ADD COLUMN queue TEXT",
        "ALTER TABLE runs ADD COLUMN priority INTEGER",
        "ALTER TABLE runs ADD COLUMN key TEXT",
        "ALTER TABLE runs ADD COLUMN class INTEGER",
        "ALTER TABLE runs ADD COLUMN due REAL",
        "CREATE INDEX runs_queued ON runs (class, priority DESC, key, id) WHERE status IN ('enqueued', 'due')",
        "CREATE INDEX runs_delayed ON runs (due) WHERE status = 'delayed'",
        "PRAGMA user_version = 17",
    ),
    (
        # a process of an earlier version, which notes no outcome, fails if it still has the file open
        "ALTER TABLE runs RENAME COLUMN awaits_own TO awaits_engine",
        "ALTER TABLE runs ADD COLUMN outcome TEXT",
        "ALTER TABLE runs ADD COLUMN error TEXT",
        "ALTER TABLE runs ADD COLUMN cause TEXT",
        f"UPDATE runs SET outcome = (SELECT state FROM journal WHERE journal.id = runs.head) WHERE {_ENDED}",
        """UPDATE runs SET (error, cause) =
            (SELECT cano_class(extra, 0), cano_class(extra, 1) FROM journal WHERE journal.id = runs.head)
            WHERE status = 'failed'""",
        # of ended runs only, so that a step writes no entry
        "CREATE INDEX runs_by_outcome ON runs (status, outcome, created) WHERE outcome IS NOT NULL",
        "CREATE INDEX runs_by_error ON runs (error, created) WHERE error IS NOT NULL",
        "CREATE INDEX runs_by_cause ON runs (cause, created) WHERE cause IS NOT NULL",
        "PRAGMA user_version = 18",
    ),
    (
        "DROP INDEX runs_by_update",
        f"CREATE INDEX runs_by_update ON runs (status, updated) WHERE {_HAS_ENDED.replace('runs.', '')}",
        "PRAGMA user_version = 19",
    ),
)
"""The statements that migrate a file from each schema version to the next; the first creates the tables."""


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the tables to the newest schema, inside the caller's transaction.

    Raises:
        StoreUnavailableError: a newer version of this plugin, or another program, wrote the file.
    """
    version = check(connection, path)
    if version < len(MIGRATIONS):
        connection.create_function("cano_apart", 1, _apart, deterministic=True)
        connection.create_function("cano_addressee", 1, _addressee, deterministic=True)
        connection.create_function("cano_addressed_id", 1, _addressed_id, deterministic=True)
        connection.create_function("cano_class", 2, _class, deterministic=True)
    for migration in MIGRATIONS[version:]:
        for statement in migration:
            connection.execute(statement)


def _apart(blob: bytes) -> bytes:
    """Return the changes of a journal entry with the engine's own apart. A corrupt one stays, for `load` to report."""
    try:
        return pack_changes(*apart(unpack_changes(blob)))
    except DamagedError:
        return blob


def _addressee(id: bytes) -> int:
    to = addressed(id)[0]
    return ANY if to is None else to


def _addressed_id(id: bytes) -> bytes:
    return addressed(id)[1]


def _class(extra: bytes | None, number: int) -> str | None:
    """Return the class of the error of a failed run, or of its cause; None if there is none, or it is corrupt."""
    try:
        error, *_ = unpack_extra(extra)
    except DamagedError:
        return None
    return outcome_of(RunStatus.FAILED, "", error)[1 + number]


def check(connection: sqlite3.Connection, path: Path) -> int:
    """Return the file's schema version, or 0 if the file is new. Raise StoreUnavailableError as `migrate` does."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application != APPLICATION_ID and (version or application or tables):
        raise StoreUnavailableError(
            f"the store {path} cannot be used: it is the database of another program; name another file"
        )
    if not 0 <= version <= len(MIGRATIONS):
        raise StoreUnavailableError(
            f"the store {path} has schema version {version}, but this cano-sqlite supports versions up to "
            f"{len(MIGRATIONS)}; install the newer cano-sqlite that wrote it"
        )
    _check_triggers(connection, path, version)
    return int(version)


def _check_triggers(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Raise StoreUnavailableError unless the only trigger on our tables is ours. Other tables may have triggers."""
    ours = False
    # by the statement, which is what SQLite goes by: the other columns of a crafted file may say anything
    for name, statement in connection.execute("SELECT name, CAST(sql AS TEXT) FROM sqlite_master WHERE sql NOT NULL"):
        if statement == _FOLLOW:
            ours = True
        elif _TRIGGER.match(statement) and _TABLE.search(statement):
            raise StoreUnavailableError(
                f"the store {path} cannot be used: Cano did not make its trigger {name!r}, which names a table of runs "
                "and may change them; find out who made it, then drop it"
            )
    if not ours and version >= 2:
        raise StoreUnavailableError(
            f"the store {path} cannot be used: its trigger 'runs_follow' is missing or changed; restore a backup"
        )
