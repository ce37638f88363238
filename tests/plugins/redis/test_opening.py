"""What `open` finds: the server's durability, its users, and existing keys."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cano import RunFilter, Signal, StoreError, StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_redis import Durability, RedisBackend
from redis.exceptions import ResponseError

from tests.plugins.redis.conftest import Ask
from tests.servers.redis import RedisServer

ROOT = Path(__file__).parents[3]

Start = Callable[..., RedisServer]


async def found(server: RedisServer, **options: str) -> Durability | None:
    """Return the durability that a store finds."""
    store = RedisBackend(path=str(server.socket), **options)  # type: ignore[arg-type]
    assert store.durability is None
    await store.open()
    await store.create(new_run())
    await store.close()
    return store.durability


@pytest.mark.parametrize(
    ("options", "durability", "said"),
    [
        (["--appendfsync", "always"], Durability.ALWAYS, None),
        (["--appendfsync", "everysec"], Durability.EVERYSEC, "appendfsync everysec"),
        (["--appendfsync", "no"], Durability.NO, "appendfsync no"),
        (["--appendonly", "no"], Durability.NONE, "no append-only file"),
        (["--rename-command", "CONFIG", ""], Durability.UNKNOWN, "does not report"),
    ],
)
async def test_durability(
    a_server: Start, caplog: pytest.LogCaptureFixture, options: list[str], durability: Durability, said: str | None
) -> None:
    """The server's durability is found, warned of once, and refused if more is required."""
    server = a_server(*options)
    assert await found(server) is durability
    warned = [record.getMessage() for record in caplog.records if record.name == "cano.redis"]
    assert [said in each for each in warned] == [True] if said else warned == []

    enough = {Durability.ALWAYS: {"everysec", "always"}, Durability.EVERYSEC: {"everysec"}}.get(durability, set())
    for require in ("everysec", "always"):
        if require in enough:
            assert await found(server, require=require) is durability
        else:
            with pytest.raises(StoreUnavailableError, match=f"requires appendfsync {require}, but the server has"):
                await found(server, require=require)


