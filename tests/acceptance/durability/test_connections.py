"""Runs and signals that are stored in the transaction of a user's connection: with what it does, or not at all."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiosqlite
import cano_postgres.lent
import psycopg
import pytest
from cano import (
    ConfigurationError,
    Kernel,
    RunExistsError,
    RunNotFoundError,
    RunStatus,
    SerializationError,
    SizeLimitError,
    SizeLimits,
    StoreError,
    TaskConfig,
    Workflow,
    current_step,
    task,
    wait_for,
)
from cano_encryption import KEYS_ENV, new_key
from psycopg.pq import TransactionStatus
from psycopg.rows import dict_row
from psycopg.types.string import TextLoader

from tests.acceptance.durability.connections import CREATE, INSERT, KINDS, ask, connected, done, file_of, server_of
from tests.acceptance.durability.shared import ONLY
from tests.acceptance.durability.test_transactions import Now, parked


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of a store of each kind that joins transactions, with a table of orders in its database."""
    url = url_of(request.param)

    async def make() -> None:
        async with Kernel(store=url, **ONLY):
            pass

    asyncio.run(make())
    ask(url, CREATE)
    return url


def orders(url: str) -> list[str]:
    """The orders that are committed."""
    return [what for (what,) in ask(url, "SELECT what FROM orders")]


def stored_bytes(url: str) -> bytes:
    """All that a store keeps of runs and signals."""
    if url.startswith("sqlite:"):
        files = Path(file_of(url)).parent.glob("sealed.db*")
        return b"".join(path.read_bytes() for path in files)
    return repr([ask(url, f"SELECT * FROM sealed.{table}") for table in ("runs", "journal", "signals")]).encode()


async def token_of(backend: Any, run_id: str) -> int:
    """The fencing token of a run."""
    return int((await backend.load(run_id)).token)


class Loud(TextLoader):
    """How a user reads text."""

    def load(self, data: Any) -> str:
        """In capital letters."""
        return str(super().load(data)).upper()


async def send(store: Any) -> str:
    """A step."""
    return "end"


async def wait(store: Any) -> Any:
    """Wait for a signal."""
    return wait_for("go", then="end")


flow = Workflow("send", name="shipment").add_exit_state("end").register("send", task(send))
waiting = Workflow("wait", name="approval").add_exit_state("end").register("wait", task(wait))


