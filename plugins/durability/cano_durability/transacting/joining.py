"""The store as it is in the open transaction of a user's connection, whatever library the connection belongs to."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any, cast

from cano_durability.inspection.promises import require

if TYPE_CHECKING:
    from cano import JoiningStore, StoreBackend
    from cano.engine.ports import Host


async def joined(kernel: Host, connection: Any) -> StoreBackend:
    """Return the kernel's store in the transaction of a connection: only the methods of `JoinedStore`.

    Raises:
        ConfigurationError: the store joins no transactions; or as `JoiningStore.joined`.
    """
    require(kernel, "connections")
    store = cast("JoiningStore", kernel.backend)
    return cast("StoreBackend", await store.joined(await _of_driver(connection)))


async def _of_driver(connection: Any) -> Any:
    """Return the driver's connection of SQLAlchemy's sessions and connections; any other object as it is.

    SQLAlchemy then knows that a transaction has begun, so that its `commit` commits. It is not imported here.
    """
    if hasattr(connection, "sync_session") or (hasattr(connection, "get_bind") and hasattr(connection, "connection")):
        connection = connection.connection()  # of a session, also an asynchronous or scoped one
        if isawaitable(connection):
            connection = await connection
    if hasattr(connection, "exec_driver_sql"):
        if not connection.in_transaction():
            begun = connection.begin()
            if isawaitable(begun):
                await begun
        if hasattr(connection, "get_raw_connection"):
            connection = await connection.get_raw_connection()
        else:
            connection = connection.connection
    return getattr(connection, "driver_connection", connection)
