"""Namespaces are schemas of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cano.testing.contract_base import new_run
from cano_postgres import PostgresBackend

Ask = Callable[..., list[Any]]
LONG = "x" * 63


@pytest.mark.parametrize("name", ["acme-1", 'a"; DROP SCHEMA public; --', "%I", "x" * 512])
async def test_schemas(url: str, schema: str, ask: Ask, name: str) -> None:
    """Each namespace has a schema, whose name is quoted; only `open` creates it."""
    part = PostgresBackend(url, schema=schema, pool_size=2).scoped(name)
    assert not await part.exists()
    await part.open()
    try:
        await part.create(new_run())
        assert await part.exists()
        assert f"(namespace {name!r})" in repr(part)
        found = part._settings.schema
        assert found.startswith(f"{schema}/")
        assert ask(f'SELECT count(*) FROM "{found}".runs') == [(1,)]
        assert ask("SELECT to_regclass(format('%%I.runs', %s::text)) IS NULL", schema) == [(True,)]
    finally:
        await part.close()
        ask(f'DROP SCHEMA "{part._settings.schema}" CASCADE')


def test_names_of_schemas(url: str) -> None:
    """A schema's name has at most 63 bytes, and is another one for each store and namespace."""

    def place(schema: str, name: str) -> str:
        return PostgresBackend(url, schema=schema, pool_size=7).scoped(name)._settings.schema

    schemas = "cano", "cano/a", LONG, f"{LONG[:-1]}y", "é" * 31
    found = {(schema, name): place(schema, name) for schema in schemas for name in ("a", "A", "b" * 40, "b" * 41)}
    assert len({*found.values(), *schemas}) == len(found) + len(schemas) - 1  # "cano/a" is a namespace of "cano"
    assert max(len(each.encode()) for each in found.values()) == 63
    assert found["cano", "a"] == "cano/a"
    assert place("cano", "b" * 40) == "cano/" + "b" * 40
    assert place(LONG, "a").startswith("x" * 20 + "/~~")
    assert PostgresBackend(url, pool_size=7).scoped("a")._settings.pool_size == 7
