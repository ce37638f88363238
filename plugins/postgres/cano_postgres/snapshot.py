"""A run's data: its snapshot, and the journal entries after it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, LiteralString

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

from cano_postgres.work import Rows, Statement

TAIL = """
    SELECT id, head, folded,
        ARRAY(SELECT line FROM journal WHERE run = runs.id AND line > folded ORDER BY line),
        ARRAY(SELECT packed FROM journal WHERE run = runs.id AND line > folded ORDER BY line)
    FROM runs WHERE run_id = %s"""
# only if the snapshot is unchanged; the other statements follow, and a second process would write the same rows
_FOLDED = "UPDATE runs SET folded = %s, tail = 0 WHERE id = %s AND folded = %s RETURNING id"
_REMOVE: LiteralString = """
    DELETE FROM snapshot USING unnest(%s::boolean[], %s::bytea[]) AS gone (own, key)
    WHERE run = %s AND snapshot.own = gone.own AND sha256(snapshot.key) = sha256(gone.key)
        AND EXISTS (SELECT FROM runs WHERE id = %s AND folded = %s)"""
_CUT: LiteralString = f"{_REMOVE} AND snapshot.part > 0"
_PUT = """
    INSERT INTO snapshot (run, own, key, content, part, place)
    SELECT %s, given.* FROM unnest(%s::boolean[], %s::bytea[], %s::bytea[], %s::bigint[], %s::bigint[]) AS given
    WHERE EXISTS (SELECT FROM runs WHERE id = %s AND folded = %s)
    ON CONFLICT (run, own, sha256(key), part) DO UPDATE SET content = coalesce(excluded.content, snapshot.content)"""
_PLACES = 1 << 24
"""More keys than one entry can set."""


class Fold:
    """The work of compacting a run: it brings the snapshot up to the newest entry, so that `load` reads fewer entries.

    Args:
        run_id: the run.
        row: the run's row of `TAIL`.

    Raises:
        SerializationError: the journal is corrupt.
    """

    news = None
    awaits = False

    def __init__(self, run_id: str, row: tuple[int, int, int, Sequence[int], Sequence[bytes]]) -> None:
        run, head, folded, numbers, blobs = row
        gone: dict[tuple[bool, str], None] = {}
        places: dict[tuple[bool, str], int] = {}
        latest: tuple[dict[str, Any], dict[str, Any]] = {}, {}
        for line, changes in unpacked(run_id, folded, head, numbers, blobs):
            for own, changed, removed in zip((False, True), changes[::2], changes[1::2], strict=True):
                for key in removed:
                    gone[own, key] = None
                    places.pop((own, key), None)  # a key that is set again comes last
                for number, key in enumerate(changed):
                    places.setdefault((own, key), line * _PLACES + number)
                Appended.gather(latest[own], changed, removed)
        rows: list[tuple[bool, str, bytes | None, int, int]] = []
        for (own, key), place in places.items():
            value = latest[own][key]
            if isinstance(value, list):
                value, *parts = value
                rows.append((own, key, pack_parts(parts), head, (head + 1) * _PLACES - 1 - len(rows)))
            rows.append((own, key, value, 0, place))
        put = {(own, key): None for own, key, value, part, _ in rows if part == 0 and value is not None}
        self.run_id = run_id
        self.size = sum(len(content) for _, _, content, _, _ in rows if content is not None)
        values = [[row[column] for row in rows] for column in (2, 3, 4)]
        self._statements: list[Statement] = [
            (_FOLDED, (head, run, folded)),
            (_REMOVE, (*_columns(gone), run, run, head)),
            (_CUT, (*_columns(put), run, run, head)),
            (_PUT, (run, *_columns((own, key) for own, key, *_ in rows), *values, run, head)),
        ]

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the statements, which may be repeated."""
        return self._statements

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""


def _columns(keys: Iterable[tuple[bool, str]]) -> tuple[list[bool], list[bytes]]:
    """Return whether each key is one of the engine's own values, and the keys."""
    pairs = list(keys)
    return [own for own, _ in pairs], [key.encode() for _, key in pairs]


def merged(
    run_id: str,
    place: tuple[int, int],
    snapshot: tuple[Sequence[bool], Sequence[bytes], Sequence[bytes | None], Sequence[int]],
    tail: tuple[Sequence[int], Sequence[bytes]],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return all data of a run, and the engine's own values.

    Args:
        run_id: the run.
        place: the number of the snapshot's entry, and that of the newest entry.
        snapshot: whether each value is one of the engine's own; keys; contents; parts.
        tail: the numbers and changes of the entries after the snapshot.

    Raises:
        SerializationError: a row is corrupt or missing.
    """
    found: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for own, name, content, part in zip(*snapshot, strict=True):
        try:
            key = name.decode()
            if part == 0:
                found[own][key] = content
            elif key in found[own]:
                Appended.gather(found[own], {key: unpack_parts(content)})
            else:
                raise DamagedError("its parts follow nothing")
        except (UnicodeDecodeError, DamagedError) as error:
            raise unreadable(run_id, f"the key {name!r} is corrupt") from error
    return with_changes(run_id, found, (changes for _, changes in unpacked(run_id, *place, *tail)))


def unpacked(
    run_id: str, folded: int, head: int, numbers: Sequence[int], blobs: Sequence[bytes]
) -> Iterator[tuple[int, Changes]]:
    """Yield the changes of the entries after `folded`, up to `head`. Raise SerializationError if one is missing."""
    if list(numbers) != list(range(folded + 1, head + 1)) or folded > head:
        raise unreadable(run_id, f"its journal is broken between entries {folded} and {head}")
    for number, blob in zip(numbers, blobs, strict=True):
        try:
            yield number, unpack_changes(blob)
        except DamagedError as error:
            raise unreadable(run_id, error) from error
