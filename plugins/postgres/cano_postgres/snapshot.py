"""A run's data: its snapshot, and the tail of its journal that came after it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cano_msgspec.packing import Changes, DamagedError, unpack_changes

from cano_postgres.failures import unreadable
from cano_postgres.work import Rows, Statement

TAIL = """
    SELECT id, head, folded,
        ARRAY(SELECT line FROM journal WHERE run = runs.id AND line > folded ORDER BY line),
        ARRAY(SELECT changes FROM journal WHERE run = runs.id AND line > folded ORDER BY line)
    FROM runs WHERE run_id = %s"""
# only by whoever finds the snapshot as it was: then the others may follow, and whoever does the same writes the same
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
"""More keys than one line can set."""


class Fold:
    """The work of bringing a run's snapshot up to its newest line: then loading it reads no line before that one.

    Args:
        run_id: the run.
        row: what `TAIL` says of it.

    Raises:
        SerializationError: its journal is damaged.
    """

    news = None

    def __init__(self, run_id: str, row: tuple[int, int, int, Sequence[int], Sequence[bytes]]) -> None:
        run, head, folded, numbers, blobs = row
        gone: dict[str, None] = {}
        latest: dict[str, tuple[bytes, int]] = {}
        for line, (changed, removed) in unpacked(run_id, folded, head, numbers, blobs):
            for key in removed:
                gone[key] = None
                latest.pop(key, None)  # set anew, it comes last
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
        """The same, however often."""
        return self._statements

    def outcome(self, rows: Sequence[Rows], *, again: bool) -> None:
        """Nothing."""


def merged(
    run_id: str,
    place: tuple[int, int],
    snapshot: tuple[Sequence[bytes], Sequence[bytes]],
    tail: tuple[Sequence[int], Sequence[bytes]],
) -> dict[str, bytes]:
    """All the data of a run.

    Args:
        run_id: the run.
        place: the number of the line that was folded last, and that of the newest.
        snapshot: keys and values.
        tail: the numbers and changes of the lines that came after it.

    Raises:
        SerializationError: something of it is damaged or missing.
    """
    data: dict[str, bytes] = {}
    for name, value in zip(*snapshot, strict=True):
        try:
            data[name.decode()] = value
        except UnicodeDecodeError as error:
            raise unreadable(run_id, f"the key {name!r} is damaged") from error
    for _, (changed, removed) in unpacked(run_id, *place, *tail):
        for key in removed:
            data.pop(key, None)
        data.update(changed)
    return data


def unpacked(
    run_id: str, folded: int, head: int, numbers: Sequence[int], blobs: Sequence[bytes]
) -> Iterator[tuple[int, Changes]]:
    """What each line changed; they must be all from the one after `folded` to `head`."""
    if list(numbers) != list(range(folded + 1, head + 1)) or folded > head:
        raise unreadable(run_id, f"its journal is broken between lines {folded} and {head}")
    for number, blob in zip(numbers, blobs, strict=True):
        try:
            yield number, unpack_changes(blob)
        except DamagedError as error:
            raise unreadable(run_id, error) from error
