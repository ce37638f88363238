"""Opening: what is created, and what is refused at once with a remedy."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest
from cano import ConfigurationError, Signal, Signals, StoreUnavailableError
from cano.testing.contract_base import new_run
from cano_postgres import PostgresBackend
from cano_postgres.schema import MIGRATIONS

from tests.servers.postgres import PostgresServer, start_postgres

Ask = Callable[..., list[Any]]
OPEN = """
import asyncio, sys
from cano.testing.contract_base import new_run
from cano_postgres import PostgresBackend

async def main():
    store = PostgresBackend(sys.argv[1], schema=sys.argv[2])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    await store.create(new_run(sys.argv[3]))
    await store.close()

asyncio.run(main())
"""


async def refusal(store: PostgresBackend) -> str:
    """Return the message of the error that `open` raises."""
    before = asyncio.all_tasks()
    with pytest.raises(StoreUnavailableError) as caught:
        await store.open()
    await store.close()
    assert asyncio.all_tasks() <= before
    return str(caught.value)


def test_ten_processes_at_once(url: str, schema: str, ask: Ask) -> None:
    """Ten processes that open a new store at once all succeed, and create its tables once."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", OPEN, url, schema, f"run {number}"],
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                )
            )
            for number in range(10)
        ]  # fmt: skip
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, error = process.communicate(timeout=60)
            assert (error, process.returncode) == ("", 0)

    assert ask("SELECT version FROM cano_schema") == [(len(MIGRATIONS),)]
    assert ask("SELECT count(*) FROM runs") == [(10,)]


async def test_opening_twice_is_harmless(url: str, schema: str) -> None:
    """`open` of an open store does nothing, also when two callers open it at once; a closed one stays closed."""
    store = PostgresBackend(url, schema=schema)
    with pytest.raises(StoreUnavailableError, match="is not open"):
        await store.load("run")
    await asyncio.gather(store.open(), store.open())
    await store.open()
    assert await store.create(new_run()) == new_run()
    assert repr(store).endswith("open>")
    await asyncio.gather(store.close(), store.close())
    assert len(asyncio.all_tasks()) == 1
    assert "was closed" in await refusal(store)


async def test_whether_it_is_there(url: str, schema: str, ask: Ask) -> None:
    """`exists` creates nothing, and is False until `open` has created the tables."""
    store = PostgresBackend(url, schema=schema)
    before = asyncio.all_tasks()
    assert not await store.exists()
    assert ask("SELECT to_regnamespace(format('%%I', %s::text))", schema) == [(None,)]
    assert asyncio.all_tasks() <= before

    await store.open()
    assert await store.exists()
    await store.close()
    with pytest.raises(ConfigurationError, match="unknown option"):
        await PostgresBackend(f"{url}&nonsense=1" if "?" in url else f"{url}?nonsense=1").exists()
    with pytest.raises(StoreUnavailableError, match="could not be reached"):
        await PostgresBackend("postgresql://nobody@127.0.0.1:1/none", retry_for=0.0).exists()


async def test_any_name_is_a_schema(url: str) -> None:
    """Names of schemas are quoted."""
    for schema in ('a "b"; DROP TABLE runs; --', "Ä %s {}", "x" * 63):
        store = PostgresBackend(url, schema=schema)
        await store.open()
        await store.create(new_run(holder=None))
        await store.close()


async def test_a_newer_schema(url: str, schema: str, store: PostgresBackend, ask: Ask) -> None:
    """Tables of a newer version are refused; the error names both versions."""
    ask("UPDATE cano_schema SET version = %s", len(MIGRATIONS) + 1)

    said = await refusal(PostgresBackend(url, schema=schema))

    assert f"has schema version {len(MIGRATIONS) + 1}, but this cano-postgres supports versions up to" in said
    assert "install the newer cano-postgres" in said


