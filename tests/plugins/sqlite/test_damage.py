"""Corrupt rows and files: an error that names the run or the file, while other runs go on."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from cano import Kernel, RunFilter, RunStatus, SerializationError, Signal, StoreUnavailableError
from cano.testing import DamageContract
from cano.testing.contract_base import loaded, new_run, step
from cano_sqlite import SqliteBackend

from tests.plugins.audit_rows import check_action_and_entry_are_one, check_corrupt_entries

Ask = Callable[..., list[Any]]

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
EXTENSION = pack(({"a": msgspec.msgpack.Ext(5, b"os.system")}, []))

CHANGES = [
    b"", b"\xc1", b"no msgpack", "text", 5, pack(None), pack([]), pack(({}, [], [])), pack(({"a": "text"}, [])),
    pack(({"a": 1}, [])), pack(({1: b""}, [])), pack(({}, [1])), pack({"a": b""}), pack(({"a": b""}, []))[:-1],
    pack(({}, [])) + b"\0", b"\x92\x81\xa1\xff\xc4\x00\x90", DEEP, EXTENSION,
]  # fmt: skip
"""What is not the changes of an entry."""

EXTRAS = [
    b"", b"\xc1", "text", 5, pack(None), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": datetime.now(UTC)}, None, None)), DEEP,
]  # fmt: skip
"""What is not the error, wait and payload of an entry."""

ITS_ID = "(SELECT id FROM runs WHERE run_id = :run)"
LAST = "(SELECT head FROM runs WHERE run_id = :run)"
THIRD = f"WHERE run = {ITS_ID} AND seq = 3"


class TestDamage(DamageContract):
    """The contract of corrupt rows, on the tables."""

    damages: ClassVar[Mapping[str, Sequence[tuple[Any, ...]]]] = {
        "record": [
            *((f"UPDATE journal SET extra = :blob WHERE id = {LAST}", blob) for blob in EXTRAS),
            (f"UPDATE journal SET run = 7777 WHERE id = {LAST}",),
            (f"UPDATE journal SET seq = 2 WHERE id = {LAST}",),
            (f"UPDATE journal SET status = 'failed' WHERE id = {LAST}",),
            (f"UPDATE journal SET state = x'00' WHERE id = {LAST}",),
            (f"UPDATE journal SET state = CAST(x'ff' AS TEXT) WHERE id = {LAST}",),
            ("UPDATE runs SET holder = CAST(x'fe61' AS TEXT) WHERE run_id = :run",),
            (f"DELETE FROM journal WHERE id = {LAST}",),
            (f"DELETE FROM journal WHERE run = {ITS_ID}",),
            ("UPDATE runs SET head = 0 WHERE run_id = :run",),
            ("UPDATE runs SET head = (SELECT head FROM runs WHERE run_id = 'other') WHERE run_id = :run",),
            ("UPDATE runs SET head = 'text' WHERE run_id = :run",),
            ("UPDATE runs SET seq = 9 WHERE run_id = :run",),
            ("UPDATE runs SET seq = 'text' WHERE run_id = :run",),
            ("UPDATE runs SET token = x'01' WHERE run_id = :run",),
            ("UPDATE runs SET status = 'os.system' WHERE run_id = :run",),
            ("UPDATE runs SET status = 'failed' WHERE run_id = :run",),
            ("UPDATE runs SET parent = x'ff' WHERE run_id = :run",),
            ("UPDATE runs SET created = 'text' WHERE run_id = :run",),
            ("UPDATE runs SET expires = 'text' WHERE run_id = :run",),
            (f"UPDATE definitions SET workflow = x'ff' WHERE run = {ITS_ID}",),
            (f"UPDATE definitions SET fingerprint = x'ff' WHERE run = {ITS_ID}",),
            (f"DELETE FROM definitions WHERE run = {ITS_ID}",),
        ],
        "data": [
            *((f"UPDATE journal SET packed = :blob WHERE id = {LAST}", blob) for blob in CHANGES),
            (f"UPDATE journal SET prev = 0 WHERE id = {LAST}",),
            (f"UPDATE journal SET prev = id WHERE id = {LAST}",),
            (f"UPDATE journal SET prev = id + 1 WHERE id = {LAST}",),
            (f"UPDATE journal SET prev = 'text' WHERE id = {LAST}",),
            (f"DELETE FROM journal WHERE run = {ITS_ID} AND seq = 7",),
            ("UPDATE runs SET folded = -1 WHERE run_id = :run",),
            ("UPDATE runs SET folded = head + 1000 WHERE run_id = :run",),
            ("UPDATE runs SET folded = 'text' WHERE run_id = :run",),
            (f"UPDATE snapshot SET content = 'text' WHERE run = {ITS_ID}",),
            (f"UPDATE snapshot SET content = NULL WHERE run = {ITS_ID}",),
            (f"UPDATE snapshot SET part = 1 WHERE run = {ITS_ID}",),
            (f"UPDATE snapshot SET part = 'text' WHERE run = {ITS_ID}",),
            (f"UPDATE snapshot SET key = x'ff' WHERE run = {ITS_ID} AND key = 'b'",),
        ],
        "history": [
            (f"DELETE FROM journal {THIRD}",),
            (f"DELETE FROM journal WHERE run = {ITS_ID} AND seq = 0",),
            (f"UPDATE journal SET seq = 9 {THIRD}",),
            (f"UPDATE journal SET seq = 'text' {THIRD}",),
            (f"UPDATE journal SET state = x'00' {THIRD}",),
            (f"UPDATE journal SET status = 'odd' {THIRD}",),
            (f"UPDATE journal SET at = 'text' {THIRD}",),
            (f"UPDATE journal SET run = (SELECT id FROM runs WHERE run_id = 'other') {THIRD}",),
            (f"UPDATE journal SET packed = x'' {THIRD}",),
        ],
        "signal": [
            ("UPDATE signals SET payload = 'text' WHERE run_id = :run",),
            ("UPDATE signals SET payload = 5 WHERE run_id = :run",),
            ("UPDATE signals SET signal_id = x'00', payload = NULL WHERE run_id = :run",),
        ],
    }

    def make_url(self, tmp_path: Path) -> str:
        """A file that is compacted early, and quick on any disk."""
        self.path = tmp_path / "runs.db"
        return f"sqlite:///{self.path}?snapshot_every=5&synchronous=normal"

    def ask(self, statement: str, run_id: str, blob: object = None) -> list[Any]:
        """Return the rows of a statement about a run."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement, {"run": run_id, "blob": blob}).fetchall()

    def unfold(self, run_id: str) -> None:
        """Make `load` read the last four entries, whichever of them the run was compacted at."""
        fourth = f"(SELECT id FROM journal WHERE run = {ITS_ID} AND seq = 4)"
        self.ask(f"UPDATE runs SET folded = {fourth}, tail = 4 WHERE run_id = :run", run_id)

    def damage(self, url: str, run_id: str, what: tuple[Any, ...]) -> None:
        """Execute the statement."""
        self.unfold(run_id)
        self.ask(what[0], run_id, *what[1:])

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Change the changes of the newest entry."""
        self.unfold(run_id)
        ((changes,),) = self.ask(f"SELECT packed FROM journal WHERE id = {LAST}", run_id)
        self.ask(f"UPDATE journal SET packed = :blob WHERE id = {LAST}", run_id, change(changes))


async def eight_steps(store: SqliteBackend) -> None:
    """Make a run that is compacted in part."""
    await store.create(new_run(data={"a": b"0", "b": b"0"}))
    for seq in range(1, 9):
        await store.commit(step(seq, changed={"a": b"%d" % seq}))


async def test_a_listed_corrupt_run_says_so(store: SqliteBackend, ask: Ask) -> None:
    """A corrupt run is listed with the problem as its error, and with a status that it may have."""
    await store.create(new_run())
    ask("UPDATE runs SET status = 'odd' WHERE run_id = 'run'")
    (run,) = await store.runs(RunFilter(workflow="flow"))

    message = "the run 'run' cannot be read from the store: its row is corrupt"
    assert run.status is RunStatus.INTERRUPTED
    assert run.error == {"type": "SerializationError", "message": message}


async def test_a_definition_that_was_left_behind(store: SqliteBackend, ask: Ask) -> None:
    """A definition without a run does not prevent another run."""
    ask("INSERT INTO definitions VALUES (1, 'gone', '0', 'f0', 0)")
    assert await store.create(new_run()) == new_run()
    assert await loaded(store) == new_run()


async def test_commits_to_a_corrupt_run(path: Path, store: SqliteBackend, ask: Ask) -> None:
    """A commit that would compact corrupt entries is refused, and changes nothing."""
    await eight_steps(store)
    ask(f"UPDATE journal SET packed = x'00' WHERE id = {LAST}", {"run": "run"})
    seq, error = 8, None
    another = SqliteBackend(path, snapshot_every=5, synchronous="normal")  # which has not written the entries itself
    await another.open()
    while error is None:
        before = ask("SELECT * FROM journal"), ask("SELECT * FROM snapshot"), ask("SELECT * FROM runs")
        seq += 1
        (error,) = await asyncio.gather(another.commit(step(seq)), return_exceptions=True)

    assert isinstance(error, SerializationError)
    assert error.run_id == "run"
    assert (ask("SELECT * FROM journal"), ask("SELECT * FROM snapshot"), ask("SELECT * FROM runs")) == before
    await another.close()


async def test_a_corrupt_file(path: Path) -> None:
    """A file with corrupt pages is an error that names the file and the remedy."""
    store = SqliteBackend(path)
    await store.open()
    await eight_steps(store)
    await store.close()
    spoil(path)

    store = SqliteBackend(path)
    (opened,) = await asyncio.gather(store.open(), return_exceptions=True)
    error = opened or (await asyncio.gather(store.load("run"), return_exceptions=True))[0]
    assert isinstance(error, StoreUnavailableError)
    assert f"the store {path} cannot be used: it is corrupt; restore a backup" in str(error)
    await store.close()


def spoil(path: Path) -> None:
    """Overwrite all pages but the first."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


