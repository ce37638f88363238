"""What a task does in the store's database is committed with its step: all of it, once, or nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cano import (
    ConfigurationError,
    ConflictError,
    Kernel,
    Node,
    RunHandle,
    RunStatus,
    SerializationError,
    Signal,
    StoreError,
    StoreUnavailableError,
    SubWorkflow,
    TaskConfig,
    TaskError,
    Transaction,
    Workflow,
    current_step,
    task,
    wait_for,
)
from cano_encryption import KEYS_ENV, new_key
from psycopg.rows import dict_row
from sqlalchemy import text

from tests.acceptance.durability.connections import ask
from tests.acceptance.durability.shared import ONLY
from tests.examples.test_readme import blocks

PROGRAM = Path(__file__).with_name("transactions.py")
PAGE = Path(__file__).parents[3] / "docs" / "transactions.md"
LEASE = 1.0
"""Seconds of the lease of a process that is stopped."""


class Bank:
    """A table of payments in the database of a store."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.mark = "?" if url.startswith("sqlite:") else "%s"

    def ask(self, statement: str) -> list[Any]:
        """Execute a statement on a connection of its own."""
        return ask(self.url, statement)

    async def pay(self, tx: Transaction, what: str) -> None:
        """Pay in a transaction."""
        await tx.execute(f"INSERT INTO payments (what) VALUES ({self.mark})", (what,))

    @property
    def paid(self) -> list[str]:
        """What was paid for."""
        return [what for (what,) in self.ask("SELECT what FROM payments ORDER BY what")]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, url_of: Callable[[str], str]) -> str:
    """The URL of an empty store of each kind that has transactions."""
    return url_of(request.param)


@pytest.fixture
def bank(url: str) -> Bank:
    """A bank with no payments, in the database of a store."""

    async def make() -> None:
        async with Kernel(store=url, **ONLY):
            pass

    asyncio.run(make())
    bank = Bank(url)
    bank.ask("CREATE TABLE payments (what TEXT NOT NULL UNIQUE)")
    return bank


class Now:
    """A retry strategy that tries again at once, twice."""

    uses_elapsed = False

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """No delay."""
        return 0.0 if attempt < 3 else None


def flow_of(body: Callable[[Any], Coroutine[Any, Any, Any]], **config: Any) -> Workflow[str]:
    """A workflow whose only step is `body`."""
    flow = Workflow("pay", name="order").add_exit_states(["end", "other"])
    return flow.register("pay", task(body), config=TaskConfig(**config))


async def parked(handle: RunHandle) -> None:
    """Wait until the run is parked."""
    async for event in handle.events():
        if event.kind == "wait":
            return


async def test_all_or_nothing(bank: Bank) -> None:
    """The payment, the data and the transition are there together, after the task has returned."""
    seen = []

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            store["paid"] = await tx.execute("SELECT what FROM payments")
        seen.append(bank.paid)
        return "end"

    async with Kernel(store=bank.url) as kernel:
        result = await kernel.run(flow_of(body), run_id="r")
        assert (seen, bank.paid) == ([[]], ["lamp"])
        assert [tuple(row) for row in result.data["paid"]] == [("lamp",)]
        assert (await kernel.get("r")).status is RunStatus.SUCCEEDED


@pytest.mark.parametrize("inside", [True, False])
async def test_failed_attempts_leave_nothing(bank: Bank, inside: bool) -> None:
    """An attempt that fails in its block or after it is rolled back, and the next one begins again."""

    async def body(store: Any) -> str:
        step = current_step()
        async with step.transaction() as tx:
            store["tries"] = [*store.get("tries", list, []), step.attempt]
            await bank.pay(tx, f"lamp {step.attempt}")
            if inside and step.attempt < 3:
                raise ConnectionError("broken")
        if step.attempt < 3:
            raise ConnectionError("broken")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        result = await kernel.run(flow_of(body, retry=Now()), run_id="r")
    assert (bank.paid, result.data) == (["lamp 3"], {"tries": [3]})


