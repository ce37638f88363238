"""A run's data: its snapshot, and the journal entries after it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from cano import Appended
from cano_msgspec.packing import (
    Changes,
    DamagedError,
    pack_parts,
    unpack_changes,
    unpack_parts,
    unreadable,
    with_changes,
)

from cano_sqlite.failures import primary_code
from cano_sqlite.tails import Tails, merge

# a run's entries, from the newest one back to the one after `folded`; each has a greater id than the one it points to
_CHANGES = """
    WITH RECURSIVE chain (id, prev) AS (
        SELECT id, prev FROM journal WHERE id = :head AND id > :folded
        UNION ALL
        SELECT older.id, older.prev FROM chain CROSS JOIN journal AS older
        WHERE older.id = chain.prev AND chain.prev > :folded AND chain.prev < chain.id
    )
    SELECT id, prev, run, packed FROM journal WHERE id IN (SELECT id FROM chain) ORDER BY id"""
# the entry `until`, and those before it, back to the first one whose seq is `after` or less
PART = """
    WITH RECURSIVE chain (id, prev, seq) AS (
        SELECT id, prev, seq FROM journal WHERE id = :until
        UNION ALL
        SELECT older.id, older.prev, older.seq FROM chain CROSS JOIN journal AS older
        WHERE older.id = chain.prev AND chain.prev < chain.id AND chain.seq > :after
    )
    SELECT id, prev, run, packed, seq, state, status, at FROM journal WHERE id IN (SELECT id FROM chain) ORDER BY id"""
_MARK = "INSERT OR REPLACE INTO marks (run, seq, id) VALUES (?, ?, ?)"
NEXT_MARK = "SELECT seq, id FROM marks WHERE run = ? AND seq > ? ORDER BY seq LIMIT 1"
_PUT = """
    INSERT INTO snapshot (run, own, key, content) VALUES (?, ?, ?, ?)
    ON CONFLICT (run, own, key, part) DO UPDATE SET content = coalesce(excluded.content, content)"""
_APPEND = "INSERT INTO snapshot (run, own, key, part, content) VALUES (?, ?, ?, ?, ?)"
_REMOVE = "DELETE FROM snapshot WHERE run = ? AND own = ? AND key = ?"
_CUT = "DELETE FROM snapshot WHERE run = ? AND own = ? AND key = ? AND part > 0"
_SNAPSHOT = "SELECT own, key, content, part FROM snapshot WHERE run = ? ORDER BY id"
_FOLDED = """
    UPDATE runs SET folded = head, tail = 0
    WHERE run_id = ? AND id = ? AND head = ? AND folded = ? AND tail = ? AND seq = ? AND token = ?"""


class Place(NamedTuple):
    """The journal entries after a run's snapshot: those after `folded`, up to `head`."""

    run_id: str
    run: int
    head: int
    folded: int


def fetch(connection: sqlite3.Connection, question: str, values: Any) -> list[tuple[Any, ...]]:
    """Return all rows. A text that is not UTF-8 is returned as bytes, so that it is corrupt, and spoils no other row.

    A cursor that is left half read, because a row is corrupt, would keep its transaction open.
    """
    try:
        return connection.execute(question, values).fetchall()
    except sqlite3.OperationalError as error:
        if primary_code(error):
            raise
    # the error is not SQLite's: Python could not decode a text
    connection.text_factory = _text_or_bytes
    try:
        return connection.execute(question, values).fetchall()
    finally:
        connection.text_factory = str


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def lines(
    connection: sqlite3.Connection, run_id: str, run: int, until: int, after: int
) -> Iterator[tuple[Changes, Sequence[Any]]]:
    """Yield the changes of each entry up to the one with the id `until`, with its seq, state, status and time.

    The first one is the run's first, or the newest with a seq of at most `after`.

    Raises:
        SerializationError: an entry is corrupt or missing.
    """
    rows = fetch(connection, PART, {"until": until, "after": after})
    before = rows[0][1] if rows and isinstance(rows[0][4], int) and rows[0][4] <= after else 0
    return _unpacked(rows, Place(run_id, run, until, before))