async def test_signals_to_a_wait_of_an_earlier_version(url: str, schema: str, ask: Ask) -> None:
    """Their ids had the wait's seq. Those of the engine's own keep their ids, whatever these are."""
    ask(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(schema)))
    ask("CREATE TABLE cano_schema (version integer NOT NULL)")
    renaming = "ALTER TABLE signals RENAME COLUMN signal TO signal_id"
    last = next(number for number, steps in enumerate(MIGRATIONS) if renaming in steps)
    ask(psycopg.sql.SQL("INSERT INTO cano_schema VALUES ({})").format(last))
    for step in itertools.chain(*MIGRATIONS[:last]):
        if not callable(step):  # there is nothing to rewrite
            ask(step)
    for row in (
        "false, '\\000wait 3 x\\000', false", "false, '\\000wait 3 gone', true", "false, '\\000wait x y', false",
        "true, '\\000wait 3 own', false", "false, 'plain', true",
    ):  # fmt: skip
        insert = psycopg.sql.SQL("INSERT INTO signals (run_id, name, own, signal, consumed) VALUES ('run', 'go', {})")
        ask(insert.format(psycopg.sql.SQL(row)))
    store = PostgresBackend(url, schema=schema)
    await store.open()
    await store.put_signal("run", Signal("gone", "go", to=3))
    assert await store.signals("run") == Signals(
        [Signal("x\0", "go", to=3), Signal("\0wait x y", "go"), Signal("\0wait 3 own", "go", own=True)],
        ["plain"], [], [(3, "gone")],
    )  # fmt: skip
    await store.close()


async def test_an_earlier_version_that_is_connected(url: str, schema: str, ask: Ask) -> None:
    """A process of an earlier version cannot write to the tables once they are migrated: its values would be lost."""
    ask(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(schema)))
    ask("CREATE TABLE cano_schema (version integer NOT NULL)")
    ask("INSERT INTO cano_schema VALUES (2)")
    for step in itertools.chain(*MIGRATIONS[:2]):
        ask(step)
    put = """INSERT INTO signals (run_id, signal, name) VALUES ('run', '', '')
        ON CONFLICT (run_id, sha256(signal)) DO NOTHING"""
    append = """INSERT INTO journal (run, line, seq, state, status, at, mark, changes)
        SELECT id, head + 1, 1, '', 'running', 1, 1, '' FROM runs"""
    ask(put)
    ask(append)
    store = PostgresBackend(url, schema=schema)
    await store.open()
    await store.create(new_run())

    with pytest.raises(psycopg.errors.UndefinedColumn):
        ask(put)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        ask(append)
    with pytest.raises(psycopg.errors.UndefinedColumn):  # it would read no parts
        ask("SELECT own, key, value FROM snapshot ORDER BY place")
    await store.close()


async def test_the_schema_of_another_program(url: str, schema: str, ask: Ask) -> None:
    """A schema of another program is refused and unchanged; an empty one is used."""
    ask(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(schema)))
    ask("CREATE TABLE runs (theirs int)")
    assert "has tables of another program; name another schema" in await refusal(PostgresBackend(url, schema=schema))

    ask("DROP TABLE runs")
    store = PostgresBackend(url, schema=schema)
    await store.open()
    await store.close()


async def test_an_unknown_option(url: str) -> None:
    """An option that neither Cano nor libpq has is named."""
    with pytest.raises(ConfigurationError, match=r"'poolsize' \(did you mean 'pool_size'\?\); known are schema"):
        await PostgresBackend(url + "&poolsize=5").open()


async def test_who_may_not(postgres: PostgresServer, database: str) -> None:
    """Unknown databases and users, and missing servers, are errors at once, whatever `retry_for` is."""
    assert "there is no such" not in await refusal(PostgresBackend("postgresql:///runs?host=/nowhere", retry_for=9999))
    assert 'database "nope" does not exist' in await refusal(PostgresBackend(postgres.url("nope"), retry_for=9999))
    said = await refusal(PostgresBackend(postgres.url(database, user="nobody"), retry_for=9999))
    assert 'role "nobody" does not exist' in said


@pytest.fixture
def small() -> Iterator[PostgresServer]:
    """A server with few connections, and a user with a password."""
    server = start_postgres("-c", "max_connections=8", "-c", "superuser_reserved_connections=1", "-c", "fsync=off")
    server.psql("CREATE USER ada PASSWORD 'secret'")
    server.psql("GRANT CREATE ON DATABASE postgres TO ada")
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text("local all ada scram-sha-256\n" + rules.read_text())
    server.restart()
    yield server
    server.throw_away()