@pytest.mark.parametrize("caught", [True, False])
async def test_a_failed_step_leaves_nothing(bank: Bank, caught: bool) -> None:
    """Neither the failure of a run nor `on_exhausted` commits a payment."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
        raise ConnectionError("broken")

    async with Kernel(store=bank.url) as kernel:
        flow = flow_of(body, **({"on_exhausted": "other"} if caught else {}))
        if caught:
            assert (await kernel.run(flow, run_id="r")).state == "other"
        else:
            with pytest.raises(Exception, match="broken"):
                await kernel.run(flow, run_id="r")
        assert bank.paid == []


async def test_an_exception_that_leaves_the_block_undoes_it(bank: Bank) -> None:
    """A task that catches it loses what it did in the block, in the database and in its data, and nothing else."""

    async def body(store: Any) -> str:
        store["before"] = 1
        try:
            async with current_step().transaction() as tx:
                await bank.pay(tx, "lamp")
                store["inside"] = 2
                raise KeyError
        except KeyError:
            async with current_step().transaction() as tx:
                await bank.pay(tx, "chair")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        result = await kernel.run(flow_of(body), run_id="r")
    assert (bank.paid, result.data) == (["chair"], {"before": 1})


async def test_settings_of_the_connection(bank: Bank) -> None:
    """A task may set how it gets rows: its step is stored, and later steps do not have that setting."""
    rows = []

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, current_step().run_id)
            rows.append(await tx.execute("SELECT what FROM payments ORDER BY what DESC"))
            given = tx.connection
            if bank.mark == "?":
                given.row_factory = sqlite3.Row
            else:
                given.row_factory, given.cursor_factory = dict_row, psycopg.AsyncRawCursor
                await given.execute("CREATE TEMP TABLE runs (id integer) ON COMMIT DROP")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        for run_id in "ab":
            await kernel.run(flow_of(body), run_id=run_id)
    assert rows == [[("a",)], [("b",), ("a",)]]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_constraint_of_the_user_refuses_the_commit(bank: Bank) -> None:
    """The error is not one of the run's data, and says what PostgreSQL says."""
    bank.ask("ALTER TABLE payments ADD UNIQUE (what) DEFERRABLE INITIALLY DEFERRED")
    bank.ask("ALTER TABLE payments DROP CONSTRAINT payments_what_key")

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            for _ in range(2):
                await bank.pay(tx, "lamp")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(StoreError, match="transaction of run r cannot be committed: duplicate key") as raised:
            await kernel.run(flow_of(body), run_id="r")
        assert not isinstance(raised.value, SerializationError)
    assert bank.paid == []


async def test_a_task_that_closes_the_connection(bank: Bank) -> None:
    """Its step fails, and leaves nothing; later steps have transactions."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, current_step().run_id)
            if current_step().run_id == "a" and (closing := tx.connection.close()) is not None:
                await closing
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(StoreError, match=r"transaction of run a .*connection") as raised:
            await kernel.run(flow_of(body), run_id="a")
        assert not isinstance(raised.value, SerializationError)
        await kernel.run(flow_of(body), run_id="b")
    assert bank.paid == ["b"]


async def test_an_error_of_the_database_is_its_own(bank: Bank) -> None:
    """The task gets the driver's error; caught in SQLite, the transaction goes on."""
    bank.ask("INSERT INTO payments VALUES ('lamp')")
    errors = []

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            try:
                await bank.pay(tx, "lamp")
            except (sqlite3.IntegrityError, psycopg.IntegrityError) as error:
                errors.append(error)
                raise
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(Exception, match=r"(?i)unique"):
            await kernel.run(flow_of(body), run_id="r")
    assert len(errors) == 1


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_caught_error_of_postgresql(bank: Bank) -> None:
    """PostgreSQL ends a transaction whose statement has failed: a task that catches the error cannot commit."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            with pytest.raises(psycopg.errors.UndefinedTable):
                await tx.execute("SELECT 1 FROM absent")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(StoreError, match="use a savepoint"):
            await kernel.run(flow_of(body), run_id="r")
    assert bank.paid == []


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("end", "said", "paid"),
    [
        ("COMMIT", "executed in it is committed; .*, each statement by itself", ["lamp"]),
        ("COMMIT; BEGIN", "executed in it is committed; .*, but for the transaction that it began last", ["lamp"]),
        ("COMMIT; BEGIN; SELECT 1 / 0", "executed in it is committed; .* that it began last", ["lamp"]),
        ("ROLLBACK", "executed in it is rolled back; .*, each statement by itself", []),
    ],
)
@pytest.mark.parametrize("by_itself", [True, False])
async def test_a_task_that_ends_its_transaction(
    bank: Bank, end: str, said: str, paid: list[str], by_itself: bool
) -> None:
    """PostgreSQL obeys. The error says what is committed, and neither the step nor a statement after it is."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            with suppress(psycopg.errors.DivisionByZero):
                if not by_itself:
                    await tx.execute(end)
                for statement in end.split("; ") if by_itself else ():
                    await tx.connection.execute(statement)
            if end == "COMMIT; BEGIN":
                await bank.pay(tx, "chair")
            store["paid"] = True
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises((StoreError, TaskError), match=f"a statement of the task ended it.*{said}"):
            await kernel.run(flow_of(body), run_id="r")
        view = await kernel.get("r")
        assert (bank.paid, view.seq, dict(view.data)) == (paid, 0, {})


