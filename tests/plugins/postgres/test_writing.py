"""Writing: jobs that share a transaction do not disturb each other, and compaction changes no result."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
from cano import Commit, RunFilter, SerializationError, Signal
from cano.testing.contract_base import NOW, loaded, new_run, note, step
from cano_postgres import PostgresBackend

from tests.plugins.renewals import with_a_renewal
from tests.plugins.stale_commits import check_refusals

Ask = Callable[..., list[Any]]


async def test_of_many_commits_only_the_stale_are_refused(store: PostgresBackend) -> None:
    """Of commits in one transaction, each stale one gets its own error, and all others are applied."""
    await check_refusals(store)


def unkept() -> list[Commit]:
    """Commits with a value that cannot be stored."""
    return [
        step(1, "bad", state="nul\0"), step(1, "bad", state="\ud800"), step(1, "bad", changed={"a": object()}),
        step(1, "bad", changed={"\ud800": b""}), step(1, "bad", consumed=["\ud800"]),
        step(1, "bad", error={"a": object()}), step(1, "bad", payload="text"),
        step(2**63, "bad", expected_seq=0),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(len(unkept())))
async def test_what_cannot_be_stored(store: PostgresBackend, number: int) -> None:
    """Such a commit is refused with an error that names the run, disturbs no other, and changes nothing."""
    bad = unkept()[number]
    for run_id in ("a", "bad", "c"):
        await store.create(new_run(run_id))
    answers = await asyncio.gather(*map(store.commit, [step(1, "a"), bad, step(1, "c")]), return_exceptions=True)

    assert answers[0] is answers[2] is None
    assert isinstance(answers[1], SerializationError)
    assert (await loaded(store, "bad")).seq == 0
    await store.commit(step(1, "bad"))


async def test_other_things_that_cannot_be_stored(store: PostgresBackend) -> None:
    """The same holds for runs and signals; a run whose id cannot be stored does not exist."""
    for run_id in ("nul\0", "\ud800", "".join(random.Random(1).choices("abcdefghij", k=20_000))):
        with pytest.raises(SerializationError):
            await store.create(new_run(run_id))
    with pytest.raises(SerializationError):
        await store.put_signal("run", Signal("\ud800", "go"))
    with pytest.raises(SerializationError):
        await store.put_signal("run", Signal("1", "go", "text"))
    assert list(await store.runs(RunFilter())) == []
    assert list(await store.missing_recipients()) == []


async def test_folding_is_not_seen(store: PostgresBackend, ask: Ask) -> None:
    """Whatever entries set, remove and set again, data and order are those of the commits."""
    chance = random.Random(5)
    keys = ["", "nul\0", "ключ", *"abcdefgh", "long" * 5000]
    data = dict.fromkeys(keys[:3], b"0")
    await store.create(new_run(data=data))
    for seq in range(1, 120):
        removed = chance.sample(keys, chance.randrange(4))
        changed = dict.fromkeys(chance.sample(keys, chance.randrange(4)), b"%d" % seq)
        for key in removed:
            data.pop(key, None)
        data |= changed
        await store.commit(step(seq, removed=removed, changed=changed))
        now = await loaded(store)
        assert list(now.data.items()) == list(data.items())
    folded, head = ask("SELECT folded, head FROM runs")[0]

    assert head - folded <= 5
    assert len(await store.history("run")) == 120
    assert await store.delete("run")
    assert [ask(f"SELECT count(*) FROM {table}") for table in ("journal", "snapshot", "signals")] == [[(0,)]] * 3


async def test_large_values_are_folded_early(store: PostgresBackend, ask: Ask) -> None:
    """A few large values lead to compaction like many small ones."""
    await store.create(new_run())
    for seq in range(1, 4):
        await store.commit(step(seq, changed={"a": bytes(400_000)}))

    assert ask("SELECT head - folded FROM runs") == [(0,)]
    assert ask("SELECT length(content) FROM snapshot") == [(400_000,)]


async def test_plain_steps_touch_no_index(store: PostgresBackend, ask: Ask) -> None:
    """Steps update the row of `runs` in place: no index gets a new entry."""
    await store.create(new_run())
    for seq in range(1, 31):
        await store.commit(step(seq))
    ask("SELECT pg_stat_force_next_flush()")
    await store.close()

    for _ in range(1000):
        ((updates, in_place),) = ask(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'runs'::regclass"
        )
        if updates >= 30:
            break
    assert updates == in_place


async def test_cancelled_commits(store: PostgresBackend) -> None:
    """Callers that are cancelled at any moment leave whole commits, no task, and usable connections."""
    chance = random.Random(3)
    made = dict.fromkeys((f"run {number}" for number in range(10)), 0)
    for run_id in made:
        await store.create(new_run(run_id))
    tasks = len(asyncio.all_tasks())
    for _ in range(30):
        commits = {
            run_id: asyncio.ensure_future(store.commit(step(seq + 1, run_id, changed={"a": b"1", "b": b"1"})))
            for run_id, seq in made.items()
        }
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        for commit in commits.values():
            if chance.random() < 0.5:
                commit.cancel()
        answers = await asyncio.gather(*commits.values(), return_exceptions=True)
        assert store._backend is not None
        await asyncio.gather(*store._backend._reader._under_way)  # what a cancelled caller was reading is read anyway
        assert len(asyncio.all_tasks()) <= tasks
        for run_id, answer in zip(made, answers, strict=True):
            assert answer is None or isinstance(answer, asyncio.CancelledError)
            run = await loaded(store, run_id)
            assert run.seq == made[run_id] + 1 or (answer is not None and run.seq == made[run_id])
            made[run_id] = run.seq

    for run_id, seq in made.items():
        await store.commit(note(seq, run_id, changed={"last": b""}))
        assert [line.seq for line in await store.history(run_id)] == [*range(seq + 1)]


async def test_two_backends_that_lock_the_same_rows(url: str, schema: str, store: PostgresBackend) -> None:
    """Backends whose batches touch the same runs in any order do not deadlock."""
    other = PostgresBackend(url, schema=schema)
    await other.open()
    ids = [str(number) for number in range(30)]
    for run_id in ids:
        await store.create(new_run(run_id, holder=None, expires=None, token=0))
    for turn in range(5):
        calls: list[Any] = []
        for one in (store, other):
            calls += [one.claim(run_id, "me", NOW + turn, NOW + turn - 1) for run_id in random.sample(ids, 30)]
            calls += [one.put_signal(run_id, Signal(f"{turn}", "go")) for run_id in random.sample(ids, 30)]
            calls += [one.renew("me", dict.fromkeys(random.sample(ids, 20), turn), NOW)]
        await asyncio.gather(*calls)

    assert [(await loaded(store, run_id)).token for run_id in ids] == [10] * 30
    await other.close()


async def test_a_renewal_waits_for_no_other_call(store: PostgresBackend) -> None:
    """However many calls wait, a renewal is in the first batch."""
    done, calls = with_a_renewal(store, 1100)
    await asyncio.gather(*calls)
    assert done.index("renewal") <= 500