@pytest.mark.parametrize("kind", KINDS)
async def test_row_and_run_are_both_there_or_neither(url: str, kind: str) -> None:
    """With each library, and whether the row or the run comes first."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url, kind) as user:
        made: list[str] = []
        for end in ("rollback", "commit"):
            for row_first in (True, False):
                run_id = f"r{len(made)}"
                if row_first:
                    await user.order()
                await kernel.submit(flow, {"n": len(made)}, run_id=run_id, connection=user.given)
                if not row_first:
                    await user.order()
                assert len(await kernel.runs()) == len(made)
                await user.end(end)
                made += [run_id] if end == "commit" else []
                assert sorted(run.run_id for run in await kernel.runs(status=RunStatus.QUEUED)) == made
                assert orders(url) == ["lamp"] * len(made)
        result = await kernel.run(flow, run_id="r1")
        assert (result.state, dict(result.data)) == ("end", {"n": 1})


@pytest.mark.parametrize("kind", ["driver", "async session"])
async def test_a_signal_wakes_the_run_when_the_user_commits(url: str, kind: str) -> None:
    """A parked run of this kernel and one of another continue, notified by the commit: no kernel polls."""
    async with Kernel(store=url, poll=3600, **ONLY) as kernel, Kernel(store=url, poll=3600, **ONLY) as other:
        handles = [await each.start(waiting, run_id=f"r{n}") for n, each in enumerate((kernel, other))]
        for handle in handles:
            await parked(handle)
        async with connected(url, kind) as user:
            await user.order()
            for number in range(2):
                assert await kernel.signal(f"r{number}", "go", {"n": number}, connection=user.given) is True
            assert [handle.status().status for handle in handles] == [RunStatus.PARKED] * 2
            await user.end("commit")
            async with asyncio.timeout(60):
                assert [(await handle.result()).state for handle in handles] == ["end"] * 2
        assert orders(url) == ["lamp"]


async def test_a_worker_begins_the_run_when_the_user_commits(url: str) -> None:
    """A worker that waits is notified, in another process or in this kernel."""
    async with Kernel(store=url, poll=3600, **ONLY) as kernel, Kernel(store=url, poll=3600, **ONLY) as worker:
        await worker.recover(flow)
        async with connected(url) as user:
            handle = await kernel.submit(flow, {"n": 1}, run_id="r", connection=user.given)
            await handle.signal("go", connection=user.given)
            await user.end("commit")
            async with asyncio.timeout(60):
                assert (await handle.result()).state == "end"
            backend: Any = kernel.backend
            assert [each.name for each in (await backend.signals("r")).waiting] == ["go"]


async def test_a_signal_that_is_rolled_back(url: str) -> None:
    """The run goes on waiting, and a later signal with the same id counts."""
    async with Kernel(store=url, **ONLY) as kernel:
        handle = await kernel.start(waiting, run_id="r")
        await parked(handle)
        async with connected(url) as user:
            await kernel.signal("r", "go", id="a", connection=user.given)
            await user.end("rollback")
        assert (await kernel.get("r")).status is RunStatus.PARKED
        await kernel.signal("r", "go", id="a")
        await handle.result()


async def test_all_that_the_plain_calls_do(url: str) -> None:
    """The audit, ids that exist, other data, delays, limits and unknown runs."""
    limits = SizeLimits(signals=2)
    async with Kernel(store=url, actor="me", limits=limits, **ONLY) as kernel, connected(url) as user:
        on = {"connection": user.given}
        await kernel.submit(flow, {"n": 1}, run_id="old")
        await parked(await kernel.start(waiting, run_id="w"))
        await kernel.submit(flow, {"n": 1}, run_id="old", **on)
        with pytest.raises(RunExistsError, match="other data"):
            await kernel.submit(flow, {"n": 2}, run_id="old", **on)
        with pytest.raises(RunExistsError, match="a run with it exists"):
            await kernel.submit(flow, {"n": 1}, run_id="old", on_existing="reject", **on)
        await kernel.submit(flow, {"n": 1}, run_id="new", delay=3600, **on)
        await kernel.submit(flow, {"n": 1}, run_id="new", **on)
        with pytest.raises(RunExistsError, match="other data"):
            await kernel.submit(flow, {"n": 2}, run_id="new", **on)
        assert await kernel.submit_many(flow, [{"n": n} for n in range(3)], run_id="many", **on) == 3
        with pytest.raises(RunNotFoundError):
            await kernel.signal("never", "go", **on)
        with pytest.raises(SerializationError):
            await kernel.signal("new", "go", object(), **on)
        assert [await kernel.signal("new", "go", id=id, **on) for id in "aab"] == [True, True, True]
        with pytest.raises(SizeLimitError):
            await kernel.signal("new", "go", id="c", **on)
        token = f"w:{(await kernel.get('w')).seq}"
        assert await kernel.signal("w", "go", wait=token, **on) is True
        with pytest.raises(ConfigurationError, match="not 'other'"):
            await kernel.signal("w", "other", wait=token, **on)
        assert [each.action for each in await kernel.audit()] == []
        await user.end("commit")
        assert sorted((each.run_id, each.detail, each.actor) for each in await kernel.audit()) == [
            ("new", "go, id a", "me"), ("new", "go, id b", "me"), ("w", "go", "me"),
        ]  # fmt: skip
        made = {run.run_id: run.status for run in await kernel.runs(workflow="shipment")}
        queued = ["old", *(f"many-{n}" for n in (1, 2, 3))]
        assert made == dict.fromkeys(queued, RunStatus.QUEUED) | {"new": RunStatus.PARKED}
        backend: Any = kernel.backend
        assert [each.id for each in (await backend.signals("new")).waiting] == ["a", "b"]


async def test_run_and_start_take_no_connection(url: str) -> None:
    """They would execute the run before the user commits; the error says what to call."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        for call in (kernel.run, kernel.start):
            with pytest.raises(ConfigurationError, match=rf"{call.__name__} takes no connection.*kernel\.submit"):
                await call(flow, connection=user.given)