async def test_a_closed_store_begins_none(bank: Bank) -> None:
    """A transaction that is begun when the store has been closed is refused, and connects nowhere."""
    backend: Any = Kernel().store_at(bank.url)[0]
    await backend.open()
    engine = backend._opened()
    await engine.close()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        await engine.begin("r", 1, 0, 1.0)


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_the_answer_to_a_commit_is_lost(bank: Bank) -> None:
    """If the connection breaks while PostgreSQL commits, the store tells whether it did, and the run continues."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            connection = tx.connection
            honest = connection.execute

            async def execute(statement: Any, *about: Any, **options: Any) -> Any:
                made = await honest(statement, *about, **options)
                if statement == "COMMIT":
                    await connection.close()
                    raise psycopg.OperationalError("the connection is lost")
                return made

            connection.execute = execute
        return "end"

    async with Kernel(store=bank.url) as kernel:
        assert (await kernel.run(flow_of(body), run_id="r")).state == "end"
    assert bank.paid == ["lamp"]


async def test_a_wait_is_committed_with_it(bank: Bank) -> None:
    """A step that parks its run commits its transaction, too."""

    async def body(store: Any) -> Any:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
        return wait_for("go", then="end")

    async with Kernel(store=bank.url) as kernel:
        handle = await kernel.start(flow_of(body), run_id="r")
        await parked(handle)
        assert bank.paid == ["lamp"]
        await kernel.signal("r", "go")
        await handle.result()
    assert bank.paid == ["lamp"]


async def test_a_child_wakes_its_parent(bank: Bank) -> None:
    """The last step of a child commits the signal to its parent with its own transaction."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
        return "end"

    async def wait(store: Any) -> Any:
        return wait_for("go", then="pay")

    child = Workflow("wait", name="child").add_exit_state("end")
    child.register("wait", task(wait)).register("pay", task(body))
    parent = Workflow("child", name="parent").add_exit_state("end")
    parent.register("child", SubWorkflow(child, then="end"))
    async with Kernel(store=bank.url) as kernel:
        handle = await kernel.start(parent, run_id="r")
        await parked(handle)
        await kernel.signal("r:1/child", "go")
        await handle.result()
    assert bank.paid == ["lamp"]


async def test_flush_and_progress_wait_for_the_commit(bank: Bank) -> None:
    """What is emitted with `flush` in a transaction is stored with it; no matter how much it is."""

    async def body(store: Any) -> str:
        step = current_step()
        await step.emit("x", -1, flush=True)
        async with step.transaction() as tx:
            step.progress(1)
            for number in range(1100):
                await step.emit("x", number, flush=True)
            await bank.pay(tx, "lamp")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        handle = await kernel.start(flow_of(body), run_id="r")
        await handle.result()
        assert [item.value async for item in handle.stream("x")] == list(range(-1, 1100))


