"""The kinds of stores with golden data: how to save a store to a file, and how to restore it.

SQLite keeps its own file, which is portable. The others have text: SQL for PostgreSQL; for Redis and LMDB, JSON with
the content of every key, in which each character stands for one byte.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import lmdb
import psycopg
from redis import Redis

from tests.servers.postgres import PostgresServer, binaries, start_postgres
from tests.servers.redis import RedisServer, start_redis

SCHEMA = "golden"
PREFIX = "golden"
KEYS = "golden:Z29sZGVuIGdvbGRlbiBnb2xkZW4gZ29sZGVuIGdvbGQ="
"""The key of the encrypted store, as `CANO_ENCRYPTION_KEYS` holds it."""

BLOBS = "blobs"
_NUMBERS = count(1)


class Servers(Protocol):
    """The servers that tests share."""

    def postgres(self) -> PostgresServer:
        """The PostgreSQL server."""
        ...

    def redis(self) -> RedisServer:
        """The Redis server."""
        ...


class Kind(NamedTuple):
    """A kind of store.

    Attributes:
        file: name of its file in a folder of golden data.
        layered: whether the store has a layer around its codec. It then gets only the acts for such stores.
        new: `new(target, scratch)` makes an empty store and returns its URL; on exit it writes the file to `target`.
        copy: `copy(source, scratch, servers)` makes a store from the file in `source` and returns its URL.
    """

    file: str
    layered: bool
    new: Callable[[Path, Path], AbstractContextManager[str]]
    copy: Callable[[Path, Path, Servers], str]


# SQLite: the file itself, compressed


def _sqlite(name: str, codec: str = "") -> Kind:
    file = f"{name}.gz"

    def url_of(place: Path) -> str:
        layer = codec.replace("FOLDER", quote(str(place.parent / BLOBS), safe=""))
        return f"sqlite:///{place}?synchronous=normal" + (layer and f"&codec={layer}")

    @contextmanager
    def new(target: Path, scratch: Path) -> Iterator[str]:
        yield url_of(scratch / name)
        with closing(sqlite3.connect(scratch / name)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (target / file).write_bytes(gzip.compress((scratch / name).read_bytes(), mtime=0))
        if (scratch / BLOBS).exists():
            shutil.copytree(scratch / BLOBS, target / BLOBS, ignore=shutil.ignore_patterns(".lock"))

    def copy(source: Path, scratch: Path, servers: Servers) -> str:
        (scratch / name).write_bytes(gzip.decompress((source / file).read_bytes()))
        if "FOLDER" in codec:
            shutil.copytree(source / BLOBS, scratch / BLOBS)
        return url_of(scratch / name)

    return Kind(file, bool(codec), new, copy)


# PostgreSQL: the output of pg_dump, without commands for psql and settings of one server version


def _postgres(file: str, **options: str) -> Kind:
    def new(target: Path, scratch: Path) -> AbstractContextManager[str]:
        return _new_postgres(target / file, options)

    def copy(source: Path, scratch: Path, servers: Servers) -> str:
        return _copy_postgres(source / file, servers.postgres(), options)

    return Kind(file, bool(options), new, copy)


@contextmanager
def _new_postgres(target: Path, options: dict[str, str]) -> Iterator[str]:
    server = start_postgres("-c", "fsync=off")
    try:
        database = server.new_database()
        yield server.url(database, schema=SCHEMA, **options)
        programs = binaries()
        assert programs is not None
        place = ["-h", str(server.folder), "-U", "cano", f"--schema={SCHEMA}"]
        how = ["--inserts", "--no-owner", "--no-privileges", "--no-comments"]
        command = [str(programs / "pg_dump"), *place, *how, database]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    finally:
        server.throw_away()
    kept = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\", "SET "))]
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")


def _copy_postgres(source: Path, server: PostgresServer, options: dict[str, str]) -> str:
    schema = f"{SCHEMA}_{next(_NUMBERS)}"  # a new database would take twice as long as the rest
    with psycopg.connect(server.url()) as connection:
        connection.execute(source.read_bytes())
        connection.execute(f"ALTER SCHEMA {SCHEMA} RENAME TO {schema}".encode())
    return server.url(schema=schema, **options)


# Redis: the type and the content of each key


def _redis(file: str, **options: str) -> Kind:
    def new(target: Path, scratch: Path) -> AbstractContextManager[str]:
        return _new_redis(target / file, options)

    def copy(source: Path, scratch: Path, servers: Servers) -> str:
        return _copy_redis(source / file, servers.redis(), options)

    return Kind(file, bool(options), new, copy)


@contextmanager
def _new_redis(target: Path, options: dict[str, str]) -> Iterator[str]:
    server = start_redis()
    try:
        yield server.url(prefix=PREFIX, **options)
        start = f"{{{PREFIX}}}:".encode()
        with closing(_client(server)) as client:
            keys = sorted(client.keys())
            assert all(key.startswith(start) for key in keys)
            assert all(client.ttl(key) == -1 for key in keys)
            content = {_text(key.removeprefix(start)): _read(client, key) for key in keys}
    finally:
        server.throw_away()
    _write_json(target, content)


def _copy_redis(source: Path, server: RedisServer, options: dict[str, str]) -> str:
    prefix = server.new_prefix()
    content: dict[str, tuple[str, Any]] = json.loads(source.read_text(encoding="utf-8"))
    with closing(_client(server)) as client, client.pipeline() as pipeline:
        for key, (kind, value) in content.items():
            command, members = _WRITE[kind], value if isinstance(value, list) else [value]
            pipeline.execute_command(command, f"{{{prefix}}}:".encode() + _bytes(key), *map(_bytes, members))
        pipeline.execute()
    return server.url(prefix=prefix, **options)


def _client(server: RedisServer) -> Any:
    return Redis(unix_socket_path=str(server.socket))


_WRITE = {"string": "SET", "hash": "HSET", "list": "RPUSH", "set": "SADD", "zset": "ZADD"}


def _read(client: Any, key: bytes) -> list[Any]:
    kind = client.type(key).decode()
    value: Any
    if kind == "string":
        value = _text(client.get(key))
    elif kind == "hash":
        value = [_text(text) for pair in sorted(client.hgetall(key).items()) for text in pair]
    elif kind == "list":
        value = [_text(item) for item in client.lrange(key, 0, -1)]
    elif kind == "set":
        value = sorted(_text(item) for item in client.smembers(key))
    else:
        assert kind == "zset", f"{key!r} is a {kind}"
        value = [
            text
            for member, score in client.zrange(key, 0, -1, withscores=True)
            for text in (repr(score), _text(member))
        ]
    return [kind, value]


# LMDB, the store of examples/third_party_store: all keys and values


@contextmanager
def _new_lmdb(target: Path, scratch: Path) -> Iterator[str]:
    yield f"lmdb:///{scratch / 'runs.mdb'}"
    with lmdb.open(str(scratch / "runs.mdb"), subdir=False) as env, env.begin() as transaction:
        content = {_text(bytes(key)): _text(bytes(value)) for key, value in transaction.cursor()}
    _write_json(target / "lmdb.json", content)


def _copy_lmdb(source: Path, scratch: Path, servers: Servers) -> str:
    content: dict[str, str] = json.loads((source / "lmdb.json").read_text(encoding="utf-8"))
    with (
        lmdb.open(str(scratch / "runs.mdb"), subdir=False, map_size=2**24) as env,
        env.begin(write=True) as transaction,
    ):
        for key, value in content.items():
            transaction.put(_bytes(key), _bytes(value))
    return f"lmdb:///{scratch / 'runs.mdb'}"


def _write_json(path: Path, content: dict[str, Any]) -> None:
    lines = [json.dumps({key: value}, ensure_ascii=False)[1:-1] for key, value in content.items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")


KINDS: dict[str, Kind] = {
    "sqlite": _sqlite("sqlite.db"),
    "postgres": _postgres("postgres.sql"),
    "redis": _redis("redis.json"),
    "lmdb": Kind("lmdb.json", False, _new_lmdb, _copy_lmdb),
    "zstd": _sqlite("zstd.db", "zstd"),
    "encrypt": _sqlite("encrypt.db", "encrypt"),
    "encrypt-postgres": _postgres("encrypt.sql", codec="encrypt"),
    "encrypt-redis": _redis("encrypt.json", codec="encrypt"),
    "offload": _sqlite("offload.db", "offload:1KiB:FOLDER"),
}
