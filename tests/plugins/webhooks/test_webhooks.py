"""Webhooks: signed, retried, sent once their run's commit was made, and kept in the store until then."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConfigurationError,
    Expect,
    Kernel,
    RunFilter,
    RunStatus,
    TaskConfig,
    TaskError,
    Workflow,
    wait_for,
)
from cano.engine.ports import Notice
from cano.testing import VirtualClock
from cano_webhooks import Webhooks, new_secret, signature
from cano_webhooks.signing import read_secret

from tests.plugins.webhooks.receiver import SECRET, Receiver, Request

NAME = "cano.webhooks.default"


class World:
    """A store, and kernels with virtual time on it."""

    def __init__(self, path: Path, receiver: Receiver) -> None:
        self.clock = VirtualClock(auto=False)
        self.url = f"sqlite:///{path}?synchronous=normal"
        self.receiver = receiver
        self.kernels: list[Kernel] = []

    async def kernel(self, **options: Any) -> Kernel:
        """A kernel whose webhooks have these options."""
        hooks = Webhooks(self.receiver.url, **{"secret": SECRET, **options})
        kernel = Kernel(store=self.url, plugins=[hooks], clock=self.clock, grace=0)
        self.kernels.append(kernel)
        await kernel.open()
        keeper: Any = kernel.keeper
        while NAME not in keeper._watchlist.workflows:  # until then, only a poll finds messages
            await self.clock.advance(0)
        return kernel

    async def next(self, kernel: Kernel) -> Request:
        """Wait for a request; let time pass if none comes: its run may have begun just before the commit was made."""
        while True:
            try:
                return await asyncio.to_thread(self.receiver.arrived.get, timeout=0.2)
            except queue.Empty:
                await self.let_time_pass(kernel)

    async def let_time_pass(self, kernel: Kernel) -> None:
        """Let time pass unless a message is just being sent, which may take as long as it likes."""
        held = [record.holder async for record in kernel.runs() if record.workflow.startswith("cano.webhooks.")]
        await self.clock.advance(0 if any(held) else 0.3)

    async def messages(self, kernel: Kernel) -> list[Any]:
        """The runs that send."""
        return [record async for record in kernel.runs(workflow=NAME)]

    async def until_sent(self, kernel: Kernel) -> None:
        """Wait until no message is left."""
        while await self.messages(kernel):
            await self.let_time_pass(kernel)

    async def until_parked(self, kernel: Kernel, attempts: int) -> float:
        """Wait until the only message waits for its next attempt, and return how long it does from its last one."""
        while True:
            records = await self.messages(kernel)
            if records and records[0].status is RunStatus.PARKED:
                view = await kernel.get(records[0].run_id)
                if view.data["attempts"] == attempts:
                    assert view.wait is not None
                    assert view.wait.until is not None
                    return view.wait.until - view.updated
            await self.let_time_pass(kernel)


@pytest.fixture
async def world(tmp_path: Path, receiver: Receiver) -> AsyncIterator[World]:
    """A store without runs."""
    world = World(tmp_path / "runs.db", receiver)
    yield world
    for kernel in world.kernels:
        await kernel.close()


def flow_of(work: Callable[[Any], Any], **options: Any) -> Workflow[str]:
    """A workflow with one task."""
    flow = Workflow("PAY", name="order", default_config=TaskConfig.minimal(), **options)
    return flow.register("PAY", work).add_exit_state("DONE")


async def fail(store: Any) -> str:
    """Fail, with a secret in the text."""
    raise LookupError("no such card, password=hunter2")


async def ask(store: Any) -> str:
    """Wait for an answer."""
    return wait_for("paid", then="DONE", timeout=3600, on_timeout="DONE")


def test_the_published_vector() -> None:
    """The signature is that of the specification's example."""
    sign = signature(read_secret(SECRET), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')

    assert sign == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_failed_run(world: World) -> None:
    """The message says which run failed, and why, without secrets and without data; once sent, its run is deleted."""
    kernel = await world.kernel()
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {"card": "4711"}, run_id="o-1")
    request = await world.next(kernel)
    assert request.path == "/hooks?token=hidden"
    assert request.is_signed_with(SECRET)
    assert not request.is_signed_with(new_secret())
    assert request.headers["content-type"] == "application/json"
    assert int(request.headers["webhook-timestamp"]) == pytest.approx(world.clock.time(), abs=60)
    assert request.message == {
        "type": "run.failed",
        "timestamp": "2023-11-14T22:13:20.000Z",
        "data": {
            "run_id": "o-1", "workflow": "order", "state": "PAY", "status": "failed", "steps": 0,
            "created": "2023-11-14T22:13:20.000Z",
            "error": {
                "type": "TaskError", "state": "PAY", "attempt": 1,
                "message": "task 'fail' failed: LookupError: no such card, password=[redacted]",
                "cause": "LookupError: no such card, password=[redacted]",
            },
        },
    }  # fmt: skip
    await world.until_sent(kernel)
    assert (await kernel.get("o-1")).status is RunStatus.FAILED


