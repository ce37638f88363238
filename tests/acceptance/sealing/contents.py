"""The rows of each kind of store, as a writer of its disk or server reads and replaces them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg
from cano import Kernel, RunRecord, Signal, StoreBackend, Transition
from cano_durability.sealing.store import sealed
from cano_encryption import EncryptionLayer
from cano_memory.backend import MemoryBackend
from psycopg import sql
from redis import Redis

from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

Rows = dict[str, list[dict[str, Any]]]
"""By table, or type of key: its rows."""


class Contents(Protocol):
    """A store whose rows can be changed."""

    def store(self) -> str | StoreBackend:
        """Return what a kernel opens."""
        ...

    def read(self) -> Rows:
        """Return all rows."""
        ...

    def write(self, rows: Rows) -> None:
        """Replace all rows. Rows that the store itself refuses, as a second one with the same key, are left out."""
        ...


class File:
    """A SQLite file."""

    TABLES = ("journal", "runs", "definitions", "snapshot", "signals")  # the trigger of `journal` then finds no run

    def __init__(self, folder: Path) -> None:
        self._path = folder / "runs.db"

    def store(self) -> str:
        """Return the URL."""
        return f"sqlite:///{self._path}?synchronous=normal&codec=encrypt"

    def read(self) -> Rows:
        """See `Contents.read`."""
        with closing(sqlite3.connect(self._path)) as connection:
            connection.row_factory = sqlite3.Row
            return {name: [dict(row) for row in connection.execute(f"SELECT * FROM {name}")] for name in self.TABLES}

    def write(self, rows: Rows) -> None:
        """See `Contents.write`."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            for name in reversed(self.TABLES):
                connection.execute(f"DELETE FROM {name}")
            for name in self.TABLES:
                for row in rows[name]:
                    columns, places = ", ".join(row), ", ".join("?" * len(row))
                    connection.execute(f"INSERT OR IGNORE INTO {name} ({columns}) VALUES ({places})", [*row.values()])


class Database:
    """A schema in PostgreSQL."""

    TABLES = ("runs", "journal", "snapshot", "signals")

    def __init__(self, server: PostgresServer) -> None:
        self._server = server
        self._database = server.new_database()

    def store(self) -> str:
        """Return the URL."""
        return self._server.url(self._database, codec="encrypt")

    @contextmanager
    def _connected(self) -> Any:
        with psycopg.connect(self._server.url(self._database), options="-c search_path=cano,public") as connection:
            yield connection

    def read(self) -> Rows:
        """See `Contents.read`."""
        with self._connected() as connection, connection.cursor(row_factory=psycopg.rows.dict_row) as cursor:
            rows: Rows = {
                name: cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(name))).fetchall()
                for name in self.TABLES
            }
            for row in rows["runs"]:
                del row["ended"], row["outcome"]  # PostgreSQL generates them
            return rows

    def write(self, rows: Rows) -> None:
        """See `Contents.write`."""
        with self._connected() as connection, connection.cursor() as cursor:
            cursor.execute("TRUNCATE runs, journal, snapshot, signals")
            for name in self.TABLES:
                for row in rows[name]:
                    statement = sql.SQL(
                        "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE VALUES ({}) ON CONFLICT DO NOTHING"
                    )
                    columns, places = map(sql.Identifier, row), [sql.Placeholder()] * len(row)
                    parts = sql.Identifier(name), sql.SQL(", ").join(columns), sql.SQL(", ").join(places)
                    cursor.execute(statement.format(*parts), [*row.values()])


