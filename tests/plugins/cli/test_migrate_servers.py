"""From a file through servers into a file again: the last store's runs equal the first's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cano.testing.contract_base import installed_backend
from cano_memory import MemoryBackend
from click.testing import Result
from hypothesis import given, settings

from tests.plugins.cli.stored import do, stored_at
from tests.plugins.cli.test_migrate_random import ACTIONS, Ticking, check_equal, copied, play
from tests.plugins.cli.test_migrate_store import fill, stop_in_pay
from tests.servers.postgres import PostgresServer
from tests.servers.redis import RedisServer

Cano = Callable[..., Result]

SRC, DST = "sqlite:///runs.db", "sqlite:///new.db"


@pytest.mark.usefixtures("store")
def test_through_servers_and_back(cano: Cano, project: Path, postgres: PostgresServer, redis: RedisServer) -> None:
    """Nothing is lost on a long way, and a waiting run still goes on at its end."""
    do(SRC, lambda store: fill(store, runs=12, steps=15))
    stop_in_pay(cano, project, "waits", "--data", "wait=1")
    cano("recover", "shop")
    stop_in_pay(cano, project, "stopped")
    before = stored_at(SRC)
    way = [SRC, postgres.new_url(), redis.new_url(), DST]

    for source, target in pairwise(way):
        copied = json.loads(cano("migrate-store", source, target, "--json").stdout)
        again = json.loads(cano("migrate-store", source, target, "--json").stdout)
        assert (copied["copied"], copied["signals"]) == (14, 12)
        assert (again["copied"], again["updated"], again["up_to_date"], again["signals"]) == (0, 0, 14, 0)
        assert stored_at(target) == before

    assert cano("signal", "waits", "approved", '"Ada"', "--store", DST).exit_code == 0
    recovered = cano("recover", "shop", "--store", DST).stdout
    assert sorted(recovered.splitlines()) == [
        "run stopped of shop succeeded in shipped after 3 steps",
        "run waits of shop succeeded in shipped after 3 steps",
    ]


@pytest.mark.usefixtures("store")
def test_queued_runs_keep_their_places(cano: Cano, postgres: PostgresServer, redis: RedisServer) -> None:
    """In each copy they wait in their queues, in the same order; a store without queues gets none of those in one."""
    places = [("a1", 0, "a"), ("a2", 0, "a"), ("b1", 0, "b"), ("a3", 0, "a"), ("first", 7, ""), ("last", -1, "b")]
    for run_id, priority, key in places:
        cano("submit", "shop", "--id", run_id, "--queue", "mail", f"--priority={priority}", "--key", key)
    cano("submit", "shop", "--id", "plain")
    cano("submit", "shop", "--id", "delayed", "--queue", "mail", "--delay", "1h")
    before = stored_at(SRC)
    for source, target in pairwise([SRC, postgres.new_url(), DST]):
        copied = json.loads(cano("migrate-store", source, target, "--json").stdout)
        assert (copied["copied"], copied["refused"]) == (8, [])
        assert stored_at(target) == before
    tally = json.loads(cano("migrate-store", SRC, redis.new_url(), "--json").stdout)
    assert (tally["copied"], len(tally["refused"])) == (1, 7)
    assert json.dumps(tally).count("it is in the queue 'mail', and DST has no `queues`") == 7

    async def begin(store: Any) -> None:
        record = await store.load("a1")
        definition = record.workflow, record.version, record.fingerprint
        assert await store.queue_sizes([definition], 99) == {"mail": 6, "default": 1}
        order = list[str]()
        for at in [record.created] * 6 + [record.created + 2 * 3600] * 2:
            order += [each.run_id for each in await store.claim_ready([definition], 1, "me", at, at + 9, (), ["mail"])]
        assert order == ["first", "a1", "b1", "a2", "a3", "last", "delayed"]

    do(DST, begin)


@pytest.mark.usefixtures("store")
def test_looking_makes_no_tables(cano: Cano, postgres: PostgresServer) -> None:
    """Neither a list of the runs in an empty database nor a trial of a copy into it makes anything there."""
    do(SRC, lambda store: fill(store, runs=3, steps=5))
    url = postgres.new_url()
    looked = cano("runs", "--store", url)
    tried = json.loads(cano("migrate-store", SRC, url, "--dry-run", "--json").stdout)

    assert looked.exit_code == 2
    assert looked.stderr.startswith("Error: the store '")
    assert tried["copied"] == 3
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT to_regnamespace('cano')").fetchone() == (None,)


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_any_history_is_copied(server: str, request: pytest.FixtureRequest) -> None:
    """What a server makes of a random history is what a store in memory has; also when that has moved on."""
    place: PostgresServer | RedisServer = request.getfixturevalue(server)

    @given(ACTIONS, ACTIONS)
    @settings(deadline=None, max_examples=25)
    def check(first: list[Any], then: list[Any]) -> None:
        async def work() -> None:
            clock, source, target = Ticking(), MemoryBackend(strict=True), installed_backend(place.new_url())
            await target.open()
            try:
                for actions in (first, then):
                    await play(source, actions, clock)
                    tally = await copied(source, target, clock)
                    assert tally.problems == []
                    await check_equal(source, target, clock)
            finally:
                await target.close()

        asyncio.run(work())

    check()