@pytest.mark.parametrize(
    "change",
    [
        "action = x'ff', actor = 5", "actor = CAST(x'ff' AS TEXT)", "detail = x'00'", "at = 'soon'", "at = 9e999",
        "run_id = CAST(x'72756eff' AS TEXT)", "at = x''",
    ],
)  # fmt: skip
async def test_a_corrupt_entry_of_the_audit(store: SqliteBackend, ask: Ask, change: str) -> None:
    """It hides no other entry."""
    await check_corrupt_entries(store, lambda: ask(f"UPDATE audit SET {change} WHERE id = 2"))


async def test_an_action_and_its_entry_are_one(store: SqliteBackend, ask: Ask) -> None:
    """If the entry cannot be stored, the action is not done, either."""
    await store.create(new_run())
    ask("DROP TABLE audit")
    await check_action_and_entry_are_one(store)


async def test_check_names_a_run_with_a_corrupt_signal(tmp_path: Path) -> None:
    """The run itself can be read; its next signal cannot."""
    path = tmp_path / "runs.db"
    async with Kernel(store=f"sqlite:///{path}") as kernel:
        store = kernel.backend
        assert store is not None
        for run_id in ("run", "other"):
            await store.create(new_run(run_id))
            await store.put_signal(run_id, Signal("1", "go", b"\xc0"))
        before = {finding.run_id: finding.detail for finding in await kernel.check() if finding.kind == "corrupt"}
        with closing(sqlite3.connect(path)) as file, file:
            file.execute("UPDATE signals SET payload = 5 WHERE run_id = 'run'")

        found = {finding.run_id: finding.detail for finding in await kernel.check() if finding.kind == "corrupt"}
    assert not before
    assert found.keys() == {"run"}
