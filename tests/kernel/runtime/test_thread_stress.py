"""Many threads, each with an event loop of its own, and one kernel: workers, limits, opening and closing."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cano import (
    ConcurrentWorkflow,
    Kernel,
    KeyValueStore,
    Limit,
    StepTimeoutError,
    SystemClock,
    TaskConfig,
    Workflow,
    current_step,
    hookimpl,
)
from cano.engine.closing import finish_all
from cano.runtime.threads import MAX_WORKERS

PATIENCE = 60.0
"""Seconds after which a test that waits for other threads has failed."""
MINIMAL = TaskConfig.minimal()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Call `work` in `count` threads at once, and wait until all have returned. Raise the first error."""
    errors: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)
        except BaseException as error:  # noqa: BLE001  # raised again by the caller
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in threads)
    if errors:
        raise errors[0]


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel of this test alone, which is the default kernel."""
    kernel = Kernel(discover=False, grace=0)
    monkeypatch.setattr("cano.kernel.default._default", kernel)
    yield kernel
    asyncio.run(kernel.close())


def test_a_timeout_fails_no_other_thread(kernel: Kernel) -> None:
    """Of 800 calls in 8 threads those fail whose plain task takes too long, and no other."""
    go = threading.Event()
    quick = Workflow("start", default_config=MINIMAL).register("start", lambda store: "end").add_exit_state("end")
    slow = Workflow("start", default_config=TaskConfig(timeout=0.001)).add_exit_state("end")

    @slow.on("start")
    def wait(store: Any) -> str:
        go.wait(PATIENCE)
        return "end"

    def calls(number: int) -> None:
        for call in range(100):
            if number == 0 and call % 10 == 0:
                with pytest.raises(StepTimeoutError):
                    slow.orchestrate_sync({})
            else:
                assert quick.orchestrate_sync({}) == "end"

    try:
        in_threads(8, calls)
    finally:
        go.set()


def test_plain_tasks_that_run_event_loops(kernel: Kernel) -> None:
    """More plain tasks than there are threads, each of which runs a workflow of plain tasks, do not deadlock."""
    inner = Workflow("start", default_config=MINIMAL).register("start", lambda store: "end").add_exit_state("end")
    together = threading.Barrier(MAX_WORKERS)
    outer = Workflow("start", default_config=MINIMAL).add_exit_state("end")

    @outer.on("start")
    def nested(store: KeyValueStore) -> str:
        if store["number"] < MAX_WORKERS:
            together.wait(PATIENCE)  # all threads are taken
        return inner.orchestrate_sync({})

    async def batch() -> int:
        stores = [{"number": number} for number in range(2 * MAX_WORKERS)]
        async with asyncio.timeout(PATIENCE):
            return (await ConcurrentWorkflow(outer).execute_concurrent(stores))[1].completed

    assert asyncio.run(batch()) == 2 * MAX_WORKERS


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_counts_across_threads(kernel: Kernel, limit: int) -> None:
    """Eight threads share the slots of a workflow: never more than the limit work, and none waits for ever."""
    now, peak, lock = 0, 0, threading.Lock()
    flow = Workflow("start", default_config=MINIMAL, limit=limit).add_exit_state("end")

    @flow.on("start")
    async def work(store: Any) -> str:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        await asyncio.sleep(0)
        with lock:
            now -= 1
        return "end"

    async def three() -> None:
        await asyncio.gather(*(flow.orchestrate({}) for _ in range(3)))

    def calls(number: int) -> None:
        for _ in range(20):
            asyncio.run(three())

    in_threads(8, calls)
    assert (now, peak) == (0, limit)


def test_a_slot_is_lent_across_event_loops(kernel: Kernel) -> None:
    """A plain task under a limit of 1 runs its own workflow with `orchestrate_sync`."""
    flow = Workflow("start", default_config=MINIMAL, limit=Limit(1)).add_exit_state("end")

    @flow.on("start")
    def again(store: KeyValueStore) -> str:
        return flow.orchestrate_sync({"depth": store["depth"] - 1}) if store["depth"] else "end"

    def deep(number: int) -> None:
        assert flow.orchestrate_sync({"depth": 5}) == "end"

    in_threads(4, deep)


def test_a_kernel_is_opened_once() -> None:
    """Threads that use a new kernel at the same time open its store once, and all of them wait for that."""
    opened: list[Kernel] = []

    class Opening:
        """Notes each opening."""

        @hookimpl
        def cano_kernel_started(self, kernel: Kernel) -> None:
            opened.append(kernel)

    for _ in range(20):
        opened.clear()
        kernel = Kernel(discover=False, plugins=[Opening()])
        opening = kernel.open
        in_threads(8, lambda number, opening=opening: asyncio.run(opening()))  # type: ignore[misc]
        assert opened == [kernel]
        asyncio.run(kernel.close())


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{}/runs.db"])
def test_closing_from_another_event_loop(url: str, tmp_path: Path) -> None:
    """`close` interrupts runs in other threads, waits for them, and closes the store in the loop that opened it."""
    began, outcomes = threading.Barrier(3), list[BaseException]()
    flow = Workflow("start", default_config=MINIMAL).add_exit_state("end")

    @flow.on("start")
    async def for_ever(store: Any) -> str:
        await asyncio.to_thread(began.wait, PATIENCE)
        await asyncio.Event().wait()
        return "end"

    kernel = Kernel(store=url.format(tmp_path), grace=0, block=["structlog"])

    async def run() -> None:
        try:
            await kernel.run(flow, {})
        except BaseException as error:  # noqa: BLE001  # looked at below
            outcomes.append(error)

    async def close() -> None:
        async with asyncio.timeout(PATIENCE):
            await kernel.close()

    runs = [threading.Thread(target=lambda: asyncio.run(run()), daemon=True) for _ in range(2)]
    for thread in runs:
        thread.start()
    began.wait(PATIENCE)
    asyncio.run(close())
    for thread in runs:
        thread.join(PATIENCE)

    assert [type(error).__name__ for error in outcomes] == ["RunInterruptedError"] * 2


def test_closing_passes_over_background_tasks_of_closed_event_loops() -> None:
    """An event loop may be closed while the kernel closes: its tasks have ended."""
    loop, event = asyncio.new_event_loop(), asyncio.Event()
    event.set()
    task = loop.create_task(event.wait())
    loop.run_until_complete(task)
    loop.close()

    asyncio.run(finish_all([], [task], 0, SystemClock()))


def test_a_hung_thread_is_named_when_the_kernel_closes(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    """Closing logs the state and the run whose thread was abandoned and still executes."""
    go, ids = threading.Event(), list[str]()
    flow = Workflow("upload", default_config=TaskConfig(timeout=0.001)).add_exit_state("end")

    @flow.on("upload")
    def hang(store: Any) -> str:
        ids.append(current_step().run_id)
        go.wait(PATIENCE)
        return "end"

    while not ids:  # the thread may start after its timeout
        with pytest.raises(StepTimeoutError):
            flow.orchestrate_sync({})
    with caplog.at_level(logging.WARNING, "cano"):
        asyncio.run(kernel.close())
    go.set()

    assert f"a thread still executes state upload of run {ids[0]}" in caplog.text


def test_a_hung_thread_does_not_keep_the_process(tmp_path: Path) -> None:
    """A process whose plain task hangs exits after the task's timeout, with the error."""
    program = tmp_path / "hangs.py"
    program.write_text(
        "import threading\n"
        "from cano import TaskConfig, Workflow\n"
        "flow = Workflow('start', default_config=TaskConfig(timeout=0.01)).add_exit_state('end')\n"
        "@flow.on('start')\n"
        "def hang(store):\n"
        "    threading.Event().wait()\n"
        "flow.orchestrate_sync({})\n"
    )

    ended = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=PATIENCE)

    assert ended.returncode == 1
    assert "StepTimeoutError" in ended.stderr
