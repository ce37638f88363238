"""Connections: opening and configuring one."""

from __future__ import annotations

from typing import Any, TypeVar

from cano import ConfigurationError, StoreUnavailableError
from psycopg import AsyncConnection, pq, sql

from cano_postgres import arrays
from cano_postgres.settings import OPTIONS, Settings

Connection = AsyncConnection[tuple[Any, ...]]
C = TypeVar("C", bound=Connection)

_DEFAULTS = {
    "fallback_application_name": "cano",
    "connect_timeout": "10",  # seconds
    # detect within a minute that the network lost the server
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_OLDEST = 120_000

# Each statement uses an index, and is planned once. The planner must not decide: its statistics of a table that
# has just grown are out of date, and it would keep a plan that scans the table.
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
# A list reads its index in order. A generic plan does not know the limit, and would rather sort.
_IN_ORDER = (*_BY_INDEX, *(sql.SQL(f"SET {way} TO off") for way in ("enable_bitmapscan", "enable_sort")))
_ON_DISK = sql.SQL(
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


def check_parameters(settings: Settings) -> None:
    """Raise ConfigurationError if libpq does not know a parameter."""
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    for name, value in settings.parameters.items():
        if name not in known:
            what = "***" if "@" in value else name  # it may be the rest of a password with a question mark
            raise ConfigurationError(
                f"{OPTIONS.unknown(what)}, and those of PostgreSQL's libpq, such as host, sslmode and connect_timeout"
            )


async def connect(settings: Settings, kind: type[C]) -> C:
    """Return a connection in autocommit mode, for writing and listening.

    Args:
        settings: the store's settings.
        kind: the class of the connection.

    Raises:
        psycopg.Error: the server cannot be reached, or refuses the connection.
    """
    connection = await kind.connect(**keywords(settings))
    try:
        await prepare(connection, settings, sql.SQL("; ").join(_BY_INDEX))
    except BaseException:
        await connection.close()
        raise
    return connection


def keywords(settings: Settings) -> dict[str, Any]:
    """Return the arguments of psycopg's `connect`."""
    return {
        **_DEFAULTS,
        **settings.parameters,
        "client_encoding": "utf8",
        "autocommit": True,
        "prepare_threshold": 0,
    }


async def prepare_reader(connection: AsyncConnection[Any], settings: Settings) -> None:
    """Configure a new connection for reading."""
    await prepare(connection, settings, sql.SQL("; ").join(_IN_ORDER))


async def prepare(connection: AsyncConnection[Any], settings: Settings, *more: sql.Composable) -> None:
    """Configure a new connection, and execute `more` commands."""
    arrays.accept(connection.adapters)
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
    """Raise StoreUnavailableError if the server cannot keep runs."""
    info = connection.info
    if info.server_version < _OLDEST:
        raise StoreUnavailableError(
            f"the store {label} cannot be used: its server is PostgreSQL {info.server_version // 10_000}, "
            f"but {_OLDEST // 10_000} or later is needed"
        )
    if info.parameter_status("server_encoding") != "UTF8":
        raise StoreUnavailableError(
            f"the store {label} cannot be used: its encoding is {info.parameter_status('server_encoding')}; create a "
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
    """End older connections with this key, and wait until they have ended: they must execute nothing later.

    Args:
        connection: the new connection. It holds the key from now on.
        key: the number that successive connections of one backend share.
        again: whether there was an older connection.
    """
    if again:
        await connection.execute(_END_OLDER, {"high": (key >> 32) & 0xFFFFFFFF, "low": key & 0xFFFFFFFF})
    await connection.execute("SELECT pg_advisory_lock(%s)", (key,))


_END_OLDER = """
    SELECT pg_terminate_backend(pid) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid = %(high)s::bigint::oid AND objid = %(low)s::bigint::oid
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND pid <> pg_backend_pid()"""
