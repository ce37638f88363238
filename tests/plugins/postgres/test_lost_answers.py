"""Connections that break after a call was sent and before its answer came: the call is done once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import pytest
from cano import RunStatus, Signal, StoreUnavailableError, Wait
from cano.testing import LostAnswersContract, Relay
from cano.testing.contract_base import LATER, NOW, free_run, loaded, new_run, note, step
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


async def test_a_claim_of_many_whose_answer_is_lost_is_made_once(postgres: PostgresServer, database: str) -> None:
    """The claimed runs are returned all the same, each claimed once."""
    schema = f"lost{next(_numbers)}"
    near = PostgresBackend(postgres.url(database), schema=schema)
    await near.open()
    runs = [free_run("a"), free_run("b"), free_run("c", status=RunStatus.PARKED, wait=Wait("B", until=NOW))]
    for run in runs:
        await near.create(run)
    async with relay_to(postgres).listening(SOCKET) as relay:
        url = f"postgresql:///{database}?host={place_of(relay)}&user=cano"
        far = PostgresBackend(url, schema=schema)
        await far.open()
        relay.lose = True
        claimed = await far.claim_ready([(runs[0].workflow, runs[0].version, runs[0].fingerprint)], 9, "me", NOW, LATER)

        assert relay.lost == 1
        assert sorted((each.run_id, each.token) for each in claimed) == [("a", 1), ("b", 1), ("c", 1)]
        for run in runs:
            assert await loaded(near, run.run_id) == run._replace(holder="me", expires=LATER, token=1)
        await far.close()
    await near.close()