async def test_passwords_and_rights(small: PostgresServer) -> None:
    """A wrong password is an error at once, and not shown; a user who may not create a schema gets the remedy."""
    address = f"postgresql://ada:{{}}@{str(small.folder).replace('/', '%2F')}/postgres"
    for wrong in ("wrong", "secret2"):
        said = await refusal(PostgresBackend(address.format(wrong), retry_for=9999))
        assert "password authentication failed" in said
        assert wrong not in said
    store = PostgresBackend(address.format("secret"))
    await store.open()
    await store.close()
    small.psql("REVOKE CREATE ON DATABASE postgres FROM ada")
    store = PostgresBackend(address.format("secret"))  # it exists already
    await store.open()
    await store.close()
    assert "grant CREATE on the database" in await refusal(PostgresBackend(address.format("secret"), schema="new"))


async def test_too_many_connections(small: PostgresServer) -> None:
    """`open` waits for a full server, and then names it as the reason; it succeeds when there is room."""
    waits, fails = (PostgresBackend(small.url(user="ada", password="secret"), retry_for=each) for each in (30, 0.3))
    with ExitStack() as stack:
        for _ in range(7):
            stack.enter_context(psycopg.connect(small.url()))
        assert "could not be reached for 0.3 seconds: the server has too many connections; raise its max_conn" in (
            await refusal(fails)
        )
        opening = asyncio.ensure_future(waits.open())
        await asyncio.sleep(0)
    await opening
    await waits.close()


async def test_a_busy_pool(url: str, schema: str, ask: Ask) -> None:
    """If all reading connections are busy for `retry_for` seconds, the error says to raise pool_size."""
    store = PostgresBackend(url, schema=schema, pool_size=1, retry_for=0.3)
    await store.open()
    ask("BEGIN")
    ask("LOCK TABLE runs")
    blocked = asyncio.ensure_future(store.load("run"))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailableError, match="its 1 reading connections are busy"):
        await store.load("run")
    ask("ROLLBACK")
    assert await blocked is None
    await store.close()


async def test_read_only(postgres: PostgresServer) -> None:
    """A read-only database is refused when it is opened; one that becomes read-only, when it is written."""
    database = postgres.new_database()
    store = PostgresBackend(postgres.url(database))
    await store.open()
    postgres.psql(f"ALTER DATABASE {database} SET default_transaction_read_only TO on")
    assert "it is read-only; set default_transaction_read_only to off" in (
        await refusal(PostgresBackend(postgres.url(database)))
    )
    postgres.psql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
    with pytest.raises(StoreUnavailableError, match="it is read-only; name the primary server"):
        await store.create(new_run())
    assert await store.load("run") is None
    await store.close()


async def test_another_encoding(postgres: PostgresServer) -> None:
    """A database whose encoding cannot store all texts is refused."""
    postgres.psql("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")

    assert "its encoding is LATIN1; create a database with the encoding UTF8" in (
        await refusal(PostgresBackend(postgres.url("latin")))
    )


@pytest.mark.parametrize(
    ("chosen", "server_says", "used"),
    [
        (None, "off", "on"),
        (None, "local", "local"),
        (None, "on", "on"),
        ("off", "on", "off"),
        ("local", "off", "local"),
    ],
)
async def test_synchronous_commit(
    postgres: PostgresServer, database: str, schema: str, chosen: str | None, server_says: str, used: str
) -> None:
    """Commits are on disk whatever the server's default is, unless the URL says otherwise."""
    url = postgres.url(database, options=f"-c synchronous_commit={server_says}")
    store = PostgresBackend(url, schema=schema, synchronous_commit=chosen)
    await store.open()
    assert store._backend is not None
    connection = store._backend._writer._connection
    assert connection is not None
    row = await (await connection.execute("SHOW synchronous_commit")).fetchone()
    assert row == (used,)
    await store.close()
