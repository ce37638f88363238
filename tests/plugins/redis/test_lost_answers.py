"""Connections that break after a call was sent and before its answer came: the call is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cano.testing import LostAnswersContract, Relay
from cano.testing.contract_base import loaded, new_run, note, step
from cano_redis import RedisBackend

from tests.plugins.redis.relay import relay_to
from tests.servers.redis import RedisServer
from tests.waiting import until


class TestLostAnswers(LostAnswersContract):
    """The contract of lost answers, through a relay."""

    @pytest.fixture(autouse=True)
    def _server(self, redis: RedisServer) -> None:
        self.server = redis

    def make_url(self, tmp_path: Path) -> str:
        """An unused prefix."""
        return self.server.new_url()

    @asynccontextmanager
    async def relayed(self, url: str) -> AsyncIterator[tuple[str, Relay]]:
        """The same prefix, by the relay's socket."""
        async with relay_to(self.server).listening() as relay:
            yield url.replace(str(self.server.socket), str(relay.address)), relay


@pytest.fixture
async def between(redis: RedisServer) -> AsyncIterator[Relay]:
    """A relay to the server."""
    async with relay_to(redis).listening() as between:
        yield between


async def test_what_is_stuck_on_an_old_connection_is_never_done(
    store: RedisBackend, between: Relay, prefix: str
) -> None:
    """A commit that is stuck on an old connection is applied by the new one, and not again when it arrives late.

    A cancelled one is not applied at all, however late it arrives.
    """
    remote = RedisBackend(path=str(between.address), prefix=prefix, timeout=0.3)
    await remote.open()
    assert remote._backend is not None
    pump = remote._backend._pump
    await store.create(new_run())
    between.hold(new=False)
    await remote.commit(note(0, changed={"a": b"old"}))
    await remote.commit(note(0, changed={"a": b"new"}))
    between.let_go()
    assert (await loaded(store)).data == {"a": b"new"}

    between.hold(new=False)
    commit = asyncio.ensure_future(remote.commit(step(1)))
    await until(lambda: any(call.sent for call in pump._batch))
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    assert (await loaded(remote)).seq == 0
    between.let_go()
    await remote.create(new_run("later"))
    for _ in range(100):
        assert (await loaded(store)).seq == 0
    assert (await loaded(store)).data == {"a": b"new"}
    await remote.close()