async def test_parked_and_late_runs(world: World) -> None:
    """A wait of a task, and that a run or a visit is late, are sent; a run that ends well sends nothing."""
    kernel = await world.kernel()
    flow = flow_of(ask, expect=Expect(within=60))
    handle = await kernel.start(flow, {}, run_id="o-1")
    parked = await world.next(kernel)
    assert parked.message["type"] == "run.parked"
    assert parked.message["data"]["wait"] == {"signal": "paid", "until": "2023-11-14T23:13:20.000Z", "then": "DONE"}
    await world.clock.advance(61)
    late = await world.next(kernel)
    assert late.message["type"] == "run.late"
    assert late.message["data"]["status"] == "parked"
    assert late.message["data"]["late"] == {
        "what": "run", "within": 60.0, "since": "2023-11-14T22:13:20.000Z", "due": "2023-11-14T22:14:20.000Z",
    }  # fmt: skip
    await kernel.signal("o-1", "paid")
    await world.clock.advance(1)
    await handle.result()
    assert world.receiver.arrived.empty()


async def test_waits_for_retries_send_nothing(world: World) -> None:
    """A run that is parked until its next attempt sends nothing until it fails."""

    class Later:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 120.0 if attempt == 1 else None

    kernel = await world.kernel()
    flow = Workflow("PAY", name="order", default_config=TaskConfig(retry=Later()))
    flow.register("PAY", fail).add_exit_state("DONE")
    await kernel.start(flow, {}, run_id="o-1")
    while (await kernel.get("o-1")).status is not RunStatus.PARKED:
        await world.clock.advance(0)
    await world.clock.advance(121)
    assert (await world.next(kernel)).message["type"] == "run.failed"


async def test_a_resumed_run_that_fails_again(world: World) -> None:
    """Each failure of a run is a message of its own, with an id of its own."""
    kernel = await world.kernel()
    flow, ids = flow_of(fail), list[str]()
    for _ in range(2):
        with pytest.raises(TaskError):
            await (kernel.resume(flow, "o-1") if ids else kernel.run(flow, {}, run_id="o-1"))
        ids.append((await world.next(kernel)).id)
    assert len(set(ids)) == 2


async def test_only_what_was_asked_for(world: World) -> None:
    """`on` chooses the kinds."""
    kernel = await world.kernel(on=["failed"])
    await kernel.start(flow_of(ask), {}, run_id="o-1")
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {}, run_id="o-2")
    assert (await world.next(kernel)).message["data"]["run_id"] == "o-2"
    assert world.receiver.arrived.empty()


