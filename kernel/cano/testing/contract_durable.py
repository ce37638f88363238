"""The store contract: what is on disk stays there, and several processes share it."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from pathlib import Path

from cano.errors import StoreUnavailableError
from cano.protocols import StoreBackend
from cano.records import RunRecord, RunStatus, Signal, Wait
from cano.testing.contract_base import (
    LATER,
    NOW,
    Contract,
    clause,
    clause_of_url,
    deleted,
    endless,
    free_run,
    kept,
    lines,
    loaded,
    new_run,
    note,
    step,
    told,
    value,
    values,
)


class Worker:
    """A process that runs `contract_worker`, as its parent sees it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._stdin, self._stdout = process.stdin, process.stdout

    def wait_until_ready(self) -> None:
        """Return when it has opened the store."""
        assert self.line() == "ready"

    def go(self) -> None:
        """Let it begin."""
        self._stdin.write("go\n")
        self._stdin.flush()

    def line(self) -> str:
        """The next line that it prints."""
        line = self._stdout.readline()
        assert line.endswith("\n"), f"the worker ended early, its exit status is {self._process.wait()}"
        return line[:-1]

    def kill(self) -> list[str]:
        """Kill it on the spot; the lines that it had printed."""
        self._process.kill()
        return [line[:-1] for line in self._stdout if line.endswith("\n")]

    def finish(self) -> list[str]:
        """Wait until it is done; the lines that it printed."""
        printed = self._stdout.read().splitlines()
        assert self._process.wait() == 0, "the worker failed; its traceback is on stderr"
        return printed