async def test_sealed(bank: Bank, url_of: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An encrypted and sealed store seals the step in the same commit, and the next step continues it."""
    monkeypatch.setenv(KEYS_ENV, new_key())

    async def body(store: Any) -> str:
        step = current_step()
        async with step.transaction() as tx:
            await bank.pay(tx, f"lamp {step.seq}")
            store["paid"] = step.seq
        return "pay" if step.seq < 3 else "end"

    kind = "sqlite" if bank.url.startswith("sqlite:") else "postgres"
    place = url_of(kind).replace("runs.db", "sealed.db")
    sealed = Bank(f"{place}{'&' if '?' in place else '?'}codec=encrypt")
    async with Kernel(store=sealed.url):
        pass
    sealed.ask("CREATE TABLE payments (what TEXT NOT NULL UNIQUE)")
    async with Kernel(store=sealed.url) as kernel:
        await kernel.run(flow_of(body), run_id="r")
        assert dict((await kernel.get("r")).data) == {"paid": 3}
        assert [entry.seq for entry in await kernel.history("r")] == [0, 1, 2, 3]
    assert sealed.paid == ["lamp 1", "lamp 2", "lamp 3"]


async def test_where_there_is_none(bank: Bank) -> None:
    """Branches, phases before `post`, runs without a store and second transactions are refused by name."""
    said = []

    class Steps(Node[Any, Any, Any]):
        async def attempt(self, phase: str) -> None:
            try:
                async with current_step().transaction():
                    said.append(phase)
            except ConfigurationError as error:
                said.append(str(error))

        async def prep(self, store: Any) -> None:
            await self.attempt("prep")

        async def exec(self, prepared: Any) -> None:
            await self.attempt("exec")

        async def post(self, store: Any, prepared: Any, result: Any) -> str:
            await self.attempt("post")
            await self.attempt("post")
            return "end"

    flow = Workflow("pay", name="order").add_exit_state("end").register("pay", Steps())
    async with Kernel(store=bank.url) as kernel:
        await kernel.run(flow, run_id="r")
        assert said == [
            "transaction of state pay: the prep phase of a node cannot have one, since others follow; begin it in its "
            "post",
            "transaction of state pay: the exec phase of a node cannot have one, since others follow; begin it in its "
            "post",
            "post",
            "transaction of state pay: the attempt has one already; execute all statements in that",
        ]
    said.clear()
    async with Kernel(store="memory://") as kernel:
        await kernel.run(flow, run_id="r")
    assert "has none; use" in said[2]


async def test_it_ends_with_its_block(bank: Bank) -> None:
    """A statement after the block is refused, and leaves the transaction as it is."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
        with pytest.raises(ConfigurationError, match="its block has ended"):
            await bank.pay(tx, "chair")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        await kernel.run(flow_of(body), run_id="r")
    assert bank.paid == ["lamp"]


async def test_the_step_cannot_be_stored(bank: Bank) -> None:
    """If the step's data cannot be encoded, the payment is not there either."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
        store["bad"] = object()
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(SerializationError):
            await kernel.run(flow_of(body), run_id="r")
    assert bank.paid == []


async def test_it_takes_too_long(bank: Bank) -> None:
    """After half of the lease it is rolled back, and the step cannot be committed."""

    async def body(store: Any) -> str:
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            try:
                while True:
                    await tx.execute("SELECT 1")
            except StoreError as error:
                store["said"] = str(error)
                raise
        return "end"

    async with Kernel(store=bank.url, lease=4) as kernel:
        with pytest.raises(Exception, match="rolled back"):
            await kernel.run(flow_of(body), run_id="r")
    assert bank.paid == []


async def test_another_holder(bank: Bank) -> None:
    """A kernel whose run was claimed by another one executes no statement."""
    said = []

    async def body(store: Any) -> str:
        other = current_step().run.kernel.backend
        assert other is not None
        assert await other.claim("r", "thief", 1e12, 2e12) == 2
        async with current_step().transaction() as tx:
            said.append(tx)
        return "end"

    async with Kernel(store=bank.url) as kernel:
        with pytest.raises(ConflictError):
            await kernel.run(flow_of(body), run_id="r")
    assert said == []


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
async def test_what_sqlite_refuses(bank: Bank) -> None:
    """In a transaction, neither its end nor a call that would wait for it; after it, all is as before."""

    async def body(store: Any) -> str:
        kernel: Any = current_step().run.kernel
        async with current_step().transaction() as tx:
            await bank.pay(tx, "lamp")
            for end in ("COMMIT", "ROLLBACK"):
                with pytest.raises(sqlite3.DatabaseError, match="not authorized"):
                    await tx.execute(end)
            with pytest.raises(ConfigurationError, match="would wait for the transaction"):
                await kernel.backend.put_signal("another", Signal("a", "go"))
        return "wait"

    async def signal_another(store: Any) -> str:
        kernel: Any = current_step().run.kernel
        await kernel.backend.put_signal("another", Signal("a", "go"))
        return "end"

    flow = Workflow("pay", name="order").add_exit_state("end")
    flow.register("pay", task(body)).register("wait", task(signal_another))
    async with Kernel(store=bank.url) as kernel:
        await kernel.run(flow, run_id="r")
        assert kernel.backend is not None
        assert len((await kernel.backend.signals("another")).waiting) == 1
    assert bank.paid == ["lamp"]


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
async def test_a_session_of_sqlalchemy(bank: Bank) -> None:
    """The function in docs/transactions.md makes one: its rows are committed with the step; a savepoint undoes some."""
    shown: dict[str, Any] = {}
    exec(blocks("python", PAGE)[-1], shown)

    async def body(store: Any) -> str:
        step = current_step()
        async with step.transaction() as tx, shown["session_on"](tx) as session:
            await session.execute(text("INSERT INTO payments VALUES (:what)"), {"what": f"lamp {step.attempt}"})
            async with session.begin_nested() as part:
                await session.execute(text("INSERT INTO payments VALUES ('chair')"))
                await part.rollback()
            await session.commit()
            await session.rollback()
        if step.attempt == 1:
            raise ConnectionError("broken")
        return "end"

    async with Kernel(store=bank.url) as kernel:
        assert (await kernel.run(flow_of(body, retry=Now()), run_id="r")).state == "end"
    assert bank.paid == ["lamp 2"]


def sleeper(bank: Bank) -> tuple[subprocess.Popen[bytes], str]:
    """A process that has stopped in its transaction, and its run. A busy machine may stop it before, for too long."""
    for run_id in map("r{}".format, range(50)):
        program = [sys.executable, str(PROGRAM.with_name("sleeper.py")), bank.url, run_id]
        process = subprocess.Popen(program, stderr=subprocess.DEVNULL)
        how = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if how is not None and how.si_code == os.CLD_STOPPED:
            return process, run_id
        assert process.wait() == 1
    raise AssertionError("no process has come to its transaction within its lease")


def test_stopped_past_its_lease(bank: Bank) -> None:
    """A process that was stopped in its transaction leaves no effect when it wakes, and another one makes it."""
    from tests.acceptance.durability.sleeper import flow_of as sleeping

    process, run_id = sleeper(bank)

    async def take_over() -> None:
        if bank.url.startswith("sqlite:"):  # no other process can write until it continues
            asyncio.get_running_loop().call_later(LEASE, process.send_signal, signal.SIGCONT)
        async with Kernel(store=bank.url, **ONLY) as kernel:
            await kernel.run(sleeping(bank, "another"), run_id=run_id)

    asyncio.run(take_over())
    process.send_signal(signal.SIGCONT)
    assert (process.wait(), bank.paid) == (1, ["another"])


@pytest.mark.timeout(300)  # some seventy processes, one after the other
@pytest.mark.parametrize("what", ["step", "user"])
def test_killed_at_every_statement(bank: Bank, what: str) -> None:
    """Effect, data and transition of a step, or payment, run and signal of a user, are all there or none, and once.

    A process is killed at each place: the statements of Cano, of the driver and of the task, and the moments between.
    """
    fast = "?synchronous=normal" if bank.url.startswith("sqlite:") else "&synchronous_commit=off"  # the power stays on
    env = os.environ | {"CANO_BLOCK": "structlog,otel"}
    program = [sys.executable, str(PROGRAM), bank.url + fast, what]
    done = subprocess.run(program, stdout=subprocess.PIPE, text=True, env=env, check=True)
    said, times, _ = done.stdout.rsplit(maxsplit=2)
    assert (said, int(times) >= 12) == ("killed", True), done.stdout
