"""Which calls are sent together and in what order, and what happens to them and to waiting callers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from cano import (
    Appended,
    Commit,
    ConflictError,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    Signal,
    StoreUnavailableError,
)
from cano.testing.contract_base import LATER, NOW, free_run, loaded, new_run, note, step
from cano_msgspec import MsgspecCodec
from cano_redis import RedisBackend, reading, scripts
from cano_redis.engine import PAGE
from cano_redis.packing import unpack_line
from cano_redis.pump import Pump

from tests.plugins.history_pages import check_pages_are_read_alone
from tests.plugins.redis.conftest import Ask
from tests.plugins.renewals import with_a_renewal
from tests.plugins.stale_commits import check_refusals
from tests.waiting import until


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of calls in each batch."""
    sizes: list[int] = []
    original = Pump._take

    def spied(self: Pump) -> Any:
        batch = original(self)
        if batch:
            sizes.append(len(batch))
        return batch

    monkeypatch.setattr(Pump, "_take", spied)
    return sizes


async def test_an_earlier_version_that_is_connected(store: RedisBackend, ask: Ask) -> None:
    """A process that knows no parts reads no value in their place; what it sets instead is the value."""
    await store.create(new_run(data={"log": b"0"}))
    await store.commit(step(1, changed={"log": Appended((b"1",))}))
    with pytest.raises(SerializationError, match="corrupt"):
        MsgspecCodec().decode(await ask("HGET", ":data:run", "log"))

    await ask("HSET", ":data:run", "log", "2")
    assert (await loaded(store)).data == {"log": b"2"}
    await store.commit(step(2, changed={"log": Appended((b"3",))}))
    assert (await loaded(store)).data == {"log": Appended((b"2", b"3"))}
    assert await ask("EXISTS", ":parted:run", ":parts3:runlog") == 2
    await store.commit(step(3, removed=["log"]))
    assert await ask("EXISTS", ":parted:run", ":parts3:runlog") == 0
    await store.commit(step(4, changed={"log": Appended((b"4",))}))
    await store.delete("run")
    assert await ask("EXISTS", ":parted:run", ":parts3:runlog") == 0


async def test_of_many_commits_only_the_stale_are_refused(store: RedisBackend) -> None:
    """Of commits that are made together, each stale one gets its own error, and all others are applied."""
    await check_refusals(store)


async def make(store: RedisBackend, count: int) -> list[str]:
    """Create runs, and return their ids."""
    ids = [f"run {number}" for number in range(count)]
    await asyncio.gather(*(store.create(new_run(run_id)) for run_id in ids))
    return ids


async def test_concurrent_commits_go_out_together(store: RedisBackend, batches: list[int]) -> None:
    """Calls that arrive at once, or while the server is busy, share a round trip."""
    ids = await make(store, 100)
    batches.clear()
    first = asyncio.ensure_future(store.commit(step(1, ids[0])))
    await until(lambda: bool(batches))
    await asyncio.gather(first, *(store.commit(step(1, run_id)) for run_id in ids[1:]))

    assert batches == [1, 99]
    assert [(await loaded(store, run_id)).seq for run_id in ids] == [1] * 100


async def test_a_trip_has_an_end(store: RedisBackend, batches: list[int]) -> None:
    """A batch has a limited number of calls and bytes; the rest goes into the next one."""
    ids = await make(store, 1200)
    batches.clear()
    await asyncio.gather(*(store.commit(step(1, run_id)) for run_id in ids))
    assert batches == [500, 500, 200]

    batches.clear()
    large = {"a": bytes(1_500_000)}
    await asyncio.gather(*(store.commit(step(2, run_id, changed=large)) for run_id in ids[:7]))
    assert batches == [3, 3, 1]
    assert [(await loaded(store, run_id)).data for run_id in ids[:7]] == [large] * 7


async def test_a_refusal_concerns_nobody_else(store: RedisBackend, batches: list[int]) -> None:
    """Of the commits of a batch, the stale ones are refused and all others applied."""
    ids = await make(store, 20)
    batches.clear()
    answers = await asyncio.gather(
        *(store.commit(step(1 + (n % 7 == 3), ids[n], changed={"a": b"1"})) for n in range(20)), return_exceptions=True
    )

    assert batches == [20]
    for number, (run_id, answer) in enumerate(zip(ids, answers, strict=True)):
        stale = number % 7 == 3
        assert isinstance(answer, ConflictError) if stale else answer is None
        assert (await loaded(store, run_id)).seq == (0 if stale else 1)
        assert len(await store.history(run_id)) == (1 if stale else 2)