async def test_retries(world: World) -> None:
    """An error, a redirect and silence are tried again, later each time and at random; the id stays the same."""
    kernel = await world.kernel(backoff=10, timeout=1)
    world.receiver.answers.extend([(500, {}), (302, {"location": world.receiver.url}), None, (200, {})])
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {}, run_id="o-1")
    ids = set()
    for attempt in (1, 2, 3):
        ids.add((await world.next(kernel)).id)
        delay = await world.until_parked(kernel, attempt)
        assert 5 * 2 ** (attempt - 1) <= delay <= 10 * 2 ** (attempt - 1)
        assert world.receiver.arrived.empty()  # no redirect was followed
        await world.clock.advance(delay + 0.1)
    request = await world.next(kernel)
    assert ids == {request.id}
    assert request.is_signed_with(SECRET)  # at another time
    await world.until_sent(kernel)


async def test_a_receiver_that_asks_to_wait(world: World) -> None:
    """`Retry-After` prolongs the wait."""
    kernel = await world.kernel(backoff=1)
    world.receiver.answers.append((429, {"retry-after": "90"}))
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {}, run_id="o-1")
    assert await world.until_parked(kernel, 1) == pytest.approx(90)


@pytest.mark.parametrize(("answers", "attempts"), [([500, 500], 2), ([410], 9)], ids=["all attempts", "gone"])
async def test_a_message_that_is_not_accepted(
    world: World, answers: list[int], attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A message is a failed run after its last attempt, or if its receiver is gone. Resumed, it is sent."""
    kernel = await world.kernel(attempts=attempts, backoff=1)
    (hooks,) = (each for each in kernel.bound.values() if each.name == NAME)
    world.receiver.answers.extend((status, {}) for status in answers)
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {}, run_id="o-1")
    for number in range(len(answers)):
        await world.next(kernel)
        if number + 1 < len(answers):
            await world.clock.advance(await world.until_parked(kernel, number + 1))
    where = f"workflow = {NAME} and status = failed"
    while not (dead := [record async for record in kernel.runs(where=where)]):
        await world.clock.advance(0)
    assert dead[0].error is not None
    assert (
        f"did not accept the message in {len(answers)} attempts: HTTP status {answers[-1]}" in dead[0].error["message"]
    )
    assert "hidden" not in str(dead[0].error) + caplog.text  # what the URL contains
    resuming = asyncio.ensure_future(kernel.resume_many(hooks.flow, where))
    await world.next(kernel)
    while not resuming.done():
        await world.clock.advance(0)
    assert (await resuming).done == 1
    assert world.receiver.arrived.empty()  # a message that fails sends none of its own


async def test_two_secrets(world: World) -> None:
    """During a change of secrets, each message has a signature of each."""
    new = new_secret()
    kernel = await world.kernel(secret=[new, SECRET])
    with pytest.raises(TaskError):
        await kernel.run(flow_of(fail), {}, run_id="o-1")
    request = await world.next(kernel)
    assert request.is_signed_with(new)
    assert request.is_signed_with(SECRET)
    assert len(request.headers["webhook-signature"].split(" ")) == 2


async def test_two_receivers(world: World) -> None:
    """Several webhooks send one message each."""
    hooks = [Webhooks(world.receiver.url, secret=SECRET, name=name) for name in ("a", "b")]
    async with Kernel(store=world.url, plugins=hooks, clock=world.clock, grace=0) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow_of(fail), {}, run_id="o-1")
        await world.clock.advance(2)
        first, second = await world.next(kernel), await world.next(kernel)
        assert first.message == second.message


async def test_the_environment(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment variables are enough, if the store survives its process."""
    monkeypatch.setenv("CANO_WEBHOOKS_URL", world.receiver.url)
    with pytest.raises(ConfigurationError, match="CANO_WEBHOOKS_SECRET is not"):
        await Kernel(store=world.url, clock=world.clock).open()
    monkeypatch.setenv("CANO_WEBHOOKS_SECRET", SECRET)
    monkeypatch.setenv("CANO_WEBHOOKS_ON", "failed")
    async with Kernel(clock=world.clock) as kernel:
        assert (await kernel.run(Workflow("D").add_exit_state("D"))).state == "D"
    async with Kernel(store=world.url, clock=world.clock, grace=0) as kernel:
        await kernel.start(flow_of(ask), {}, run_id="o-1")
        with pytest.raises(TaskError):
            await kernel.run(flow_of(fail), {}, run_id="o-2")
        assert (await world.next(kernel)).message["data"]["run_id"] == "o-2"


async def test_a_message_without_its_commit_is_dropped(world: World) -> None:
    """A message is sent only if the commit was made that it is about; until that is clear, it waits."""
    kernel = await world.kernel()
    running = asyncio.Event()

    async def wait(store: Any) -> str:
        running.set()
        await asyncio.Event().wait()
        return "DONE"

    await kernel.start(flow_of(wait), {}, run_id="o-1")
    await running.wait()
    record = (await kernel.backend.load("o-1")) if kernel.backend is not None else None
    assert record is not None
    assert kernel.keeper is not None
    keeper: Any = kernel.keeper
    await keeper.stored.announce("failed", record, [], error={"type": "TaskError", "message": "no"})
    keeper._outbox.committed()
    while not (sending := await world.messages(kernel)) or sending[0].status is not RunStatus.PARKED:
        await world.clock.advance(0)
    await world.clock.advance(300)
    assert world.receiver.arrived.empty()
    await kernel.cancel("o-1")
    await world.clock.advance(61)
    await world.until_sent(kernel)
    assert world.receiver.arrived.empty()


async def test_nothing_is_stored_without_webhooks(world: World) -> None:
    """Without an announcer, a run that fails or waits stores no value more, and makes no other run."""
    async with Kernel(store=world.url, clock=world.clock, grace=0) as kernel:
        with pytest.raises(TaskError):
            await kernel.run(flow_of(fail), {}, run_id="o-1")
        assert kernel.backend is not None
        record = await kernel.backend.load("o-1")
        assert record is not None
        assert "notices" not in record.own
        assert len(await kernel.backend.runs(RunFilter())) == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"url": "http://example.org/x"},
            r"must be https, since example\.org is not this machine; allow_http",
        ),
        ({"url": "ftp://example.org/x"}, "url must be an http"),
        ({"url": "https://user:topsecret@example.org/x"}, "url must be an http"),
        ({"url": "https://example.org/x#topsecret"}, "url must be an http"),
        ({"url": "https://example.org/ topsecret"}, "url must be an http"),
        ({"url": "https://example.org:port/topsecret"}, "url must be an http"),
        ({"url": 5}, "url must be an http"),
        ({"secret": "topsecret"}, "secret must be 'whsec_' and 24 to 64 bytes"),
        ({"secret": ["topsecret", SECRET]}, "secret must be 'whsec_'"),
        ({"secret": []}, "secret must be 'whsec_'"),
        ({"on": "done"}, "on must name some of late, failed, parked, not 'done'"),
        ({"on": []}, "on must name some of late, failed, parked"),
        ({"timeout": 0}, "timeout must be a positive"),
        ({"attempts": 0}, "attempts must be a whole number"),
        ({"backoff": -1}, "backoff must be a positive"),
        ({"concurrency": 0}, "concurrency must be a whole number"),
        ({"name": ""}, "name must be a string"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], problem: str) -> None:
    """Each is refused at once; no message shows the URL or a secret."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Webhooks(**{"url": "https://example.org/x", "secret": SECRET, **options})
    assert "topsecret" not in str(caught.value)


async def test_a_store_in_memory_is_refused(receiver: Receiver) -> None:
    """A store that loses its runs with the process cannot keep messages."""
    hooks = Webhooks(receiver.url, secret=SECRET)
    assert "hidden" not in repr(hooks)
    with pytest.raises(ConfigurationError, match="webhooks need a store that survives its process, not 'memory://'"):
        await Kernel(plugins=[hooks]).open()


def test_an_own_run_is_not_announced() -> None:
    """Runs that send webhooks send none about themselves."""
    hooks = Webhooks("https://example.org/x", secret=SECRET)
    assert hooks.message(Notice("id", "failed", "r", NAME, "SEND", 0, 1.0, 1.0, 1)) is None
    assert hooks.message(Notice("id", "failed", "r", "order", "SEND", 0, 1.0, 1.0, 1)) is not None
