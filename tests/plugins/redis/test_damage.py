"""Corrupt keys: an error that names the run, while other runs go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
from cano import RunFilter, RunStatus, SerializationError
from cano.testing import DamageContract
from cano.testing.contract_base import NOW, new_run, step
from cano_redis import RedisBackend
from redis import Redis

from tests.plugins.audit_rows import check_corrupt_entries
from tests.plugins.redis.conftest import Ask
from tests.servers.redis import RedisServer

pack = msgspec.msgpack.encode
DEEP = b"\x91" * 100_000
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
HEAD = b"0123456789abcdef0000000000000008"

EXTRAS = [
    b"\xc1", "text", pack(5), pack((None, None)), pack(("text", None, None)), pack((None, "text", None)),
    pack((None, ("then", None, "soon", None), None)), pack((None, ("then",), None)), pack((None, None, "text")),
    pack(({"a": msgspec.msgpack.Ext(5, b"")}, None, None)), pack(({"a": TODAY}, None, None)), DEEP,
]  # fmt: skip
"""What is not the error, wait and payload of a record."""

LINES = [
    b"", b"short", HEAD[:16] + b"x" * 16, HEAD + b"\xc1", HEAD + pack(5), HEAD + pack(("S", "odd", 1.0, {}, [])),
    HEAD + pack(("S", "running", "x", {}, [])), HEAD + pack(("S", "running", 1.0, {"a": 1}, [])), HEAD + DEEP,
    HEAD + pack(("S", "running", 1.0, {}, [1])), HEAD + pack(("S", "running", 1.0, {}, [])) + b"\0", HEAD,
    HEAD[:31] + b"2" + pack(("S", "running", 1.0, {}, [])),
]  # fmt: skip
"""What is not the entry of the third transition."""


class TestDamage(DamageContract):
    """The contract of corrupt rows, on the store's keys. Each way is a command; `:run:run` is the record's key."""

    damages: ClassVar[Mapping[str, Sequence[tuple[Any, ...]]]] = {
        "record": [
            *(("HSET", ":run:run", "extra", extra) for extra in EXTRAS),
            *(
                ("HDEL", ":run:run", field)
                for field in ("workflow", "state", "seq", "status", "extra", "created", "fence")
            ),
            *(
                ("HSET", ":run:run", field, "x")
                for field in ("seq", "status", "created", "updated", "expires", "fence")
            ),
            *(
                ("HSET", ":run:run", field, b"\xff")
                for field in ("workflow", "version", "state", "holder", "parent", "seq")
            ),
            ("DEL", ":run:run"),
            ("SET", ":run:run", "text"),
        ],
        "data": [
            ("HDEL", ":data:run", "a"),
            ("HSET", ":data:run", "c", "1"),
            ("ZREM", ":keys:run", "a"),
            ("ZADD", ":keys:run", "1", "c"),
            ("DEL", ":data:run"),
            ("DEL", ":keys:run"),
            ("SET", ":data:run", "text"),
            ("SET", ":keys:run", "text"),
            ("SET", ":lines:run", "text"),
        ],
        "history": [
            *(("LSET", ":lines:run", "3", line) for line in LINES),
            ("RPOP", ":lines:run"),
            ("DEL", ":lines:run"),
        ],
        "signal": [
            ("HSET", ":signals:run", "1", "x"),
            ("HDEL", ":signals:run", "1"),
            ("SET", ":signals:run", "x"),
        ],
    }

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.server = redis

    def make_url(self, tmp_path: Path) -> str:
        """An unused prefix."""
        self.prefix = self.server.new_prefix()
        return self.server.url(prefix=self.prefix)

    def ask(self, run_id: str, *words: str | bytes) -> Any:
        """Return the server's answer to a command about the keys of a run."""
        keys = {
            f":{kind}:run": f"{{{self.prefix}}}:{kind}:{run_id}" for kind in ("run", "data", "keys", "lines", "signals")
        }
        with Redis(unix_socket_path=str(self.server.socket)) as client:
            return client.execute_command(*(keys.get(word, word) if isinstance(word, str) else word for word in words))

    def damage(self, url: str, run_id: str, what: tuple[Any, ...]) -> None:
        """Send the command."""
        self.ask(run_id, *what)

    def rewrite(self, url: str, run_id: str, change: Callable[[bytes], bytes]) -> None:
        """Change the entry of the third transition."""
        self.ask(run_id, "LSET", ":lines:run", "3", change(self.ask(run_id, "LINDEX", ":lines:run", "3")))


async def test_a_listed_corrupt_run_says_so(store: RedisBackend, ask: Ask) -> None:
    """A corrupt run is listed with the problem as its error, and with a status that it may have."""
    await store.create(new_run())
    await ask("HSET", ":run:run", "status", "odd")
    (run,) = await store.runs(RunFilter(workflow="flow"))

    message = "the run 'run' cannot be read from the store: its record is corrupt: there is no status b'odd'"
    assert run.status is RunStatus.INTERRUPTED
    assert run.error == {"type": "SerializationError", "message": message}


async def test_a_history_with_a_gap(store: RedisBackend, ask: Ask) -> None:
    """A missing entry is an error; without its last entry, the run cannot be loaded either."""
    for run_id in ("run", "other"):
        await store.create(new_run(run_id))
        await store.commit(step(1, run_id))
    await ask("LTRIM", ":lines:run", "1", "-1")
    with pytest.raises(SerializationError, match="entries of its history are missing"):
        await store.history("run")
    await ask("RPOP", ":lines:run")
    with pytest.raises(SerializationError, match="'run' cannot be read"):
        await store.load("run")


@pytest.mark.parametrize("key", [":run:run", ":lines:run", ":data:run", ":keys:run"])
async def test_commits_to_a_corrupt_run(store: RedisBackend, ask: Ask, key: str) -> None:
    """If a key of the run has another type, a commit raises an error that names the run."""
    await store.create(new_run(data={"a": b"1"}))
    await ask("SET", key, "text")
    with pytest.raises(SerializationError, match="'run' cannot be read") as caught:
        await store.commit(step(1, changed={"a": b"2"}))
    assert caught.value.run_id == "run"


@pytest.mark.parametrize("body", [b"", b"9999:run", b"3:run\xc1", b"3:run" + DEEP, b"no length", b"3:ru\xff" + pack(5)])
async def test_a_corrupt_entry_of_the_audit(store: RedisBackend, redis: RedisServer, prefix: str, body: bytes) -> None:
    """It hides no other entry."""
    client: Any = Redis(unix_socket_path=str(redis.socket))
    keys = [f"{{{prefix}}}:audit", f"{{{prefix}}}:audit:run"]

    def corrupt() -> None:
        for key in keys:
            (there,) = client.zrangebyscore(key, NOW + 1, NOW + 1)
            client.zrem(key, there)
            client.zadd(key, {there[:16] + body: NOW + 1})

    await check_corrupt_entries(store, corrupt)
    client.close()
