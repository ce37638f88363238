"""Opens a connection: checks the server and its durability, and loads the scripts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from cano import StoreUnavailableError
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from cano_redis import scripts
from cano_redis.failures import refusal
from cano_redis.migration import SCHEMA
from cano_redis.packing import ask
from cano_redis.settings import REQUIRE, Durability, Settings

OLDEST = (6, 2)


class Server(NamedTuple):
    """A connected server.

    Attributes:
        run: the server's run id, which changes with each start.
        client: the connection's id.
        durability: when it writes a commit to disk.
        evicts: its eviction policy if that would drop runs, or None.
        schema: the version of the store's keys.
    """

    run: str
    client: int
    durability: Durability
    evicts: str | None
    schema: int = SCHEMA


def connection_to(settings: Settings) -> AbstractConnection:
    """Return a connection that is not open. It does not retry, since only the caller knows whether that is safe."""
    given: dict[str, Any] = {
        "db": settings.db, "username": settings.username, "password": settings.password, "client_name": "cano",
        "protocol": 2, "driver_info": None, "socket_timeout": None, "socket_connect_timeout": settings.timeout,
    }  # fmt: skip
    if settings.path is not None:
        return UnixDomainSocketConnection(path=settings.path, **given)
    given |= {"host": settings.host, "port": settings.port}
    if not settings.tls:
        return Connection(**given)
    files = {name: getattr(settings, name) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    return SSLConnection(**given, **files)


async def greet(connection: AbstractConnection, settings: Settings, before: Server | None) -> Server:
    """Check the server of a new connection, and load the scripts.

    Args:
        connection: the open connection.
        settings: the store's settings.
        before: the server of the connection that this one replaces. The server closes that connection, so that it
            executes nothing that it has not executed yet.

    Raises:
        StoreUnavailableError: the server cannot be used, or is less durable than required.
    """
    told = _pairs(await ask(connection, "INFO"))
    if told.get("loading", "0") != "0":
        raise RedisConnectionError("it is still loading its data")
    _check(told, settings)
    client = int(await ask(connection, "CLIENT", "ID"))
    server = Server(told.get("run_id", ""), client, await _durability(connection, told), _evicts(told))
    if before is not None and before.run == server.run:
        await _try(connection, "CLIENT", "KILL", "ID", before.client)
    if server.durability not in REQUIRE[settings.require]:
        raise StoreUnavailableError(
            f"the store {settings.place} cannot be used: it requires appendfsync {settings.require}, but the server "
            f"has {_described(server.durability)}; change its appendonly and appendfsync, or require less"
        )
    await load_scripts(connection)
    return server._replace(schema=await _schema(connection, settings))


async def load_scripts(connection: AbstractConnection) -> None:
    """Load the scripts into the server, which discards them when it restarts, and on SCRIPT FLUSH."""
    for script in scripts.ALL:
        await connection.send_command("SCRIPT", "LOAD", script.text, check_health=False)
    for _ in scripts.ALL:
        await connection.read_response(disable_decoding=True)


def warnings(server: Server, settings: Settings) -> Sequence[str]:
    """Return warnings about the server for the log."""
    found = []
    if server.durability is not Durability.ALWAYS:
        found.append(
            f"the store {settings.place}: the server has {_described(server.durability)}. Commits survive this "
            "process, but a crash of the server may undo the last ones; the README of cano-redis says how many"
        )
    if server.evicts is not None:
        found.append(
            f"the store {settings.place}: the server's maxmemory-policy is {server.evicts}. With a maxmemory, it drops "
            "runs; set maxmemory-policy noeviction"
        )
    return found


def _described(durability: Durability) -> str:
    if durability is Durability.NONE:
        return "no append-only file (appendonly no)"
    if durability is Durability.UNKNOWN:
        return "an append-only file, but does not report its appendfsync"
    return f"appendfsync {durability.value}"


def _check(told: dict[str, str], settings: Settings) -> None:
    version = told.get("redis_version", "")
    digits = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if digits < OLDEST:
        raise StoreUnavailableError(
            f"the store {settings.place} cannot be used: its server is Redis {version}, but 6.2 or later is needed"
        )
    if told.get("role", "master") != "master":
        raise StoreUnavailableError(
            f"the store {settings.place} cannot be used: it is a replica; name its primary server"
        )
    if _evicts(told) and told.get("maxmemory", "0") != "0":
        raise StoreUnavailableError(
            f"the store {settings.place} cannot be used: with its maxmemory-policy {told['maxmemory_policy']} the "
            "server would drop runs when its memory is full; set maxmemory-policy noeviction"
        )


def _evicts(told: dict[str, str]) -> str | None:
    policy = told.get("maxmemory_policy", "noeviction")
    return policy if policy.startswith("allkeys") else None  # other policies drop only keys that expire


async def _durability(connection: AbstractConnection, told: dict[str, str]) -> Durability:
    if told.get("aof_enabled", "0") != "1":
        return Durability.NONE
    answer = await _try(connection, "CONFIG", "GET", "appendfsync")
    try:
        return Durability(answer[1].decode())
    except (TypeError, IndexError, ValueError):
        return Durability.UNKNOWN  # the user may not call CONFIG


async def _schema(connection: AbstractConnection, settings: Settings) -> int:
    """Return the version of the store's keys; that of a new store is the newest one."""
    key = settings.keys + b"schema"
    try:
        there = await ask(connection, "EVALSHA", scripts.OPEN.sha, 1, key, settings.keys, SCHEMA)
    except ResponseError as error:
        raise refusal(error, settings.place, None) from error
    if not there.isdigit():
        raise StoreUnavailableError(
            f"the store {settings.place} cannot be used: its keys belong to another program; choose another prefix"
        )
    if int(there) > SCHEMA:
        raise StoreUnavailableError(
            f"the store {settings.place} has schema version {int(there)}, but this cano-redis supports versions up to "
            f"{SCHEMA}; install the newer cano-redis that wrote it"
        )
    return int(there)


async def _try(connection: AbstractConnection, *command: Any) -> Any:
    """Send a command that the user may not be allowed, and return its answer, or None."""
    try:
        return await ask(connection, *command)
    except ResponseError:
        return None


def _pairs(info: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}
