"""Arrays as parameters: the server reads from each what was given."""

from __future__ import annotations

import struct
from typing import Any

import psycopg
import pytest
from cano_postgres import arrays

CASES: dict[str, tuple[Any, list[Any]]] = {
    "text": (arrays.texts, ["", 'ключ {} \\ \n "', None, "x" * 10_000]),
    "bytea": (arrays.blobs, [b"", None, b"\0\xff{}\\"]),
    "bigint": (arrays.bigs, [0, -1, 2**63 - 1, -(2**63)]),
    "integer": (arrays.integers, [0, -1, 2**31 - 1]),
    "float8": (arrays.reals, [0.1, float("inf"), None, 3]),
    "float8 without null": (arrays.reals, [0.1, -1e300, 3]),
    "boolean": (arrays.flags, [True, False, True]),
    **{f"no {pack}": (pack, []) for pack in (arrays.texts, arrays.blobs, arrays.bigs, arrays.reals, arrays.flags)},
}


@pytest.mark.parametrize(("pack", "values"), CASES.values(), ids=[name[:20] for name in CASES])
async def test_the_server_reads_what_was_given(url: str, pack: Any, values: list[Any]) -> None:
    """An array has its type, and its values in their order, also as a parameter of a prepared statement."""
    async with await psycopg.AsyncConnection.connect(url, prepare_threshold=0) as connection:
        arrays.accept(connection.adapters)
        for given in (values, values[::-1]):
            packed = pack(given)
            cursor = await connection.execute("SELECT %s, pg_typeof(%s)::oid", (packed, packed), binary=True)
            assert await cursor.fetchone() == (given, arrays._OIDS[type(packed)][1])


def test_what_does_not_fit_is_refused() -> None:
    """A number that is too large, or text that is not Unicode, raises an error before anything is sent."""
    with pytest.raises(struct.error):
        arrays.bigs([2**63])
    with pytest.raises(struct.error):
        arrays.integers([2**31])
    with pytest.raises(UnicodeEncodeError):
        arrays.texts(["\ud800"])