async def test_durability_that_is_taken_away(a_server: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A change is found when the store reconnects, and refused if the durability is less than required."""
    server = a_server()
    lax, strict = RedisBackend(path=str(server.socket)), RedisBackend(path=str(server.socket), require="always")
    for store in (lax, strict):
        await store.open()
    await lax.create(new_run())
    assert not caplog.records
    server.cli("config", "set", "appendfsync", "everysec")
    server.cli("client", "kill", "type", "normal")
    await lax.commit(step(1))
    with pytest.raises(StoreUnavailableError, match="requires appendfsync always"):
        await strict.commit(step(2))

    assert lax.durability is Durability.EVERYSEC
    assert (await loaded(lax)).seq == 1
    for store in (lax, strict):
        await store.close()


async def test_eviction(a_server: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A server that evicts keys when its memory is full is refused; one that would with a memory limit is warned of."""
    server = a_server("--maxmemory-policy", "allkeys-lru")
    await found(server)
    assert [record.getMessage() for record in caplog.records if "allkeys-lru" in record.getMessage()]
    server.cli("config", "set", "maxmemory", "100mb")
    with pytest.raises(StoreUnavailableError, match=r"would drop runs.*noeviction"):
        await found(server)
    for harmless in ("volatile-lru", "noeviction"):
        server.cli("config", "set", "maxmemory-policy", harmless)
        await found(server)


async def test_a_full_memory(a_server: Start) -> None:
    """A server without memory refuses commits with a remedy; stored runs stay whole."""
    server = a_server("--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
    store = RedisBackend(path=str(server.socket))
    await store.open()
    await store.create(new_run())
    seq, problem = 0, None
    while problem is None and seq < 100:
        commit = store.commit(step(seq + 1, changed={"a": bytes(200_000)}))
        (problem,) = await asyncio.gather(commit, return_exceptions=True)
        seq += problem is None
    assert isinstance(problem, StoreUnavailableError)
    assert "raise maxmemory, or delete runs" in str(problem)
    run = await loaded(store)
    assert run.seq == seq > 0
    server.cli("config", "set", "maxmemory", "100mb")
    await store.commit(step(seq + 1))
    assert [line.seq for line in await store.history("run")] == [*range(seq + 2)]
    await store.close()


async def test_passwords(a_server: Start) -> None:
    """A wrong or missing password is an error at once, and not shown."""
    server = a_server("--requirepass", "open sesame")
    right = RedisBackend(path=str(server.socket), password="open sesame")
    await right.open()
    await right.create(new_run())
    for username, password in ((None, "hunter2"), ("ada", "hunter2"), (None, None)):
        store = RedisBackend(path=str(server.socket), username=username, password=password)
        with pytest.raises(StoreUnavailableError, match="password") as caught:
            await store.open()
        assert "hunter2" not in str(caught.value) + repr(store)
    await right.close()


async def test_a_user_with_few_rights(a_server: Start) -> None:
    """The permissions in the README suffice, in namespaces, too, and so do those for one namespace, or for none."""
    server = a_server()
    readme = (ROOT / "plugins/redis/README.md").read_text()
    whole, one, none = (f"~{keys} &{keys}" for keys in ("{cano}*", "{cano}4:acme:*", "{cano}:*"))
    assert all(f"`{keys}" in readme for keys in (f"{whole} +@all -@dangerous +info`", one, none))
    for keys, namespaces in ((whole, ("", "acme", "a")), (one, ("acme",)), (none, ("",))):
        server.cli("acl", "setuser", "ada", "reset", "on", ">secret", *keys.split(), "+@all", "-@dangerous", "+info")
        for namespace in namespaces:
            store = RedisBackend(path=str(server.socket), username="ada", password="secret")
            store = store.scoped(namespace) if namespace else store
            await store.open()
            assert store.durability is Durability.UNKNOWN
            await store.create(new_run())
            await store.commit(step(1, changed={"a": b"1"}, release=True))
            assert (await loaded(store)).seq == 1
            assert await store.delete("run")
            await store.close()

    other = RedisBackend(path=str(server.socket), username="ada", password="secret", prefix="other")
    with pytest.raises(StoreUnavailableError, match="lacks a permission"):
        await other.open()


async def test_schema_versions(store: RedisBackend, ask: Ask, redis: RedisServer, prefix: str) -> None:
    """A store of a newer version is refused, and so are keys of another program."""
    assert await ask("GET", ":schema") == b"5"
    for there, problem in (("6", "schema version 6, but .* up to 5"), ("x", "belong to another program")):
        await ask("SET", ":schema", there)
        with pytest.raises(StoreUnavailableError, match=problem):
            await RedisBackend(path=str(redis.socket), prefix=prefix).open()
    await ask("DEL", ":schema")
    await ask("LPUSH", ":schema", "x")
    with pytest.raises(StoreUnavailableError):
        await RedisBackend(path=str(redis.socket), prefix=prefix).open()


async def test_an_earlier_version_that_is_connected(
    redis: RedisServer, prefix: str, store: RedisBackend, ask: Ask
) -> None:
    """Scripts of schema 1 refuse to write to a migrated store: their engine's values would be lost.

    A run whose keys another program has replaced keeps no other from being migrated.
    """
    for id in ("odd", "run"):
        await store.create(new_run(id))
        await ask("HSET", f":run:{id}", "token", "1")
        await ask("HDEL", f":run:{id}", "fence")
    await ask("DEL", ":data:odd")
    await ask("SET", ":data:odd", "text")
    await ask("RENAME", ":numbers", ":ids")
    await ask("SET", ":schema", "1")

    later = RedisBackend(path=str(redis.socket), prefix=prefix)
    await later.open()
    try:
        assert await ask("HMGET", ":run:run", "token") == [None]  # `commit`, `claim` and `renew` need it
        with pytest.raises(ResponseError, match="WRONGTYPE"):  # `create`, `put_signal` and all lists need it
            await ask("HGET", ":ids", "run")
        assert await later.load("run") == new_run()
        await later.commit(step(1))
        assert [run.run_id for run in await later.runs(RunFilter())] == ["run", "odd"]
        with pytest.raises(StoreError):
            await later.load("odd")
    finally:
        await later.close()


async def test_signals_to_a_wait_of_an_earlier_version(
    redis: RedisServer, prefix: str, store: RedisBackend, ask: Ask
) -> None:
    """Their ids had the wait's seq. They keep their place; those of the engine's own keep their ids."""
    await store.create(new_run())
    for run_id in ("run", "unborn"):
        for id in ("first", "\0wait 3 é:\0", "\0wait 3 gone", "\0wait x y", "plain"):
            await store.put_signal(run_id, Signal(id, "go", id.encode()))
        await store.put_signal(run_id, Signal("\0wait 3 own", "go", own=True))
    await store.commit(step(1, consumed=["first", "\0wait 3 gone", "plain"]))
    await ask("SET", ":schema", "4")

    later = RedisBackend(path=str(redis.socket), prefix=prefix)
    await later.open()
    await later.put_signal("run", Signal("gone", "go", to=3))
    moved = Signal("é:\0", "go", "\0wait 3 é:\0".encode(), to=3)
    own, odd = Signal("\0wait 3 own", "go", own=True), Signal("\0wait x y", "go", b"\0wait x y")
    found = await later.signals("run")
    assert list(found.waiting) == [moved, odd, own]
    assert (sorted(found.consumed), list(found.answered)) == (["first", "plain"], [(3, "gone")])
    assert await later.next_signal("run", "go") == moved
    await later.commit(step(2, answered=[(3, "é:\0")]))
    assert await later.next_signal("run", "go") == odd
    assert [each.key for each in (await later.signals("unborn")).waiting] == [
        (False, None, "first"), (False, 3, "é:\0"), (False, 3, "gone"), odd.key, (False, None, "plain"), own.key
    ]  # fmt: skip
    await later.close()


async def test_opening_and_closing(redis: RedisServer, prefix: str) -> None:
    """A store can be opened twice, also at once; before and after it is open, errors say what is wrong."""
    store = RedisBackend(path=str(redis.socket), prefix=prefix)
    with pytest.raises(StoreUnavailableError, match="not open"):
        await store.load("run")
    await asyncio.gather(store.open(), store.open())
    await store.open()
    await asyncio.gather(store.close(), store.close())
    with pytest.raises(StoreUnavailableError, match="was closed; make a new backend"):
        await store.open()
    for arguments in ({"path": "/nowhere/s"}, {"port": 1, "host": "127.0.0.1"}, {"path": str(redis.socket), "db": 99}):
        with pytest.raises(StoreUnavailableError):
            await RedisBackend(**arguments).open()


async def test_another_event_loop(store: RedisBackend) -> None:
    """A store serves the event loop that opened it, and refuses others."""

    async def elsewhere() -> None:
        with pytest.raises(StoreUnavailableError, match="another event loop"):
            await store.load("run")

    await asyncio.to_thread(asyncio.run, elsewhere())
    assert await store.load("run") is None


async def test_loading(a_server: Start, caplog: pytest.LogCaptureFixture) -> None:
    """`open` waits for a server that loads its data."""
    server = a_server("--key-load-delay", "0")
    store = RedisBackend(path=str(server.socket))
    await store.open()
    await store.create(new_run())
    for seq in range(1, 400):
        await store.commit(step(seq))
    server.kill()
    server.options = ("--key-load-delay", "500", "--loading-process-events-interval-bytes", "1024")
    begun = asyncio.ensure_future(asyncio.to_thread(server.start))
    await store.commit(step(400))
    await begun

    assert (await loaded(store)).seq == 400
    await store.close()


def make_certificate(key: Path, certificate: Path) -> None:
    """Create a self-signed certificate for this machine."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True,
    )  # fmt: skip


async def test_tls(a_server: Start, tmp_path: Path) -> None:
    """With `rediss`, the connection is encrypted, and the server's certificate is verified."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make_certificate(key, certificate)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = a_server(
        "--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-auth-clients",
        "no", "--bind", "127.0.0.1",
    )  # fmt: skip
    store = RedisBackend("localhost", port, tls=True, ssl_ca_certs=str(certificate))
    await store.open()
    await store.create(new_run())
    await store.commit(step(1, changed={"a": bytes(1_000_000)}))
    assert (await loaded(store)).seq == 1
    await store.close()
    assert server.cli("get", "{cano}:schema") == "5"

    with pytest.raises(StoreUnavailableError, match="certificate verify failed"):
        await RedisBackend("localhost", port, tls=True).open()