class Keys:
    """A prefix in Redis."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._prefix = server.new_prefix()

    def store(self) -> str:
        """Return the URL."""
        return self._server.url(prefix=self._prefix, codec="encrypt")

    def read(self) -> Rows:
        """See `Contents.read`."""
        rows: Rows = {"string": [], "hash": [], "list": [], "zset": [], "set": []}
        client: Any = Redis(unix_socket_path=str(self._server.socket))
        with closing(client):
            for key in sorted(self._keys(client)):
                kind = client.type(key).decode()
                rows[kind] += self._row(client, kind, key)
        return rows

    def _keys(self, client: Any) -> Iterable[bytes]:
        found: Iterable[bytes] = client.scan_iter(match=f"{{{self._prefix}}}:*", count=1000)
        return found

    def _row(self, client: Any, kind: str, key: bytes) -> list[dict[str, Any]]:
        if kind == "string":
            return [{"key": key, "value": client.get(key)}]
        if kind == "hash":
            return [{"key": key, "field": name, "value": value} for name, value in client.hgetall(key).items()]
        if kind == "zset":
            scores = client.zrange(key, 0, -1, withscores=True)
            return [{"key": key, "member": member, "score": score} for member, score in scores]
        items = client.lrange(key, 0, -1) if kind == "list" else client.smembers(key)
        return [{"key": key, "value": item} for item in items]

    def write(self, rows: Rows) -> None:
        """See `Contents.write`."""
        with closing(Redis(unix_socket_path=str(self._server.socket))) as client, client.pipeline() as pipeline:
            for key in self._keys(client):
                pipeline.delete(key)
            for row in rows["string"]:
                pipeline.set(row["key"], row["value"])
            for row in rows["hash"]:
                pipeline.hset(row["key"], row["field"], row["value"])
            for row in rows["list"]:
                pipeline.rpush(row["key"], row["value"])
            for row in rows["set"]:
                pipeline.sadd(row["key"], row["value"])
            for row in rows["zset"]:
                pipeline.zadd(row["key"], {row["member"]: row["score"]})
            pipeline.execute()


class Memory:
    """The strict store in memory. Its dicts have rows, too."""

    def __init__(self, layer: EncryptionLayer) -> None:
        self._layer = layer
        self._backend: Any = None
        self.write({"runs": [], "values": [], "entries": [], "changes": [], "signals": []})

    def store(self) -> StoreBackend:
        """Return a sealed store around the rows."""
        return sealed(self._backend, self._layer, ["encrypt"])

    def read(self) -> Rows:
        """See `Contents.read`."""
        runs, history, mail = self._backend._runs, self._backend._history, self._backend._mail
        rows: Rows = {"runs": [run._asdict() | {"data": {}, "own": {}} for run in runs.values()]}
        rows["values"] = [
            {"run": id, "own": own, "key": key, "value": value}
            for id, run in runs.items()
            for own, values in ((False, run.data), (True, run.own))
            for key, value in values.items()
        ]
        rows["entries"] = [
            {"run": id, "number": number} | entry._asdict() | {"changed": {}, "own": {}}
            for id, entries in history.items()
            for number, entry in enumerate(entries)
        ]
        rows["changes"] = [
            {"run": id, "number": number, "own": own, "key": key, "value": value}
            for id, entries in history.items()
            for number, entry in enumerate(entries)
            for own, values in ((False, entry.changed), (True, entry.own))
            for key, value in values.items()
        ]
        rows["signals"] = [
            {"run": id, "waiting": key in box.waiting}
            | box.waiting.get(key, Signal(key[2], "", own=key[0], to=key[1]))._asdict()
            for id, box in mail.items()
            for key in sorted(box.seen, key=repr)
        ]  # fmt: skip
        return rows

    def write(self, rows: Rows) -> None:
        """See `Contents.write`."""
        backend: Any = MemoryBackend(strict=True)
        for row in rows["runs"]:
            values = [each for each in rows["values"] if each["run"] == row["run_id"]]
            backend._runs[row["run_id"]] = RunRecord(**row | {"data": _of(values, False), "own": _of(values, True)})
        for row in rows["entries"]:
            mine = {name: value for name, value in row.items() if name not in ("run", "number")}
            place = row["run"], row["number"]
            values = [each for each in rows["changes"] if (each["run"], each["number"]) == place]
            mine |= {"changed": _of(values, False), "own": _of(values, True)}
            backend._history.setdefault(row["run"], []).append(Transition(**mine))
        boxes = type(backend)(strict=True)._mail
        from cano_memory.backend import _Mailbox

        for row in rows["signals"]:
            box = boxes.setdefault(row["run"], _Mailbox())
            signal = Signal(**{name: row[name] for name in Signal._fields})
            box.seen.add(signal.key)
            if row["waiting"]:
                box.waiting[signal.key] = signal
        backend._mail = boxes
        self._backend = backend

    def keep(self) -> None:
        """Let a kernel that closes keep the rows."""
        self._backend.close = _nothing


def _of(values: list[dict[str, Any]], own: bool) -> dict[str, Any]:
    """Return the values of a kind, by key."""
    return {each["key"]: each["value"] for each in values if each["own"] is own}


async def _nothing() -> None:
    """Do nothing."""


def kernel_on(contents: Contents, **options: Any) -> Kernel:
    """Return a kernel on the store."""
    if isinstance(contents, Memory):
        contents.keep()
    return Kernel(store=contents.store(), grace=0, **options)