class DurableClauses(Contract):
    """What is on disk stays there, and several processes share it."""

    def worker_command(self, url: str, *arguments: str) -> Sequence[str]:
        """The command of a worker that opens `url` through the installed plugins.

        Where `open_backend` is overridden, so must this be: a program that calls `contract_worker.main` with an
        `open_backend` of its own.
        """
        return [sys.executable, "-m", "cano.testing.contract_worker", url, *arguments]

    @contextmanager
    def worker(self, url: str, name: str, job: str, count: int) -> Iterator[Worker]:
        """A worker on `url` that is ready to go."""
        command = self.worker_command(url, name, job, str(count))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            watchdog = threading.Timer(self.patience, process.kill)
            watchdog.start()
            try:
                yield Worker(process)
            finally:
                watchdog.cancel()
                process.kill()

    def at_once(self, url: str, job: str, count: int, *, workers: int = 2) -> dict[str, list[str]]:
        """What several workers print who do one job at the same time, by their names."""
        with ExitStack() as stack:
            named = {
                f"worker {n}": stack.enter_context(self.worker(url, f"worker {n}", job, count)) for n in range(workers)
            }
            for worker in named.values():
                worker.wait_until_ready()
            for worker in named.values():
                worker.go()
            return {name: worker.finish() for name, worker in named.items()}

    async def store_runs(self, url: str, *runs: RunRecord) -> None:
        """Put runs into the store, and close it."""
        async with self.opened(url) as store:
            for run in runs:
                await store.create(run)

    @clause
    async def test_durable_is_declared(self, store: StoreBackend) -> None:
        """A durable store says so in its capabilities, and keeps values as bytes."""
        assert store.capabilities.durable
        assert store.capabilities.encoded

    @clause_of_url
    async def test_everything_survives_reopening(self, url: str) -> None:
        """What was stored is there when the store is opened again: runs, history, leases, signals, what is gone too."""
        async with self.opened(url) as store:
            await store.create(new_run(data=values(store, z=1, a=2), parent="p"))
            await store.commit(step(1, changed=values(store, b=3), removed=["a"]))
            for each in "231":
                await store.put_signal("run", Signal(each, "go", value(store, each)))
            await store.put_signal("early", Signal("1", "go", value(store, 1)))
            await store.commit(
                note(1, status=RunStatus.PARKED, wait=Wait(then="B", until=NOW + 1 / 3), error={"class": "E"},
                     payload=value(store, 4), consumed=["2"], release=True)
            )  # fmt: skip
            assert await store.claim("run", "another", NOW, LATER + 1 / 3) == 2
            await store.create(new_run("deleted"))
            is_deleted = await deleted(store, "deleted")
            before = await kept(store)

        async with self.opened(url) as store:
            assert await kept(store) == before
            assert list((await loaded(store)).data) == ["z", "b"]
            assert (await store.load("deleted") is None) == is_deleted
            assert await store.next_signal("early", "go") == Signal("1", "go", value(store, 1))
            await store.put_signal("run", Signal("2", "go"))
            assert await store.next_signal("run", "go") == Signal("3", "go", value(store, "3"))
            assert await store.claim("run", "third", LATER, LATER + 9) is None
            await store.commit(step(2, token=2))

    @clause_of_url
    async def test_closing_finishes_what_is_under_way(self, url: str) -> None:
        """A commit that was under way when the store closed is either acknowledged, and there, or it raised."""
        async with self.opened(url) as store:
            for number in range(20):
                await store.create(new_run(str(number)))
            commits = [asyncio.ensure_future(store.commit(step(1, str(number)))) for number in range(20)]
            await asyncio.sleep(0)
            await store.close()
            answers = await asyncio.gather(*commits, return_exceptions=True)

        assert all(answer is None or isinstance(answer, StoreUnavailableError) for answer in answers), answers
        async with self.opened(url) as store:
            for number, answer in enumerate(answers):
                assert answer is not None or (await loaded(store, str(number))).seq == 1

    @clause_of_url
    async def test_two_backends_see_the_same(self, url: str) -> None:
        """What one backend has acknowledged another one on the same store sees at once, and cannot undo."""
        async with self.opened(url) as one, self.opened(url) as two:
            await one.create(new_run(data=values(one, a=1)))
            assert await two.create(new_run(holder="another")) == new_run(data=values(one, a=1))
            for seq in range(1, 11):
                here, there = (one, two) if seq % 2 else (two, one)
                await here.put_signal("run", Signal(str(seq), "go"))
                assert await there.next_signal("run", "go") == Signal(str(seq), "go")
                await here.commit(step(seq, changed=values(one, a=seq), consumed=[str(seq)]))
                assert await kept(there) == await kept(here)
                assert (await loaded(there)).seq == seq
            assert await two.claim("run", "another", NOW, LATER) is None
            await two.release("run", 1)
            assert await one.claim("run", "another", NOW, LATER) == 2
            assert list(await two.renew("me", {"run": 1}, LATER)) == ["run"]
            is_deleted = await deleted(two)
            assert (await one.load("run") is None) == is_deleted

    def test_two_processes_create_each_run_once(self, tmp_path: Path) -> None:
        """Of two processes that create the same runs at the same time exactly one makes each of them."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url))
        made = self.at_once(url, "create", 30)

        assert sorted(chain(*made.values())) == sorted(f"run {number}" for number in range(30))

        async def check() -> None:
            async with self.opened(url) as store:
                for name, run_ids in made.items():
                    for run_id in run_ids:
                        assert await loaded(store, run_id) == new_run(run_id, holder=name, data=values(store, by=name))
                        assert [line.seq for line in await store.history(run_id)] == told(store, [0])

        asyncio.run(check())

    def test_two_processes_claim_each_run_once(self, tmp_path: Path) -> None:
        """Of two processes that claim the same free runs at the same time exactly one gets each of them."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, *(free_run(f"run {number}") for number in range(30))))
        got = self.at_once(url, "claim", 30)

        assert sorted(chain(*got.values())) == sorted(f"run {number}" for number in range(30))

        async def check() -> None:
            async with self.opened(url) as store:
                for name, run_ids in got.items():
                    for run_id in run_ids:
                        assert await loaded(store, run_id) == new_run(run_id, holder=name)

        asyncio.run(check())

    def test_no_two_processes_get_one_token(self, tmp_path: Path) -> None:
        """Tokens grow by one with each claim, whichever process it comes from: none is given out twice."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, free_run()))
        got = self.at_once(url, "reclaim", 30)

        assert sorted(map(int, chain(*got.values()))) == list(range(1, 61))
        assert all(tokens == sorted(tokens, key=int) for tokens in got.values())

    def test_two_processes_commit_each_transition_once(self, tmp_path: Path) -> None:
        """Of two processes that commit the same transition exactly one wins each; the history is one unbroken line."""
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, new_run()))
        victories = [(int(seq), name) for name, seqs in self.at_once(url, "race", 60).items() for seq in seqs]
        assert sorted(seq for seq, _ in victories) == list(range(1, 61))
        won = dict(victories)

        async def check() -> None:
            async with self.opened(url) as store:
                made = [(line.seq, dict(line.changed)) for line in await store.history("run")]
                line = [(0, {}), *((seq, values(store, by=won[seq], seq=seq)) for seq in range(1, 61))]
                assert made == told(store, line)
                assert (await loaded(store)).data == values(store, by=won[60], seq=60)

        asyncio.run(check())

    def test_a_killed_process_leaves_a_prefix(self, tmp_path: Path) -> None:
        """A process that is killed in the middle of its commits leaves a whole number of them.

        Every acknowledged commit is there, at most one more, and of none a half: record, data, history and consumed
        signals agree. The next process goes on from there.
        """
        url = self.make_url(tmp_path)
        asyncio.run(self.store_runs(url, free_run()))

        async def check(acknowledged: int) -> None:
            async with self.opened(url) as store:
                run = await loaded(store)
                assert acknowledged <= run.seq <= acknowledged + 1
                data: dict[str, object] = {}
                expected = [endless(store, seq, run.token) for seq in range(1, run.seq + 1)]
                for commit in expected:
                    for key in commit.removed:
                        data.pop(key, None)
                    data |= commit.changed
                assert run.data == data
                history = [(c.seq, c.state, c.status, c.at, c.changed, list(c.removed)) for c in expected]
                assert lines(await store.history("run"))[1:] == told(store, history)
                signal = await store.next_signal("run", "go")
                assert signal in (None, Signal(str(run.seq + 1), "go", value(store, run.seq + 1)))

        for _ in range(3):
            with self.worker(url, "worker", "stream", 1_000_000) as worker:
                worker.wait_until_ready()
                worker.go()
                printed = [worker.line() for _ in range(random.randint(1, 50))]
                printed += worker.kill()
            asyncio.run(check(int(printed[-1])))
