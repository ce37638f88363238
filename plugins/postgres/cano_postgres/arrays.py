"""Arrays as parameters, in the binary form of PostgreSQL: psycopg would write each value as text."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from psycopg.adapt import AdaptersMap, Dumper
from psycopg.pq import Format

_HEADER, _LENGTH, _EMPTY = struct.Struct("!5i"), struct.Struct("!i"), struct.Struct("!3i")
_NULL = _LENGTH.pack(-1)


class Array(bytes):
    """An array in its binary form. Each type of values has a class of its own."""


class Texts(Array):
    """An array of text."""


class Blobs(Array):
    """An array of bytea."""


class Bigs(Array):
    """An array of bigint."""


class Integers(Array):
    """An array of integer."""


class Reals(Array):
    """An array of float8."""


class Flags(Array):
    """An array of boolean."""


_OIDS: dict[type[Array], tuple[int, int]] = {
    Texts: (25, 1009), Blobs: (17, 1001), Bigs: (20, 1016), Integers: (23, 1007), Reals: (701, 1022), Flags: (16, 1000),
}  # fmt: skip
"""The numbers of the types of a value, and of an array of them, in `pg_type`."""


def texts(values: Iterable[str | None]) -> Texts:
    """Return an array of text. Raise UnicodeEncodeError for a lone surrogate."""
    packed: Texts = _of_bytes(Texts, [None if value is None else value.encode() for value in values])
    return packed


def blobs(values: Iterable[bytes | None]) -> Blobs:
    """Return an array of bytea."""
    packed: Blobs = _of_bytes(Blobs, list(values))
    return packed


def _of_bytes(kind: type[Any], values: Sequence[bytes | None]) -> Any:
    if not values:
        return kind(_EMPTY.pack(0, 0, _OIDS[kind][0]))
    parts = [_HEADER.pack(1, None in values, _OIDS[kind][0], len(values), 1)]
    for value in values:
        if value is None:
            parts.append(_NULL)
        else:
            parts += _LENGTH.pack(len(value)), value
    return kind(b"".join(parts))


def _of_numbers(kind: type[Any], code: str, values: Sequence[Any]) -> Any:
    """Return an array of values that `struct` packs. Raise struct.error for one out of range."""
    size = struct.calcsize(code)
    if not values or None in values:
        return _of_bytes(kind, [None if value is None else struct.pack(f"!{code}", value) for value in values])
    flat = [size] * (2 * len(values))
    flat[1::2] = values
    header = _HEADER.pack(1, 0, _OIDS[kind][0], len(values), 1)
    return kind(header + struct.pack("!" + f"i{code}" * len(values), *flat))


bigs: Callable[[Sequence[int]], Bigs] = partial(_of_numbers, Bigs, "q")
integers: Callable[[Sequence[int]], Integers] = partial(_of_numbers, Integers, "i")
reals: Callable[[Sequence[float | None]], Reals] = partial(_of_numbers, Reals, "d")
flags: Callable[[Sequence[bool]], Flags] = partial(_of_numbers, Flags, "?")


class _Dumper(Dumper):
    format = Format.BINARY

    def dump(self, obj: Array) -> Array:
        return obj


_DUMPERS = {kind: type(f"{kind.__name__}Dumper", (_Dumper,), {"oid": oid}) for kind, (_, oid) in _OIDS.items()}


def accept(adapters: AdaptersMap) -> None:
    """Let a connection take arrays as parameters."""
    for kind, dumper in _DUMPERS.items():
        adapters.register_dumper(kind, dumper)