async def test_calls_happen_in_their_order(store: RedisBackend) -> None:
    """Calls of different kinds, and several for one run, take effect in their order."""
    await store.create(new_run())
    answers = await asyncio.gather(
        store.commit(step(1)),
        store.commit(step(2, changed={"a": b"2"})),
        store.load("run"),
        store.release("run", 1),
        store.claim("run", "another", NOW, LATER),
        store.commit(step(3)),
        store.commit(step(3, token=2, changed={"b": b"3"})),
        store.create(new_run("other")),
        store.commit(step(1, "other")),
        store.create(new_run()),
        store.delete("other"),
        store.commit(step(2, "other")),
        store.put_signal("run", Signal("1", "go")),
        store.commit(note(3, token=2, consumed=["1"])),
        return_exceptions=True,
    )

    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [ConflictError] * 2
    assert (answers[2].seq, answers[4], answers[9].seq, answers[10]) == (2, 2, 3, True)  # type: ignore[union-attr]
    run = await loaded(store)
    assert (run.seq, run.token, run.holder, run.data) == (3, 2, "another", {"a": b"2", "b": b"3"})
    assert await store.load("other") is None
    assert await store.next_signal("run", "go") is None


async def test_a_cancelled_call_that_waits_is_taken_back(store: RedisBackend) -> None:
    """A commit that is cancelled before it is sent is cancelled at once, and never applied."""
    await make(store, 2)
    calls = [store.commit(step(1, "run 0")), store.commit(step(2, "run 0")), store.commit(step(1, "run 1"))]
    commits = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(0)
    commits[1].cancel()  # it waits for the first one's answer
    await asyncio.gather(*commits, return_exceptions=True)

    assert [commit.cancelled() for commit in commits] == [False, True, False]
    assert [(await loaded(store, run_id)).seq for run_id in ("run 0", "run 1")] == [1, 1]


async def test_a_cancelled_call_that_is_under_way_is_awaited(store: RedisBackend, batches: list[int]) -> None:
    """A commit that is cancelled after it was sent, even twice, completes before the cancellation is raised."""
    for number in range(20):
        run_id = f"run {number}"
        await store.create(new_run(run_id))
        batches.clear()
        commit = asyncio.ensure_future(store.commit(step(1, run_id)))
        await until(lambda: bool(batches))
        await asyncio.sleep(0)
        if commit.done():
            continue
        commit.cancel()
        await asyncio.sleep(0)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)

        assert (await loaded(store, run_id)).seq == 1
    assert await store.load("never") is None