async def test_stores_without_it_refuse() -> None:
    """The error names the capability."""
    async with Kernel(store="memory://?strict=1", **ONLY) as kernel:
        for call in (kernel.submit(flow, connection=1), kernel.signal("r", "go", connection=1)):
            with pytest.raises(ConfigurationError, match="other connections; use one with connections, see `cano plug"):
                await call


async def test_a_sealed_store(url: str, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are encrypted and sealed, in a namespace, too, whose file or schema is another."""
    monkeypatch.setenv(KEYS_ENV, new_key())
    sealed = f"{url}{'&' if '?' in url else '?'}codec=encrypt&{'schema=sealed' if 'postgres' in url else ''}".rstrip(
        "&"
    )
    if url.startswith("sqlite:"):
        sealed = sealed.replace("runs.db", "sealed.db")
    for namespace, place in ((None, sealed), ("acme", sealed.replace("sealed.db", "sealed.db@acme.db"))):
        async with Kernel(store=sealed, namespace=namespace) as kernel:
            handle = await kernel.start(waiting, {"secret": "lamp"}, run_id="w")
            await parked(handle)
            async with connected(place) as user:
                await kernel.submit(flow, {"secret": "lamp"}, run_id="r", connection=user.given)
                await kernel.submit(flow, {"secret": "lamp"}, run_id="r", connection=user.given)
                await kernel.signal("w", "go", "lamp", connection=user.given)
                await user.end("commit")
            await handle.result()
            result = await kernel.run(flow, run_id="r")
            assert dict(result.data) == {"secret": "lamp"}
            assert [entry.seq for entry in await kernel.history("r")] == [0, 1]
    assert b"lamp" not in stored_bytes(sealed)


async def test_connections_that_are_refused(url: str, url_of: Callable[[str], str], tmp_path: Path) -> None:
    """Each error says what is wrong; afterwards the connection is as it was."""
    said = "the store needs a connection to the (database|file) .*, in a transaction, and cannot use this one: "
    async with Kernel(store=url, **ONLY) as kernel:

        async def refused(connection: Any, why: str) -> None:
            with pytest.raises(ConfigurationError, match=said + why):
                await kernel.submit(flow, connection=connection)
            with pytest.raises(ConfigurationError, match=said + why):
                await kernel.signal("r", "go", connection=connection)

        await refused(object(), "it is of type builtins.object, not of (psycopg|sqlite3)")
        if url.startswith("sqlite:"):
            for other, why in (
                (tmp_path / "other.db", "its file is .*other.db"),
                (":memory:", "its file is in memory"),
            ):
                connection = sqlite3.connect(other)
                await refused(connection, why)
                connection.close()
            await refused(connection, "it cannot be used here: .*closed")
            async with aiosqlite.connect(file_of(url)) as closed:
                pass
            await refused(closed, "it is not open: ")
            connection = sqlite3.connect(file_of(url), isolation_level=None)
            await refused(connection, "no transaction is open, .*; begin one")
            connection.execute("BEGIN")
            connection.execute("SELECT * FROM orders").fetchall()
            ask(url, INSERT)
            await refused(connection, "its transaction has read the file, .* BEGIN IMMEDIATE")
            connection.close()
            reader = sqlite3.connect(file_of(url), timeout=0.05)
            writer = sqlite3.connect(file_of(url))
            writer.execute(INSERT)
            with pytest.raises(StoreError, match=r"kept it locked for 0\.05 s, the connection's timeout"):
                await kernel.submit(flow, connection=reader)
            writer.rollback()
            await kernel.submit(flow, connection=reader)
            assert reader.execute("PRAGMA busy_timeout").fetchone() == (50,)
            reader.close()
            writer.close()
            return
        with psycopg.connect(server_of(url_of("postgres"))) as other_database:
            await refused(other_database, "it is connected to another database or server")
        await refused(other_database, "it is closed")
        with psycopg.connect(server_of(url), autocommit=True) as server:
            await refused(server, "no transaction is open, .*; begin one")
            with server.transaction():
                await kernel.submit(flow, run_id="r", connection=server)
            assert (await kernel.get("r")).status is RunStatus.QUEUED
        with psycopg.connect(server_of(url)) as server:
            with suppress(psycopg.errors.DivisionByZero):
                server.execute("SELECT 1 / 0")
            await refused(server, "a statement of its transaction has failed; roll it back")
        with psycopg.connect(server_of(url), client_encoding="latin1") as server:
            await refused(server, "its encoding is .*; connect with client_encoding=utf8")
        with psycopg.connect(server_of(url)) as server:
            with server.pipeline():
                await refused(server, "it is in pipeline mode")
            server.execute("CREATE ROLE poor")  # which is rolled back
            server.execute("SET LOCAL ROLE poor")
            await refused(server, "its user cannot use the schema cano; grant")
            server.rollback()


async def test_the_users_settings_stay(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row factories, the search path and a failed call do not change the connection or the transaction."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        given = user.given
        await user.order()
        if url.startswith("sqlite:"):
            given.row_factory, given.text_factory = sqlite3.Row, bytes
        else:
            given.row_factory, given.cursor_factory = dict_row, psycopg.ClientCursor
            given.execute("SET LOCAL search_path TO pg_temp, cano, public")
            given.execute("CREATE TEMP TABLE runs (run_id text)")
            given.adapters.register_loader("text", Loud)
        for _ in range(2):
            await kernel.submit(flow, {"n": 1}, run_id="r", connection=given)
        with monkeypatch.context() as broken:
            broken.setattr("cano_sqlite.audit._ADD", "INSERT INTO absent VALUES (?, ?, ?, ?, ?)")
            broken.setattr(
                "cano_postgres.joined._JOIN", "INSERT INTO absent VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)"
            )
            with pytest.raises(StoreError, match=r"store .* cannot be used"):
                await kernel.signal("r", "go", id="a", connection=given)
        await kernel.signal("r", "go", id="b", connection=given)
        if url.startswith("sqlite:"):
            assert given.execute("SELECT what FROM orders").fetchone()["what"] == b"lamp"
        else:
            assert given.execute("SHOW search_path").fetchone() == {"search_path": "PG_TEMP, CANO, PUBLIC"}
            assert given.execute("SELECT what FROM orders").fetchone() == {"what": "LAMP"}
        await user.end("commit")
        assert (await kernel.run(flow, run_id="r")).state == "end"
        backend: Any = kernel.backend
        assert [each.id for each in (await backend.signals("r")).waiting] == ["b"]


@pytest.mark.parametrize("kind", ["driver", "async driver"])
async def test_calls_at_the_same_time(url: str, kind: str) -> None:
    """On one connection: each is done completely, or fails by itself, and the connection's settings are as before."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url, kind) as user:

        async def settings() -> Any:
            question = "PRAGMA busy_timeout" if url.startswith("sqlite:") else "SHOW search_path"
            cursor = await done(user.given.execute(question))
            return await done(cursor.fetchone())

        before = await settings()
        calls = [kernel.submit(flow, {"n": n}, run_id=f"r{n}", connection=user.given) for n in range(9)]
        *made, absent = await asyncio.gather(
            *calls, kernel.signal("never", "go", connection=user.given), return_exceptions=True
        )
        assert isinstance(absent, RunNotFoundError)
        assert not any(isinstance(each, BaseException) for each in made)
        assert await settings() == before
        await user.order()
        await user.end("commit")
        assert sorted(run.run_id for run in await kernel.runs()) == [f"r{n}" for n in range(9)]


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_calls_that_wait_for_the_lock_at_the_same_time(url: str) -> None:
    """Each waits for the connection's timeout."""
    loop, tried = asyncio.get_running_loop(), asyncio.Semaphore(0)

    def traced(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            loop.call_soon_threadsafe(tried.release)

    async with Kernel(store=url, **ONLY) as kernel, connected(url, "async driver") as user:
        await user.given.execute("PRAGMA busy_timeout = 600000")
        await user.given.set_trace_callback(traced)
        writer = sqlite3.connect(file_of(url))
        writer.execute(INSERT)
        calls = [asyncio.create_task(kernel.submit(flow, run_id=f"r{n}", connection=user.given)) for n in range(2)]
        for _ in range(5):
            await tried.acquire()
        writer.rollback()
        writer.close()
        await asyncio.gather(*calls)
        assert await (await user.given.execute("PRAGMA busy_timeout")).fetchone() == (600000,)
        await user.end("commit")


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_call_that_is_cancelled(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each statement: it leaves nothing behind, or a transaction that can only be rolled back."""
    statements = 0
    at, reached, goes = 0, asyncio.Event(), threading.Event()
    executed: Any = cano_postgres.lent._executed

    def slowly(*arguments: Any) -> Any:
        nonlocal statements
        statements += 1
        if statements == at:
            loop.call_soon_threadsafe(reached.set)
            goes.wait()
        return executed(*arguments)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("cano_postgres.lent._executed", slowly)
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        await kernel.submit(flow, run_id="first", connection=user.given)
        await user.end("rollback")
        most = statements
        for at in range(1, most):
            statements = 0
            reached.clear()
            goes.clear()
            call = asyncio.create_task(kernel.submit(flow, run_id=f"r{at}", connection=user.given))
            await reached.wait()
            call.cancel()
            loop.call_soon(goes.set)
            with pytest.raises(asyncio.CancelledError):
                await call
            if user.given.info.transaction_status == TransactionStatus.INTRANS:
                assert user.given.execute("SHOW search_path").fetchone() == ('"$user", public',)
            await user.end("commit")  # which rolls a failed one back
        assert await kernel.runs() == []


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_the_locks_of_a_commit(url: str) -> None:
    """Runs need none of the server's locks, which all its sessions share: only those do that get signals."""
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        await kernel.submit_many(flow, [{}] * 5, run_id="r", connection=user.given)
        await kernel.signal("r-1", "go", connection=user.given)
        user.given.execute("SET CONSTRAINTS ALL IMMEDIATE")  # settles them as COMMIT does
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
        assert user.given.execute(locks).fetchone() == (1,)
        await kernel.submit(flow, run_id="later", connection=user.given)
        await user.end("commit")
        assert len(await kernel.runs()) == 6


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_runs_that_signal_each_other_as_they_park(url: str) -> None:
    """Each in the transaction of its step: neither commit waits for the other one's."""
    both = asyncio.Barrier(2)

    async def greet(store: Any) -> Any:
        step = current_step()
        kernel: Any = step.run.kernel
        async with step.transaction() as tx:
            await kernel.signal("b" if step.run_id == "a" else "a", "go", connection=tx.connection)
            await both.wait()
        return wait_for("go", then="end")

    pair = Workflow("greet", name="pair").add_exit_state("end").register("greet", task(greet))
    async with Kernel(store=url, **ONLY) as kernel:
        handles = [await kernel.start(pair, run_id=run_id) for run_id in "ab"]
        assert [(await handle.result()).state for handle in handles] == ["end", "end"]


async def test_in_the_transaction_of_a_step(url: str) -> None:
    """A task submits a run and sends a signal on the connection of its step: all is committed with the step, or not."""
    said = []

    async def ship(store: Any) -> str:
        step = current_step()
        kernel: Any = step.run.kernel
        async with step.transaction() as tx:
            await tx.execute(INSERT)
            await kernel.submit(flow, {"n": step.attempt}, run_id="r", connection=tx.connection)
            await kernel.signal("w", "go", connection=tx.connection)
            if url.startswith("sqlite:"):
                async with connected(url) as user:
                    with pytest.raises(ConfigurationError, match="would wait for the transaction"):
                        await kernel.submit(flow, connection=user.given)
        said.append([run.run_id for run in await kernel.runs(workflow="shipment")])
        if step.attempt == 1:
            raise ConnectionError("broken")
        return "end"

    config = TaskConfig(retry=Now())
    shop = Workflow("ship", name="shop").add_exit_state("end").register("ship", task(ship), config=config)
    async with Kernel(store=url, **ONLY) as kernel:
        handle = await kernel.start(waiting, run_id="w")
        await parked(handle)
        await kernel.run(shop, run_id="s")
        await handle.result()
        assert said == [[], []]
        assert (dict((await kernel.run(flow, run_id="r")).data), orders(url)) == ({"n": 2}, ["lamp"])


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_an_open_transaction_keeps_no_other_waiting(url: str) -> None:
    """Not one that parks the run that it signals, sends it a signal of that id, or stores a run of that id.

    If both store the same run, the transaction that commits last fails, and has no effect.
    """
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        reached, go = asyncio.Event(), asyncio.Event()

        async def later(store: Any) -> Any:
            reached.set()
            await go.wait()
            return wait_for("go", then="end")

        slow = Workflow("wait", name="slow").add_exit_state("end").register("wait", task(later))
        handle = await kernel.start(slow, run_id="w")
        await reached.wait()
        await kernel.signal("w", "go", id="a", connection=user.given)
        await kernel.submit(flow, {"n": 1}, run_id="r", connection=user.given)
        go.set()
        await parked(handle)  # in a batch with LOCK
        backend: Any = kernel.backend
        await kernel.signal("w", "other", id="a")
        assert await backend.claim("w", "me", 0, 1) is not None
        await backend.release("w", await token_of(backend, "w"))
        assert (await kernel.run(flow, {"n": 2}, run_id="r")).state == "end"
        with pytest.raises(psycopg.errors.SerializationFailure, match="has stored run r meanwhile; repeat this one"):
            await user.end("commit")
        assert [each.name for each in (await backend.signals("w")).waiting] == ["other"]
        await kernel.signal("w", "go", id="a", connection=user.given)  # known by now
        await user.end("commit")
        assert [each.name for each in (await backend.signals("w")).waiting] == ["other"]
        await kernel.signal("w", "go", connection=user.given)
        await user.end("commit")
        await handle.result()
        assert ask(url, "SELECT count(*) FROM cano.joined") == [(0,)]
        assert ask(url, "SELECT count(*) FROM cano.signals WHERE run_id LIKE chr(1) || '%'") == [(0,)]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_what_a_snapshot_does_not_show(url: str) -> None:
    """A signal in a transaction whose snapshot is older than the wait fails at the commit; repeated, it counts.

    So does one that is too many then.
    """
    limits = SizeLimits(signals=1)
    async with Kernel(store=url, limits=limits, **ONLY) as kernel, connected(url) as user:
        user.given.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        go = asyncio.Event()

        async def later(store: Any) -> Any:
            await go.wait()
            return wait_for("go", then="end")

        slow = Workflow("wait", name="slow").add_exit_state("end").register("wait", task(later))
        handle = await kernel.start(slow, run_id="w")
        await kernel.submit(flow, run_id="r")
        await kernel.signal("w", "go", connection=user.given)
        go.set()
        await parked(handle)
        with pytest.raises(psycopg.errors.SerializationFailure):
            await user.end("commit")
        await kernel.signal("w", "go", connection=user.given)
        await user.end("commit")
        await handle.result()
        user.given.isolation_level = None
        await kernel.signal("r", "go", id="a", connection=user.given)
        await kernel.signal("r", "go", id="b")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="more than 1 signals wait for run r"):
            await user.end("commit")


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_waiting_for_the_lock_leaves_the_event_loop_free(url: str) -> None:
    """A step of this process that holds the lock of the file can end while a connection waits for it."""
    waits, begun = asyncio.Event(), asyncio.Event()

    async def pay(store: Any) -> str:
        async with current_step().transaction() as tx:
            await tx.execute(INSERT)
            begun.set()
            await waits.wait()
        return "end"

    shop = Workflow("pay", name="shop").add_exit_state("end").register("pay", task(pay))
    async with Kernel(store=url, **ONLY) as kernel, connected(url) as user:
        handle = await kernel.start(shop, run_id="s")
        await begun.wait()
        asyncio.get_running_loop().call_soon(waits.set)
        await kernel.submit(flow, run_id="r", connection=user.given)
        await user.end("commit")
        await handle.result()
        assert (await kernel.run(flow, run_id="r")).state == "end"
