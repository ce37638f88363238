"""What cannot be written: values that are not bytes, and commits on a full disk."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cano import SerializationError, Signal
from cano.testing.contract_base import loaded, new_run, step
from cano_sqlite import SqliteBackend
from cano_sqlite.failures import LARGEST


@pytest.mark.parametrize(
    "fields", [{"changed": {"a": "text"}}, {"changed": {"a": 1}}, {"changed": {"a": None}}, {"changed": {1: b""}},
               {"changed": {"\ud800": b""}}, {"removed": ["\ud800"]}, {"payload": "text"}, {"error": {"a": object()}},
               {"error": {"a": (1, 2)}}, {"error": {"a": 2**70}}, {"error": {1: "a"}}],
)  # fmt: skip
async def test_what_cannot_be_kept(store: SqliteBackend, fields: dict[str, Any]) -> None:
    """Values that are not bytes, or would change, are refused; nothing is written."""
    await store.create(new_run())
    with pytest.raises(SerializationError):
        await store.commit(step(1, **fields))
    assert await loaded(store) == new_run()

    if "removed" not in fields:
        with pytest.raises(SerializationError):
            await store.create(
                new_run("other", **{"data" if name == "changed" else name: x for name, x in fields.items()})
            )
        assert await store.load("other") is None


async def test_a_key_that_cannot_be_kept_is_named(store: SqliteBackend) -> None:
    """The error about a value has its key and type."""
    await store.create(new_run())
    with pytest.raises(SerializationError) as caught:
        await store.commit(step(1, changed={"fine": b"", "price": 1.5}))

    assert (caught.value.key, caught.value.actual) == ("price", float)
    with pytest.raises(SerializationError):
        await store.put_signal("run", Signal("1", "go", 5))


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX limits")
def test_a_full_disk(path: Path) -> None:
    """On a full disk, commits fail with a remedy, and no acknowledged one is lost; with free space, they work again."""
    program = f"""
import asyncio, resource
from cano import StoreUnavailableError
from cano.testing.contract_base import loaded, new_run, step
from cano_sqlite import SqliteBackend
async def main():
    store = SqliteBackend({str(path)!r})
    await store.open()
    ids = [f"run {{n}}" for n in range(5)]
    for i in ids:
        await store.create(new_run(i))
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    made = dict.fromkeys(ids, 0)
    for seq in range(1, 100):
        commits = [store.commit(step(seq, i, changed={{"a": bytes(9_000)}})) for i in ids if made[i] == seq - 1]
        if not commits:
            break
        answers = await asyncio.gather(*commits, return_exceptions=True)
        for i, answer in zip([i for i in ids if made[i] == seq - 1], answers):
            if answer is None:
                made[i] = seq
            else:
                assert isinstance(answer, StoreUnavailableError), answer
                assert "the disk" in str(answer), answer
    assert max(made.values()) < 99
    for i in ids:
        run = await loaded(store, i)
        assert run.seq == made[i], (run.seq, made[i])
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    for i in ids:
        await store.commit(step(made[i] + 1, i))
        assert [line.seq for line in await store.history(i)] == [*range(made[i] + 2)]
    await store.close()
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.stderr, done.returncode) == ("", 0)


async def test_a_commit_that_is_too_large(tmp_path: Path) -> None:
    """The data of a run, and the values of a commit, are refused above 64 MiB in all; the message names the key."""
    large, small = bytes(LARGEST // 2), b"1"
    store = SqliteBackend(tmp_path / "runs.db")
    await store.open()
    await store.create(new_run(data={"a": large}))
    await store.commit(step(1, changed={"b": large}))

    for call in (
        store.commit(step(2, changed={"c": small, "d": large + small, "e": large})),
        store.create(new_run("other", data={"d": large + small, "e": large})),
    ):
        with pytest.raises(
            SerializationError, match=r"sets 64 MiB.* the key 'd'; .* up to 64 MiB; .*offload"
        ) as refused:
            await call
        assert refused.value.key == "d"
    assert (await loaded(store)).seq == 1
    await store.close()