def next_mark(connection: sqlite3.Connection, run: int, seq: int) -> tuple[int, int] | None:
    """Return the seq and the id of the first marked entry with a greater seq; None if there is none."""
    for mark in connection.execute(NEXT_MARK, (run, seq)).fetchall():
        if all(isinstance(number, int) for number in mark):
            found: tuple[int, int] = mark
            return found
    return None


def read_data(connection: sqlite3.Connection, place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all data of a run, and the engine's own values."""
    values: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for own, key, content, part in fetch(connection, _SNAPSHOT, (place.run,)):
        right = isinstance(content, bytes) or (content is None and part == 0)
        if not isinstance(key, str) or not right or own not in (0, 1) or (part != 0 and key not in values[own]):
            raise unreadable(place.run_id, f"the value of key {key!r} is corrupt", key=str(key))
        if part == 0:
            values[own][key] = content
            continue
        try:
            Appended.gather(values[own], {key: unpack_parts(content)})
        except DamagedError as error:
            raise unreadable(place.run_id, error, key=key) from error
    return with_changes(place.run_id, values, _changes(connection, place))


def fold(connection: sqlite3.Connection, run_id: str, tails: Tails) -> None:
    """Compact a run: bring its snapshot up to its newest entry, so that `load` reads fewer entries.

    Args:
        connection: a connection in a transaction.
        run_id: the run; it may not exist.
        tails: the remembered tails. With the run's tail, compaction reads no entries.
    """
    tail = tails.take(run_id)
    if tail is not None and tail.folded is not None:
        mine = run_id, tail.run, tail.head, tail.folded, tail.count, tail.seq, tail.token
        if connection.execute(_FOLDED, mine).rowcount == 1:
            _put(connection, tail.run, False, tail.head, tail.gone, tail.latest)
            connection.execute(_MARK, (tail.run, tail.seq, tail.head))
            tails.begin(run_id, tail.run, tail.head, tail.head, tail.seq, tail.token)
            return
    row = connection.execute("SELECT id, head, folded, seq, token FROM runs WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        return
    run, head, folded, seq, token = row
    merged: tuple[tuple[dict[str, None], dict[str, Any]], ...] = ({}, {}), ({}, {})
    for change in _changes(connection, Place(run_id, run, head, folded)):
        for some, changed, removed in zip(merged, change[::2], change[1::2], strict=True):
            merge(*some, changed, removed)
    for own, some in zip((False, True), merged, strict=True):
        _put(connection, run, own, head, *some)
    connection.execute("UPDATE runs SET folded = head, tail = 0 WHERE id = ?", (run,))
    connection.execute(_MARK, (run, seq, head))
    tails.begin(run_id, run, head, head, seq, token)


def _put(
    connection: sqlite3.Connection, run: int, own: bool, head: int, gone: Iterable[str], latest: Mapping[str, Any]
) -> None:
    """Write what changed since the snapshot, see `merge`. The parts of a value are written as part `head`."""
    if gone:
        connection.executemany(_REMOVE, [(run, own, key) for key in gone])
    parts = {key: value[1:] for key, value in latest.items() if isinstance(value, list)}
    put = [(run, own, key, value[0] if key in parts else value) for key, value in latest.items()]
    connection.executemany(_CUT, [row[:3] for row in put if row[3] is not None])
    connection.executemany(_PUT, put)
    if parts:
        connection.executemany(_APPEND, [(run, own, key, head, pack_parts(parts[key])) for key in parts])


def _changes(connection: sqlite3.Connection, place: Place) -> Iterator[Changes]:
    rows = fetch(connection, _CHANGES, {"head": place.head, "folded": place.folded})
    return (changes for changes, _ in _unpacked(rows, place))


def _unpacked(rows: Iterable[tuple[Any, ...]], place: Place) -> Iterator[tuple[Changes, Sequence[Any]]]:
    before = place.folded
    for id, prev, run, blob, *rest in rows:
        if prev != before or run != place.run:
            raise unreadable(place.run_id, f"its journal is broken before entry {id}")
        try:
            yield unpack_changes(blob), rest
        except DamagedError as error:
            raise unreadable(place.run_id, error) from error
        before = id
    if before != place.head:
        raise unreadable(place.run_id, f"entry {place.head} of its journal is missing")
