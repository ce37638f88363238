"""Connections: how one is made, and what it is told before its first use."""

from __future__ import annotations

from typing import Any, TypeVar

from cano import ConfigurationError, StoreUnavailableError
from psycopg import AsyncConnection, pq, sql

from cano_postgres.settings import OPTIONS, Settings

Connection = AsyncConnection[tuple[Any, ...]]
C = TypeVar("C", bound=Connection)

_DEFAULTS = {
    "fallback_application_name": "cano",
    "connect_timeout": "10",  # seconds
    # a server that vanished from the network is noticed within a minute
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_OLDEST = 120_000

# Every statement that writes finds its rows by an index, and its plan is made once. The server must not decide that:
# what it knows about a table that has just grown is out of date, and a plan that reads all of it would be kept.
_BY_INDEX = tuple(
    sql.SQL(command)
    for command in (
        "SET enable_seqscan TO off",
        "SET enable_hashjoin TO off",
        "SET enable_mergejoin TO off",
        "SET jit TO off",
        "SET plan_cache_mode TO force_generic_plan",
    )
)
_ON_DISK = sql.SQL(
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


def check_parameters(settings: Settings) -> None:
    """Raise ConfigurationError where libpq would not know one of the parameters."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name, value in settings.parameters.items():
        if name not in known:
            what = "***" if "@" in value else name  # the rest of a password with a question mark in it
            raise ConfigurationError(
                f"{OPTIONS.unknown(what)}, and those of PostgreSQL's libpq, such as host, sslmode and connect_timeout"
            )


async def connect(settings: Settings, kind: type[C]) -> C:
    """A connection in which every statement is a transaction of its own, for writing and listening.

    Args:
        settings: the store's.
        kind: the class of it.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses.
    """
    connection = await kind.connect(**keywords(settings))
    try:
        await prepare(connection, settings, sql.SQL("; ").join(_BY_INDEX))
    except BaseException:
        await connection.close()
        raise
    return connection


def keywords(settings: Settings) -> dict[str, Any]:
    """The arguments of `connect`."""
    return {
        **_DEFAULTS,
        **settings.parameters,
        "client_encoding": "utf8",
        "autocommit": True,
        "prepare_threshold": 0,
    }


async def prepare(connection: AsyncConnection[Any], settings: Settings, *more: sql.Composable) -> None:
    """Tell a new connection what it is for, and more."""
    commands: list[sql.Composable] = [
        sql.SQL("SET search_path TO {}").format(sql.Identifier(settings.schema)),
        sql.SQL("SET default_transaction_isolation TO 'read committed'"),
        *more,
    ]
    if settings.synchronous_commit is not None:
        commands.append(sql.SQL("SET synchronous_commit TO {}").format(sql.Literal(settings.synchronous_commit)))
    else:
        commands.append(_ON_DISK)
    await connection.execute(sql.SQL("; ").join(commands), prepare=False)


async def check_server(connection: Connection, label: str) -> None:
    """Raise StoreUnavailableError where the server is one that cannot keep runs."""
    info = connection.info
    if info.server_version < _OLDEST:
        raise StoreUnavailableError(
            f"the store {label} cannot be used: its server is PostgreSQL {info.server_version // 10_000}, "
            f"but {_OLDEST // 10_000} or later is needed"
        )
    if info.parameter_status("server_encoding") != "UTF8":
        raise StoreUnavailableError(
            f"the store {label} cannot be used: its encoding is {info.parameter_status('server_encoding')}; make a "
            "database with the encoding UTF8"
        )
    row = await (
        await connection.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')")
    ).fetchone()
    assert row is not None
    in_recovery, read_only = row
    if in_recovery:
        raise StoreUnavailableError(
            f"the store {label} cannot be used: the server is a replica, which is read-only; name the primary server, "
            "or several of them with target_session_attrs=read-write"
        )
    if read_only == "on":
        raise StoreUnavailableError(
            f"the store {label} cannot be used: it is read-only; set default_transaction_read_only to off for this "
            "user and database"
        )


async def be_the_only_one(connection: Connection, key: int, *, again: bool) -> None:
    """Return when no older connection with this key is there any more, so that nothing it was told is done later.

    Args:
        connection: a new connection, which has the key from now on.
        key: a number that the connections of one backend use, one after the other.
        again: whether there was one before.
    """
    if again:
        await connection.execute(_END_OLDER, {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF})
    await connection.execute("SELECT pg_advisory_lock(%s)", (key,))


_END_OLDER = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid = %(high)s::bigint::oid AND objid = %(low)s::bigint::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid <> pg_backend_pid()"""
