"""Corrupt rows: an error that names the run, while other runs go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import psycopg
import pytest
from cano import RunFilter, RunStatus, SerializationError, StoreUnavailableError
from cano.testing import DamageContract
from cano.testing.contract_base import NOW, loaded, new_run, step
from cano_postgres import PostgresBackend

from tests.plugins.audit_rows import check_action_and_entry_are_one, check_corrupt_entries
from tests.servers.postgres import PostgresServer

Ask = Callable[..., list[Any]]

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
EXTENSION = pack(({"a": msgspec.msgpack.Ext(5, b"os.system")}, []))

CHANGES = [
    b"", b"\xc1", b"no msgpack", pack(None), pack([]), pack(({}, [], [])), pack(({"a": "text"}, [])),
    pack(({"a": 1}, [])), pack(({1: b""}, [])), pack(({}, [1])), pack({"a": b""}), pack(({"a": b""}, []))[:-1],
    pack(({}, [])) + b"\0", b"\x92\x81\xa1\xff\xc4\x00\x90", DEEP, EXTENSION,
]  # fmt: skip
"""What is not the changes of an entry."""

EXTRAS = [
    b"", b"\xc1", pack(None), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": datetime.now(UTC)}, None, None)), DEEP,
]  # fmt: skip
"""What is not the error, wait and payload of a run."""

MINE = "run = (SELECT id FROM runs WHERE run_id = %(run)s)"
LAST = f"{MINE} AND line = (SELECT head FROM runs WHERE run_id = %(run)s)"
_numbers = count(1)


class TestDamage(DamageContract):
    """The contract of corrupt rows, on the tables."""

    damages: ClassVar[Mapping[str, Sequence[tuple[Any, ...]]]] = {
        "record": [
            *(("UPDATE runs SET extra = %(blob)s WHERE run_id = %(run)s", blob) for blob in EXTRAS),
            ("UPDATE runs SET status = 'os.system' WHERE run_id = %(run)s",),
        ],
        "data": [
            *((f"UPDATE journal SET packed = %(blob)s WHERE {LAST}", blob) for blob in CHANGES),
            (f"DELETE FROM journal WHERE {LAST}",),
            (f"DELETE FROM journal WHERE {MINE}",),
            (f"UPDATE journal SET line = 77 WHERE {LAST}",),
            (f"UPDATE journal SET run = 7777 WHERE {LAST}",),
            ("UPDATE runs SET head = 0 WHERE run_id = %(run)s",),
            ("UPDATE runs SET head = 99 WHERE run_id = %(run)s",),
            ("UPDATE runs SET folded = -1 WHERE run_id = %(run)s",),
            ("UPDATE runs SET folded = 99 WHERE run_id = %(run)s",),
            (f"UPDATE snapshot SET key = '\\xff' WHERE {MINE} AND key = 'b'",),
            (f"UPDATE snapshot SET content = NULL WHERE {MINE}",),
            (f"UPDATE snapshot SET part = 1 WHERE {MINE}",),
        ],
        "history": [
            (f"DELETE FROM journal WHERE {MINE} AND seq = 3",),
            (f"DELETE FROM journal WHERE {MINE} AND seq = 0",),
            (f"UPDATE journal SET seq = 9 WHERE {MINE} AND seq = 3",),
            (f"UPDATE journal SET status = 'odd' WHERE {MINE} AND seq = 3",),
            (f"UPDATE journal SET run = 7777 WHERE {MINE} AND seq = 3",),
            (f"UPDATE journal SET packed = '' WHERE {MINE} AND seq = 3",),
        ],
        "signal": [("UPDATE signals SET signal_id = '\\xff' WHERE run_id = %(run)s",)],
    }

    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer, database: str) -> None:
        self.server, self.database = postgres, database

    def make_url(self, tmp_path: Path) -> str:
        """A schema of its own that is compacted early."""
        self.schema = f"damage{next(_numbers)}"
        return self.server.url(self.database, schema=self.schema, snapshot_every=5)

    def ask(self, statement: str, run_id: str, blob: bytes | None = None) -> list[Any]:
        """Return the rows of a statement about a run."""
        options = f"-c search_path={self.schema}"
        with psycopg.connect(self.server.url(self.database), autocommit=True, options=options) as connection:
            cursor = connection.execute(statement.encode(), {"run": run_id, "blob": blob})
            return cursor.fetchall() if cursor.description else []

    def unfold(self, run_id: str) -> None:
        """Make `load` read the last four entries, whichever of them the run was compacted at."""
        changed = self.ask("UPDATE runs SET folded = 5 WHERE run_id = %(run)s AND folded >= 5 RETURNING head", run_id)
        assert changed == [(9,)]

    def damage(self, url: str, run_id: str, what: tuple[Any, ...]) -> None:
        """Execute the statement."""
        self.unfold(run_id)
        self.ask(what[0], run_id, *what[1:])

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Change the changes of the newest entry."""
        self.unfold(run_id)
        ((changes,),) = self.ask(f"SELECT packed FROM journal WHERE {LAST}", run_id)
        self.ask(f"UPDATE journal SET packed = %(blob)s WHERE {LAST}", run_id, change(changes))


async def test_a_listed_corrupt_run_says_so(store: PostgresBackend, ask: Ask) -> None:
    """A corrupt run is listed with the problem as its error, and with a status that it may have."""
    await store.create(new_run())
    ask("UPDATE runs SET status = 'odd' WHERE run_id = 'run'")
    (run,) = await store.runs(RunFilter(workflow="flow"))

    message = "the run 'run' cannot be read from the store: its row is corrupt"
    assert run.status is RunStatus.INTERRUPTED
    assert run.error == {"type": "SerializationError", "message": message}


async def test_commits_to_a_corrupt_run(store: PostgresBackend, ask: Ask) -> None:
    """Corrupt entries are not compacted; later commits are kept."""
    await store.create(new_run(data={"a": b"0", "b": b"0"}))
    for seq in range(1, 7):
        await store.commit(step(seq, changed={"a": b"%d" % seq}))
    ask(f"UPDATE journal SET packed = '\\x00' WHERE {LAST}".replace("%(run)s", "'run'"))
    before = ask("SELECT * FROM snapshot ORDER BY run, place")
    for seq in range(7, 30):
        await store.commit(step(seq))

    assert ask("SELECT * FROM snapshot ORDER BY run, place") == before
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.load("run")


async def test_tables_that_are_gone(store: PostgresBackend, ask: Ask, schema: str) -> None:
    """If the tables are dropped or replaced, the error says so."""
    await store.create(new_run())
    ask("ALTER TABLE journal RENAME TO elsewhere")
    for call in (store.commit(step(1)), store.load("run"), store.history("run")):
        with pytest.raises(StoreUnavailableError, match="its tables do not exist any more; close the store"):
            await call
    ask("ALTER TABLE elsewhere RENAME TO journal")

    await store.commit(step(1))
    assert (await loaded(store)).seq == 1


@pytest.mark.parametrize("change", ["detail = '\\xff', actor = ''", "at = 'NaN'", "at = '-Infinity'"])
async def test_a_corrupt_entry_of_the_audit(store: PostgresBackend, ask: Ask, change: str) -> None:
    """It hides no other entry."""
    await check_corrupt_entries(store, lambda: ask(f"UPDATE audit SET {change} WHERE at = {NOW + 1}"))


async def test_an_action_and_its_entry_are_one(store: PostgresBackend, ask: Ask) -> None:
    """If the entry cannot be stored, the action is not done, either."""
    await store.create(new_run())
    ask("DROP TABLE audit")
    await check_action_and_entry_are_one(store)
