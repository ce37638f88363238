"""A run's data: its snapshot, and the journal entries after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cano_msgspec.packing import Changes, DamagedError, unpack_changes, unreadable

from cano_postgres.work import Rows, Statement

TAIL = """
    SELECT id, head, folded,
        ARRAY(SELECT line FROM journal WHERE run = runs.id AND line > folded ORDER BY line),
        ARRAY(SELECT changes FROM journal WHERE run = runs.id AND line > folded ORDER BY line)
    FROM runs WHERE run_id = %s"""
# only if the snapshot is unchanged; the other statements follow, and a second process would write the same rows
_FOLDED = "UPDATE runs SET folded = %s, tail = 0 WHERE id = %s AND folded = %s RETURNING id"
_REMOVE = """
    DELETE FROM snapshot USING unnest(%s::bytea[]) AS gone
    WHERE run = %s AND sha256(key) = sha256(gone) AND EXISTS (SELECT FROM runs WHERE id = %s AND folded = %s)"""
_PUT = """
    INSERT INTO snapshot (run, key, value, place)
    SELECT %s, given.* FROM unnest(%s::bytea[], %s::bytea[], %s::bigint[]) AS given
    WHERE EXISTS (SELECT FROM runs WHERE id = %s AND folded = %s)
    ON CONFLICT (run, sha256(key)) DO UPDATE SET value = excluded.value"""
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
        gone: dict[str, None] = {}
        latest: dict[str, tuple[bytes, int]] = {}
        for line, (changed, removed) in unpacked(run_id, folded, head, numbers, blobs):
            for key in removed:
                gone[key] = None
                latest.pop(key, None)  # a key that is set again comes last
            for number, (key, value) in enumerate(changed.items()):
                place = latest[key][1] if key in latest else line * _PLACES + number
                latest[key] = value, place
        self.run_id = run_id
        self.size = sum(len(value) for value, _ in latest.values())
        keys, values = [key.encode() for key in latest], list(latest.values())
        self._statements: list[Statement] = [
            (_FOLDED, (head, run, folded)),
            (_REMOVE, ([key.encode() for key in gone], run, run, head)),
            (_PUT, (run, keys, [value for value, _ in values], [place for _, place in values], run, head)),
        ]

    def statements(self, *, again: bool) -> Sequence[Statement]:
        """Return the statements, which may be repeated."""
        return self._statements

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Return None."""


def merged(
    run_id: str,
    place: tuple[int, int],
    snapshot: tuple[Sequence[bytes], Sequence[bytes]],
    tail: tuple[Sequence[int], Sequence[bytes]],
) -> dict[str, bytes]:
    """Return all data of a run.

    Args:
        run_id: the run.
        place: the number of the snapshot's entry, and that of the newest entry.
        snapshot: keys and values.
        tail: the numbers and changes of the entries after the snapshot.

    Raises:
        SerializationError: a row is corrupt or missing.
    """
    data: dict[str, bytes] = {}
    for name, value in zip(*snapshot, strict=True):
        try:
            data[name.decode()] = value
        except UnicodeDecodeError as error:
            raise unreadable(run_id, f"the key {name!r} is corrupt") from error
    for _, (changed, removed) in unpacked(run_id, *place, *tail):
        for key in removed:
            data.pop(key, None)
        data.update(changed)
    return data


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
