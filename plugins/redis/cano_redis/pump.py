"""The one connection for all calls. Calls that arrive while the server is busy are sent together.

If the connection fails, the server may or may not have executed the sent calls. The pump reconnects, tells the server
to close the old connection, and sends them again; the scripts recognise the calls that they have executed.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from cano import StoreError, StoreUnavailableError
from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import AuthenticationError, AuthorizationError, NoScriptError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from cano_redis.failures import TRY_AGAIN, code, lost, refusal
from cano_redis.migration import SCHEMA, migrate
from cano_redis.scripts import RENEW, Script
from cano_redis.server import Server, connection_to, greet, load_scripts
from cano_redis.settings import Settings

MOST_CALLS = 500
MOST_BYTES = 8 * 1024 * 1024
"""The approximate size of a batch."""

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 1.0

_AWAY = (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError)
"""Errors of a server that is missing or not ready. Builtin ones come from sockets and timeouts."""


class Call:
    """One call and its waiting caller.

    Attributes:
        command: the bytes to send.
        run_id: the run. Two calls for one run are never sent together.
        future: the caller waits for it.
        sent: whether it was sent on the present connection.
        over: whether it has its result.
        abandoned: whether its caller was cancelled.
    """

    __slots__ = ("abandoned", "command", "future", "over", "run_id", "sent")

    def __init__(self, command: bytes, run_id: str | None, future: asyncio.Future[Any]) -> None:
        self.command = command
        self.run_id = run_id
        self.future = future
        self.sent = self.over = self.abandoned = False

    def settle(self, answer: Any, error: Exception | None = None) -> None:
        """Return the answer to the caller, or raise the error in it."""
        self.sent, self.over = False, True
        if self.future.done():
            return
        if error is None or self.abandoned:
            self.future.set_result(answer)
        else:
            self.future.set_exception(error)


class Pump:
    """The connection of an open store, and the task that owns it."""

    def __init__(self, settings: Settings, found: Callable[[Server], None], closed: str) -> None:
        self._settings = settings
        self._found = found
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[Call] = deque()
        self._batch: list[Call] = []
        self._connection: AbstractConnection | None = None
        self._before: Server | None = None
        self._idle: asyncio.Future[None] | None = None
        self._ending = asyncio.Event()
        self._since: float | None = None
        self._pause = FIRST_PAUSE
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect. Wait for a server that loads its data; fail at once if it refuses or is missing."""
        while True:
            try:
                await self._connect()
                break
            except _AWAY as error:
                starting = "loading its data" in str(error) or code(error) == "LOADING"
                if not starting or not await self._wait_a_little():
                    raise lost(error, self._settings.place, "", None) from error
        self._since = None
        self._task = self._loop.create_task(self._live(), name="cano-redis")

    async def do(self, script: Script, key: bytes, arguments: Sequence[bytes], run_id: str | None = None) -> Any:
        """Run `script` on the server, and return its answer. A renewal is sent before all other calls that wait.

        Cancellation: the call is withdrawn, or it is completed before the cancellation is raised; never later. If the
        connection fails meanwhile, either may be the case, and later calls come after it.
        """
        if self._ending.is_set() or self._loop is not asyncio.get_running_loop():
            raise StoreUnavailableError(self._closed if self._ending.is_set() else self._foreign(), run_id=run_id)
        words: Any = (b"EVALSHA", script.sha, b"1", key, *arguments)  # hiredis's types lack tuples of any length
        command = pack_command(words)
        call = Call(command, run_id, self._loop.create_future())
        (self._waiting.appendleft if script is RENEW else self._waiting.append)(call)
        idle = self._idle
        if idle is not None and not idle.done():
            idle.set_result(None)
        try:
            return await call.future
        except asyncio.CancelledError:
            await self._withdraw(call)
            raise

    async def close(self) -> None:
        """Finish the calls, and disconnect."""
        self._ending.set()
        if self._task is None or self._loop.is_closed():
            return
        if self._loop is not asyncio.get_running_loop():
            raise StoreUnavailableError(self._foreign())
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        await asyncio.shield(self._task)

    async def _withdraw(self, call: Call) -> None:
        call.abandoned = True
        while call.sent:
            call.future = self._loop.create_future()
            with suppress(asyncio.CancelledError):  # the caller is cancelled already
                await asyncio.wait((call.future,))
        if call.future.done() and not call.future.cancelled():
            call.future.exception()  # so that asyncio does not report it as never retrieved

    def _foreign(self) -> str:
        return f"the store {self._settings.place} was opened in another event loop; open a backend in each"

    # in the task

    async def _live(self) -> None:
        try:
            while True:
                self._batch = self._take()
                if self._batch:
                    await self._carry_out()
                elif self._ending.is_set():
                    return
                else:
                    self._idle = self._loop.create_future()
                    await self._idle
        finally:
            self._ending.set()
            self._fail(StoreUnavailableError(self._closed))
            await self._drop()

    def _take(self) -> list[Call]:
        """Take the next batch: one call for each run, so that a run's calls keep their order even if one is refused."""
        batch: list[Call] = []
        later: list[Call] = []
        runs: set[str | None] = set()
        waiting, size = self._waiting, 0
        while waiting and len(batch) < MOST_CALLS and size < MOST_BYTES:
            call = waiting.popleft()
            if call.abandoned:
                continue
            if call.run_id in runs:
                later.append(call)
                continue
            if call.run_id is not None:
                runs.add(call.run_id)
            batch.append(call)
            size += len(call.command)
        waiting.extendleft(reversed(later))
        return batch

    async def _carry_out(self) -> None:
        """Send the batch until each of its calls has a result."""
        why: Exception
        while self._batch:
            try:
                if self._connection is None:
                    await self._connect()
                refused = await self._exchange()
                if refused is None:
                    self._since, self._pause = None, FIRST_PAUSE
                    continue
                why = refused
            except StoreError as error:
                self._fail(error)
                return
            except _AWAY as error:
                await self._drop()
                why = lost(error, self._settings.place, f" since {self._settings.retry_for:g} seconds", None)
            if self._ending.is_set() or not await self._wait_a_little():
                self._fail(why)

    async def _exchange(self) -> StoreError | None:
        """Send the batch, and settle the answered calls. Keep those refused for now, and return the reason."""
        connection, batch = self._connection, [call for call in self._batch if not call.abandoned]
        assert connection is not None
        self._batch, again, why = batch, [], None
        for call in batch:
            call.sent = True
        limit = self._settings.timeout
        async with asyncio.timeout(limit) as patience:
            await connection.send_packed_command([call.command for call in batch], check_health=False)
            for call in batch:
                try:
                    answer = await connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    problem = refusal(error, self._settings.place, call.run_id)
                    if isinstance(error, NoScriptError) or code(error) in TRY_AGAIN:
                        again.append(call)
                        why = error
                    else:
                        call.settle(None, problem)
                else:
                    call.settle(answer)
                patience.reschedule(self._loop.time() + limit)
            for call in again:
                call.sent = False
            if why is not None and isinstance(why, NoScriptError):
                await load_scripts(connection)
        self._batch = self._wanted(again)
        if why is None:
            return None
        if code(why) == "READONLY":
            await self._drop()  # the name may lead to another server now
        return refusal(why, self._settings.place, None)

    async def _connect(self) -> None:
        settings = self._settings
        connection = connection_to(settings)
        try:
            async with asyncio.timeout(settings.timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it out
                server = await greet(connection, settings, self._before)
            if server.schema < SCHEMA:
                await migrate(connection, settings, server.schema)
        except BaseException as error:
            await connection.disconnect()
            if isinstance(error, RedisConnectionError) and isinstance(error.__cause__, RedisError):
                error = error.__cause__  # on a Unix socket, redis-py wraps what is refused in the handshake
            if isinstance(error, AuthenticationError | AuthorizationError) or (
                isinstance(error, ResponseError) and code(error) not in TRY_AGAIN
            ):
                raise refusal(error, settings.place, None) from error  # type: ignore[arg-type]
            if isinstance(error, RedisError) and not isinstance(error, _AWAY):
                raise RedisConnectionError(str(error)) from error
            raise
        self._connection, self._before = connection, server
        self._found(server)

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        for call in self._batch:
            call.sent = False
        self._batch = self._wanted(self._batch)
        if connection is not None:
            with suppress(*_AWAY):
                await connection.disconnect()

    def _wanted(self, calls: Sequence[Call]) -> list[Call]:
        """Return the calls whose callers wait. Settle the abandoned ones."""
        for call in calls:
            if call.abandoned and not call.over:
                call.settle(None)
        return [call for call in calls if not call.over]

    def _fail(self, error: Exception) -> None:
        """Fail all waiting calls."""
        calls = [*self._batch, *self._waiting]
        self._batch = []
        self._waiting.clear()
        for call in calls:
            if not call.over:
                call.settle(None, _one_more(error, call.run_id))

    async def _wait_a_little(self) -> bool:
        """Wait before the next attempt. Return False if `retry_for` seconds are over."""
        now = self._loop.time()
        if self._since is None:
            self._since, self._pause = now, FIRST_PAUSE
        left = self._since + self._settings.retry_for - now
        if left <= 0:
            self._since = None
            return False
        pause = min(self._pause * random.uniform(0.5, 1), left)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ending.wait(), pause)
        return True


def _one_more(error: Exception, run_id: str | None) -> Exception:
    """Return a copy of the error for one caller, since raising adds a traceback."""
    fresh = type(error)(*error.args)
    fresh.__cause__ = error.__cause__
    if isinstance(fresh, StoreError):
        fresh.run_id = run_id
    return fresh
