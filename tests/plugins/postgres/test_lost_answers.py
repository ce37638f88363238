"""Connections that break after a call was sent and before its answer came: the call is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from cano import Signal, StoreUnavailableError
from cano.testing import LostAnswersContract, Relay
from cano.testing.contract_base import loaded, new_run, note, step
from cano_postgres import PostgresBackend, writer

from tests.plugins.postgres.relay import SOCKET, place_of, relay_to
from tests.servers.postgres import PostgresServer

_numbers = count(1)


class TestLostAnswers(LostAnswersContract):
    """The contract of lost answers, through a relay."""

    @pytest.fixture(autouse=True)
    def _server(self, postgres: PostgresServer, database: str) -> None:
        self.server, self.database = postgres, database

    def make_url(self, tmp_path: Path) -> str:
        """A schema of its own."""
        return self.server.url(self.database, schema=f"lost{next(_numbers)}")

    @asynccontextmanager
    async def relayed(self, url: str) -> AsyncIterator[tuple[str, Relay]]:
        """The same schema, by the relay's socket."""
        async with relay_to(self.server).listening(SOCKET) as relay:
            schema = url.partition("schema=")[2]
            yield f"postgresql:///{self.database}?host={place_of(relay)}&user=cano&schema={schema}", relay


async def test_a_call_that_was_cancelled_is_not_repeated(
    store: PostgresBackend, remote: PostgresBackend, between: Relay
) -> None:
    """A caller that is cancelled without a connection is released at once, and nothing is done later."""
    await store.create(new_run())
    await remote.load("run")
    between.lose = True
    made = asyncio.ensure_future(remote.commit(step(1)))
    await between.loss.wait()
    between.hold()
    assert remote._backend is not None
    while remote._backend._writer._connection is not None:
        await store.load("run")  # which takes a turn or two
    late = asyncio.ensure_future(remote.commit(step(2)))
    await asyncio.sleep(0)
    for commit in (made, late):
        commit.cancel()
        with pytest.raises(asyncio.CancelledError):
            await commit
    between.let_go()
    await remote.put_signal("run", Signal("1", "go"))

    assert (await loaded(store)).seq == 1


async def test_a_server_that_falls_silent(
    store: PostgresBackend, between: Relay, database: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the server does not answer, the call fails, and is done before its error or never."""
    monkeypatch.setattr(writer, "ANSWER_WITHIN", 0.2)
    url = f"postgresql:///{database}?host={place_of(between)}&user=cano&connect_timeout=2"
    remote = PostgresBackend(url, schema=schema, retry_for=0.2)
    await remote.open()
    await store.create(new_run())
    between.hold()
    with pytest.raises(StoreUnavailableError, match="the call may have been done"):
        await remote.commit(step(1))
    between.let_go()
    await remote.put_signal("run", Signal("1", "go"))
    seq = (await loaded(store)).seq
    await remote.commit(note(seq, changed={"a": b""}))

    assert (await loaded(store)).seq == seq
    await remote.close()