async def test_a_cancelled_call_that_was_refused_is_silent(
    store: RedisBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The error of a call whose caller was cancelled is not reported."""
    await store.create(new_run())
    for turns in range(12):
        commit = asyncio.ensure_future(store.commit(step(9)))
        for _ in range(turns):
            await asyncio.sleep(0)
        commit.cancel()
        await asyncio.gather(commit, return_exceptions=True)
        del commit

    assert (await loaded(store)).seq == 0
    assert caplog.records == []


@pytest.mark.parametrize(
    "fields", [{"changed": {"a": "text"}}, {"changed": {"a": 1}}, {"changed": {"a": None}}, {"changed": {1: b""}},
               {"changed": {"\ud800": b""}}, {"removed": ["\ud800"]}, {"payload": "text"}, {"error": {"a": object()}},
               {"error": {"a": (1, 2)}}, {"error": {"a": 2**70}}, {"error": {1: "a"}}, {"state": "\ud800"},
               {"state": None}, {"seq": 2**60}, {"token": -1}, {"token": "1"}, {"at": "now"}, {"at": float("nan")}],
)  # fmt: skip
async def test_what_cannot_be_kept(store: RedisBackend, fields: dict[str, Any]) -> None:
    """Values that would change are refused with an error that names the run; nothing is written."""
    await store.create(new_run())
    with pytest.raises(SerializationError, match="'run' contains a value that cannot be stored") as caught:
        await store.commit(step(1)._replace(**fields))
    assert caught.value.run_id == "run"
    assert await loaded(store) == new_run()

    given = {{"changed": "data", "at": "created"}.get(name, name): x for name, x in fields.items()}
    if "removed" not in given:
        with pytest.raises(SerializationError):
            await store.create(new_run("other")._replace(**given))
        assert await store.load("other") is None
    with pytest.raises(SerializationError):
        await store.put_signal("run", Signal("1", "go", 5))
    with pytest.raises(SerializationError):
        await store.load("\ud800")


async def test_many_keys(store: RedisBackend) -> None:
    """A commit can change and remove any number of keys, and keeps their order."""
    data = {f"key {number}": b"%d" % number for number in range(5000)}
    await store.create(new_run(data=data))
    more = {f"more {number}": b"" for number in range(12_345)}
    gone = [f"key {number}" for number in range(0, 5000, 2)]
    await store.commit(step(1, changed=more | {"key 0": b"again"}, removed=gone))
    left = {key: value for key, value in data.items() if key not in set(gone)} | more | {"key 0": b"again"}

    run = await loaded(store)
    assert run.data == left
    assert list(run.data) == list(left)


async def test_long_lists(store: RedisBackend) -> None:
    """Lists that are read page by page are complete and ordered; so are many leases."""
    count = 2 * PAGE + 17
    await asyncio.gather(*(store.create(new_run(str(n), created=NOW + n, expires=NOW)) for n in range(count)))
    newest = [str(n) for n in reversed(range(count))]

    assert [run.run_id for run in await store.runs(RunFilter())] == newest
    assert [run.run_id for run in await store.runs(RunFilter(workflow="flow", limit=PAGE + 3))] == newest[: PAGE + 3]
    assert sorted(run.run_id for run in await store.ready(LATER)) == sorted(newest)
    tokens = dict.fromkeys([*newest, "no", "none"], 1)
    assert sorted(await store.renew("me", tokens, LATER)) == ["no", "none"]
    assert await store.ready(LATER) == []


async def test_nothing_is_left(store: RedisBackend, ask: Ask, prefix: str) -> None:
    """When all runs are deleted, the remaining keys expire."""
    for run_id in ("run", "\n{}", "other"):
        await store.create(free_run(run_id, parent="p", data={"a": b"1"}))
        for each in "12":
            await store.put_signal(run_id, Signal(each, "go\0", b"1"))
        await store.commit(Commit(**note(0, run_id, token=0)._asdict() | {"consumed": ["1"]}))
        assert await store.delete(run_id)
    left = await ask("KEYS", f"{{{prefix}}}:*")

    ends = {key for key in left if b":gone:" in key}
    assert {key.partition(b":")[2] for key in left if key not in ends} == {b"count", b"schema"}
    assert [await ask("TTL", key) > 0 for key in ends] == [True] * 3


async def test_after_closing(store: RedisBackend) -> None:
    """Calls that wait when the store closes are done; later ones are refused with the reason."""
    ids = await make(store, 5)
    commits = [asyncio.ensure_future(store.commit(step(1, run_id))) for run_id in ids]
    await asyncio.sleep(0)
    await store.close()
    assert await asyncio.gather(*commits) == [None] * 5
    with pytest.raises(StoreUnavailableError, match="was closed"):
        store.watch(print)


async def test_a_renewal_waits_for_no_other_call(store: RedisBackend) -> None:
    """However many calls wait, a renewal is in the next batch."""
    done, calls = with_a_renewal(store, 1600)
    await asyncio.gather(*calls)
    assert done.index("renewal") <= 1000


async def test_a_page_of_a_history_is_read_alone(store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page reads no other entry, wherever it lies in a long history."""
    place = "cano_redis.reading.unpack_line"
    assert await check_pages_are_read_alone(store, monkeypatch, place, unpack_line, 200) == [5] * 4


async def test_long_lists_are_decoded_page_by_page(store: RedisBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pages of a list, the event loop does other work."""
    pages, records = list[int](), reading.records

    def noting(flat: Sequence[Any]) -> list[RunRecord]:
        pages.append(len(flat) // 2)
        return records(flat)

    monkeypatch.setattr(reading, "records", noting)
    ids = {str(number) for number in range(2 * PAGE + 1)}
    await asyncio.gather(*(store.create(free_run(run_id)) for run_id in ids))
    assert {run.run_id for run in await store.runs(RunFilter())} == ids
    assert {run.run_id for run in await store.ready(NOW)} == ids
    assert pages == [PAGE, PAGE, 1] * 2


async def test_a_prune_reads_no_run_that_is_kept(
    store: RedisBackend, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many runs a store keeps, it is asked as often, and no record is read; runs of earlier versions count."""
    asked, honest = list[scripts.Script](), store._opened()._ask

    async def noting(script: scripts.Script, *arguments: bytes) -> Any:
        answer = await honest(script, *arguments)
        asked.append(script)
        assert script != scripts.PLACED or len(answer) < 3 * 9
        return answer

    monkeypatch.setattr(store._opened(), "_ask", noting)
    for size in (3, 2 * PAGE):
        fields = {"status": RunStatus.SUCCEEDED, "updated": NOW}
        runs = [
            free_run(f"{workflow} {size} {number}", workflow=workflow, created=NOW + size + number, **fields)
            for number in range(size) for workflow in "ab"
        ]  # fmt: skip
        await asyncio.gather(*map(store.create, runs))
        await store.create(free_run(f"running {size}", workflow="a"))
        for keep, age in ((size if size == 3 else size + 3, None), (10_000, 86_400.0)):
            asked.clear()
            assert await store.expired(Retention(keep_last=keep, max_age=age), LATER, 99) == []
            assert asked == [*([] if age is None else [scripts.PLACED]), scripts.WORKFLOWS]
    await ask("DEL", ":ends", ":ended:a", ":ended:b")
    monkeypatch.undo()
    expired = await store.expired(Retention(keep_last=2 * PAGE + 1), LATER, 99)
    assert [run.run_id for run in expired] == ["a 3 0", "b 3 0", "a 3 1", "b 3 1"]
    assert await ask("ZCARD", ":ended:a") == await ask("ZCARD", ":ended:b") == 2 * PAGE + 3


async def test_a_deleted_corrupt_run_does_not_count(store: RedisBackend, ask: Ask) -> None:
    """A run whose workflow is lost is deleted from the index of those that have finished."""
    for number in range(3):
        run = free_run(f"{number}", created=NOW + number, status=RunStatus.SUCCEEDED)
        await store.create(run)
    await ask("HDEL", ":run:2", "workflow")
    assert await store.delete("2")
    assert await store.expired(Retention(keep_last=2), LATER, 9) == []
    assert [run.run_id for run in await store.expired(Retention(keep_last=1), LATER, 9)] == ["0"]
