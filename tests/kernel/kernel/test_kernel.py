"""`Kernel`: its options, opening and closing, what it runs on what, executors, and observers."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from cano import (
    Call,
    ConfigurationError,
    Executor,
    Kernel,
    Key,
    KeyValueStore,
    Node,
    RetryExhaustedError,
    Run,
    RunStatus,
    Step,
    StoreUnavailableError,
    SystemClock,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore
from cano_memory.backend import MemoryBackend

from tests.waiting import until

LIFECYCLE = [
    "cano_run_started",
    "cano_step_started",
    "cano_step_finished",
    "cano_transition_committed",
    "cano_run_finished",
]
"""The hooks that a run of one good step calls, in order."""


def flow_of(work: Any, **config: Any) -> Workflow[str]:
    """A workflow of one task."""
    return Workflow("start").register("start", work, config=TaskConfig(**config)).add_exit_state("end")


async def end(store: Any) -> str:
    """A task that does nothing."""
    return "end"


def observer(record: Callable[[str, Any], None], *hooks: str, **options: Any) -> Any:
    """A plugin that tells `record` about lifecycle hooks."""

    def listener(name: str) -> Callable[..., None]:
        def for_run(self: object, run: Run) -> None:
            record(name, run)

        def for_step(self: object, step: Step) -> None:
            record(name, step)

        made = for_run if name.startswith("cano_run") else for_step
        made.__name__, made.__qualname__ = name, f"Observer.{name}"
        return hookimpl(**options)(made) if options else hookimpl(made)

    return type("Observer", (), {name: listener(name) for name in hooks or LIFECYCLE})()


# options


async def test_defaults() -> None:
    """Without any option a kernel runs in memory, in real time, with every installed plugin."""
    async with Kernel() as kernel:
        result = await kernel.run(flow_of(end), {"a": 1})
        assert isinstance(kernel.clock, SystemClock)
        assert kernel.executors == {}
        assert {info.name for info in kernel.load()} >= {"memory", "retry"}

    assert (result.state, result.data, result.steps) == ("end", {"a": 1}, 1)


async def test_without_any_plugin() -> None:
    """A kernel with no plugin at all still runs a workflow on a dict."""
    data = {"count": 1}

    async def count(store: KeyValueStore) -> str:
        store["count"] += 1
        return "end"

    async with Kernel(discover=False) as kernel:
        assert {info.name for info in kernel.load()} == {"concurrency", "durability"}
        assert await kernel.orchestrate(flow_of(count), data) == "end"
    assert data == {"count": 2}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("store", 5, "store must be a URL such as 'memory://' or a StoreBackend, not 5"),
        ("store", None, "store must be a URL"),
        ("store", {}, "store must be a URL"),
        ("executor", 5, "executor must be a URL, an Executor, a mapping to them or None, not 5"),
        ("executor", object, "executor must be a URL"),
        ("grace", -1, "grace must be a number of seconds, 0 or more, not -1"),
        ("grace", math.nan, "grace must be a number of seconds"),
        ("grace", "1", "grace must be a number of seconds"),
        ("grace", True, "grace must be a number of seconds"),
        ("grace", None, "grace must be a number of seconds"),
        ("lease", 0, "lease must be a positive number of seconds"),
        ("lease", "1", "lease must be a positive number of seconds"),
        ("lease", math.nan, "lease must be a positive number of seconds"),
        ("poll", -1, "poll must be a positive number of seconds"),
        ("poll", True, "poll must be a positive number of seconds"),
        ("plugins", "retry", "plugins must be a list"),
        ("plugins", 5, "plugins must be a list"),
        ("block", "retry", "block must be a list"),
        ("block", 5, "block must be a list"),
        ("block", [5], "block must be a list"),
    ],
)
def test_bad_options(option: str, value: Any, message: str) -> None:
    """Every option of the wrong kind is refused at once, with its name and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        Kernel(**{option: value})


@pytest.mark.parametrize(("option", "value"), [("clock", 5), ("clock", "now"), ("lease", None), ("poll", None)])
def test_bad_options_that_are_taken(option: str, value: Any) -> None:
    """These are of the wrong kind too."""
    with pytest.raises(ConfigurationError, match=option):
        Kernel(**{option: value})


def test_unknown_option() -> None:
    """A misspelled option is an error, not ignored."""
    with pytest.raises(TypeError, match="stroe"):
        Kernel(stroe="memory://")  # type: ignore[call-arg]


@pytest.mark.parametrize("grace", [0, 0.5, 3, math.inf])
async def test_grace_may_be(grace: float) -> None:
    """Zero is no grace, infinity is as long as it takes."""
    async with Kernel(discover=False, grace=grace) as kernel:
        assert (await kernel.run(flow_of(end))).state == "end"


# opening and closing


class Opens:
    """A plugin that notes when the kernel starts and stops; asynchronously where wanted."""

    def __init__(self, log: list[str], name: str = "plugin") -> None:
        self.log = log
        self.name = name

    @hookimpl
    def cano_kernel_started(self, kernel: Kernel) -> Awaitable[None]:
        """Note it, a little later."""
        return self.later(f"{self.name} started")

    @hookimpl
    def cano_kernel_stopping(self, kernel: Kernel) -> Awaitable[None]:
        """Note it, a little later."""
        return self.later(f"{self.name} stopping")

    async def later(self, text: str) -> None:
        """Note it."""
        await asyncio.sleep(0)
        self.log.append(text)


class LoggedStore(MemoryBackend):
    """A store that notes when it is opened and closed."""

    def __init__(self, log: list[str]) -> None:
        super().__init__()
        self.log = log

    async def open(self) -> None:
        """Note it."""
        self.log.append("store open")
        await super().open()

    async def close(self) -> None:
        """Note it."""
        self.log.append("store close")
        await super().close()


class LoggedExecutor:
    """An executor that notes what it is asked, and does it right here."""

    def __init__(self, log: list[Any], fails: bool = False) -> None:
        self.log = log
        self.fails = fails
        self.calls: list[Call] = []

    async def open(self) -> None:
        """Note it."""
        if self.fails:
            raise OSError("no cluster")
        self.log.append("executor open")

    async def close(self) -> None:
        """Note it."""
        self.log.append("executor close")

    async def submit(self, call: Call) -> Any:
        """Note it, and do it."""
        self.calls.append(call)
        return await call()


def test_a_kernel_loads_nothing_until_it_is_used() -> None:
    """Making one is cheap: plugins are imported when it starts."""
    kernel = Kernel(plugins=["no such plugin"])

    assert repr(kernel) == "<Kernel on 'memory://', not started, 0 active run(s)>"
    with pytest.raises(ConfigurationError, match="no plugin named 'no such plugin' is installed"):
        kernel.load()


async def test_it_opens_by_itself(clock: VirtualClock) -> None:
    """Used without `async with`, a kernel starts with its first run, whichever way that is started."""

    async def orchestrate(kernel: Kernel) -> Any:
        return await kernel.orchestrate(flow_of(end), {})

    async def run(kernel: Kernel) -> Any:
        return (await kernel.run(flow_of(end))).state

    async def start(kernel: Kernel) -> Any:
        return (await (await kernel.start(flow_of(end))).result()).state

    for way in (orchestrate, run, start):
        log: list[str] = []
        kernel = Kernel(discover=False, plugins=[Opens(log)], clock=clock)
        assert await way(kernel) == "end"
        assert log == ["plugin started"]
        assert repr(kernel) == "<Kernel on 'memory://', open, 0 active run(s)>"
        await kernel.close()
        assert repr(kernel) == "<Kernel on 'memory://', closed, 0 active run(s)>"


async def test_opening_twice_is_opening_once(clock: VirtualClock) -> None:
    """Opening an open kernel does nothing; so does opening it while somebody else does."""
    log: list[str] = []
    kernel = Kernel(discover=False, plugins=[Opens(log)], clock=clock)
    await asyncio.gather(*(kernel.open() for _ in range(3)), kernel.run(flow_of(end)))
    async with kernel:
        await kernel.open()

    assert log == ["plugin started", "plugin stopping"]


async def test_opening_goes_on_when_one_of_the_waiting_is_cancelled(clock: VirtualClock) -> None:
    """Who gives up waiting does not break the kernel for others."""
    log: list[str] = []
    kernel = Kernel(discover=False, plugins=[Opens(log)], clock=clock)
    first, second = asyncio.create_task(kernel.open()), asyncio.create_task(kernel.open())
    await asyncio.sleep(0)
    first.cancel()
    await second

    assert log == ["plugin started"]
    assert first.cancelled()
    await kernel.close()


async def test_order_of_opening_and_closing(clock: VirtualClock) -> None:
    """Store and executor are open while plugins start and stop; hooks that are async are awaited."""
    log: list[str] = []
    store, executor = LoggedStore(log), LoggedExecutor(log)
    kernel = Kernel(discover=False, store=store, executor=executor, plugins=[Opens(log)], clock=clock)
    async with kernel:
        assert kernel.backend is store
        assert kernel.executors == {"default": executor}
        log.append("body")

    assert log == [
        "store open",
        "executor open",
        "plugin started",
        "body",
        "plugin stopping",
        "executor close",
        "store close",
    ]


async def test_plain_hooks_of_start_and_stop(clock: VirtualClock) -> None:
    """They need not be async, and are given the kernel."""
    seen: list[Any] = []

    class Plain:
        @hookimpl
        def cano_kernel_started(self, kernel: Kernel) -> None:
            seen.append(kernel)

        @hookimpl
        def cano_kernel_stopping(self) -> None:
            seen.append("stopping")

    async with Kernel(discover=False, plugins=[Plain()], clock=clock) as kernel:
        pass

    assert seen == [kernel, "stopping"]


async def test_what_does_not_open_is_closed_again(clock: VirtualClock) -> None:
    """A start that fails leaves nothing open, raises the reason, and can be tried again."""
    log: list[str] = []
    executor = LoggedExecutor(log, fails=True)
    kernel = Kernel(discover=False, store=LoggedStore(log), executor=executor, clock=clock)
    with pytest.raises(OSError, match="no cluster"):
        await kernel.open()
    assert log == ["store open", "store close"]


async def test_a_plugin_that_fails_to_start_stops_the_kernel(clock: VirtualClock) -> None:
    """What `cano_kernel_started` raises is raised by `open`; the next try starts afresh."""
    log: list[str] = []

    class Fails:
        failures = 1

        @hookimpl
        async def cano_kernel_started(self) -> None:
            if Fails.failures:
                Fails.failures -= 1
                raise OSError("not yet")

    executor = LoggedExecutor(log)
    kernel = Kernel(discover=False, executor=executor, plugins=[Fails()], clock=clock)
    with pytest.raises(OSError, match="not yet"):
        await kernel.open()
    assert log == ["executor open", "executor close"]
    assert (await kernel.run(flow_of(end))).state == "end"
    await kernel.close()
    assert log == ["executor open", "executor close"] * 2


async def test_a_plugin_that_fails_to_stop(clock: VirtualClock) -> None:
    """What it raises is raised, after store and executor were closed."""
    log: list[str] = []

    class Fails:
        @hookimpl
        async def cano_kernel_stopping(self) -> None:
            raise OSError("stuck")

    kernel = Kernel(
        discover=False, store=LoggedStore(log), executor=LoggedExecutor(log), plugins=[Fails()], clock=clock
    )
    await kernel.open()
    with pytest.raises(OSError, match="stuck"):
        await kernel.close()
    assert log[2:] == ["executor close", "store close"]


async def test_no_run_is_active_when_plugins_stop(clock: VirtualClock) -> None:
    """Runs are finished or interrupted first."""
    active: list[int] = []

    class Looks:
        @hookimpl
        def cano_kernel_stopping(self, kernel: Kernel) -> None:
            active.append(len(kernel.active))

    async def wait(store: Any) -> str:
        await asyncio.Event().wait()
        return "end"

    async with Kernel(discover=False, plugins=[Looks()], clock=clock, grace=1) as kernel:
        await kernel.start(flow_of(wait))
        await asyncio.sleep(0)
        assert len(kernel.active) == 1

    assert active == [0]


async def test_use_after_close(clock: VirtualClock) -> None:
    """A closed kernel does nothing more, and says what to do."""
    kernel = Kernel(discover=False, clock=clock)
    await kernel.run(flow_of(end))
    await kernel.close()

    for use in (
        kernel.open,
        lambda: kernel.run(flow_of(end)),
        lambda: kernel.start(flow_of(end)),
        lambda: kernel.orchestrate(flow_of(end), {}),
    ):
        with pytest.raises(StoreUnavailableError, match="this kernel was closed; make a new one"):
            await use()


async def test_closing_twice(clock: VirtualClock) -> None:
    """The second time does nothing; a kernel that was never opened can be closed too."""
    log: list[str] = []
    kernel = Kernel(discover=False, plugins=[Opens(log)], clock=clock)
    await kernel.open()
    await kernel.close()
    await kernel.close()
    await Kernel(discover=False, plugins=[Opens(log)], clock=clock).close()

    assert log == ["plugin started", "plugin stopping"]


def test_one_kernel_in_several_event_loops() -> None:
    """A kernel that stays open serves one event loop after the other."""
    kernel = Kernel(discover=False)
    flow = flow_of(lambda store: "end")

    states = [asyncio.run(kernel.run(flow)).state for _ in range(3)]

    assert states == ["end"] * 3
    asyncio.run(kernel.close())


# stores and executors by URL


@pytest.mark.parametrize("option", ["store", "executor"])
async def test_a_url_that_nobody_answers(option: str) -> None:
    """The error names the URL."""
    kernel = Kernel(discover=False, **{option: "nowhere://host"})  # type: ignore[arg-type]

    with pytest.raises(ConfigurationError, match=f"no active plugin provides the {option} 'nowhere://host'"):
        await kernel.open()


async def test_a_url_that_nobody_answers_with_all_plugins() -> None:
    """The same with every installed plugin."""
    with pytest.raises(ConfigurationError, match="'nowhere://host'"):
        await Kernel(store="nowhere://host").open()


async def test_stores_and_executors_by_url(clock: VirtualClock) -> None:
    """Plugins are asked with the URL; the first answer wins; what a plugin leaves to others returns None."""
    log: list[Any] = []
    store, executor = LoggedStore(log), LoggedExecutor(log)

    class Answers:
        @hookimpl
        def cano_open_store(self, url: str) -> Any:
            log.append(url)
            return store if url == "mine://store" else None

        @hookimpl
        def cano_open_executor(self, url: str) -> Any:
            log.append(url)
            return executor if url == "mine://executor" else None

    class Passes:
        @hookimpl(tryfirst=True)
        def cano_open_store(self, url: str) -> Any:
            log.append("passed")

    kernel = Kernel(
        discover=False, store="mine://store", executor="mine://executor", plugins=[Answers(), Passes()], clock=clock
    )
    async with kernel:
        assert kernel.backend is store
        assert kernel.executors == {"default": executor}

    assert sorted(map(str, log[:3])) == ["mine://executor", "mine://store", "passed"]
    assert log[-2:] == ["executor close", "store close"]


class Doubles(Node[str, int, int]):
    """A node with work for an executor."""

    async def prep(self, store: Any) -> int:
        """Read the number."""
        return int(store["number"])

    async def exec(self, prepared: int) -> int:
        """Double it."""
        return prepared * 2

    async def post(self, store: Any, prepared: int, result: int) -> str:
        """Keep it."""
        store["number"] = result
        return "start" if result < 8 else "end"


async def test_executors_get_the_exec_phase(clock: VirtualClock) -> None:
    """One call per attempt of `exec`, which says where it belongs and does not show the store."""
    executor, node = LoggedExecutor([]), Doubles()
    async with Kernel(discover=False, executor=executor, clock=clock) as kernel:
        result = await kernel.run(flow_of(node), {"number": 2}, run_id="r1")

    assert result.data == {"number": 8}
    assert [call.args for call in executor.calls] == [(2,), (4,)]
    first, second = executor.calls
    assert first.function == node.exec
    assert (first.run_id, first.state, first.seq, first.attempt) == ("r1", "start", 1, 1)
    assert (second.seq, second.attempt) == (2, 1)
    assert first.idempotency_key != second.idempotency_key
    assert await first() == 4


async def test_executors_failures_are_retried_like_local_ones(clock: VirtualClock) -> None:
    """What `submit` raises is the failure of `exec`; each attempt is a call, under one idempotency key."""

    class Unsteady(LoggedExecutor):
        async def submit(self, call: Call) -> Any:
            await super().submit(call)
            if call.attempt < 3:
                raise OSError("worker lost")
            return 100

    class Thrice:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1.0

    executor = Unsteady([])
    async with Kernel(discover=False, executor=executor, clock=clock) as kernel:
        result = await kernel.run(flow_of(Doubles(), retry=Thrice()), {"number": 2})

    assert result.data == {"number": 100}
    assert [call.attempt for call in executor.calls] == [1, 2, 3]
    assert len({call.idempotency_key for call in executor.calls}) == 1


async def test_executors_get_nothing_else(clock: VirtualClock) -> None:
    """Tasks and plain functions run right here."""
    executor = LoggedExecutor([])
    async with Kernel(discover=False, executor=executor, clock=clock) as kernel:
        await kernel.run(flow_of(end))
        await kernel.run(flow_of(lambda store: "end"))

    assert executor.calls == []
    assert isinstance(executor, Executor)


# what it runs


@dataclass
class Own:
    """A store of the user's own."""

    count: int = 0


class ReadOnly(Mapping[str, int]):
    """A mapping that is no dict."""

    def __getitem__(self, key: str) -> int:
        return {"count": 1}[key]

    def __iter__(self) -> Iterator[str]:
        return iter(["count"])

    def __len__(self) -> int:
        return 1


COUNT = Key("count", int)


@pytest.mark.parametrize(
    "data", [{"count": 1}, {COUNT: 1}, MappingProxyType({"count": 1}), ReadOnly()], ids=["dict", "key", "proxy", "own"]
)
async def test_data_is_any_mapping(kernel: Kernel, data: Mapping[Any, Any]) -> None:
    """The run gets a copy, in a `KeyValueStore`; the result has a dict."""
    before = dict(data)

    async def count(store: KeyValueStore) -> str:
        assert isinstance(store, KeyValueStore)
        store[COUNT] += 1
        return "end"

    result = await kernel.run(flow_of(count), data)

    assert result.data == {"count": 2}
    assert dict(data) == before


async def test_no_data_is_an_empty_store(kernel: Kernel) -> None:
    """A run needs no data to begin with."""

    async def put(store: KeyValueStore) -> str:
        assert len(store) == 0
        store["a"] = 1
        return "end"

    assert (await kernel.run(flow_of(put))).data == {"a": 1}


async def test_a_memory_store_as_data(kernel: Kernel) -> None:
    """It is worked on itself, one step at a time."""
    store = MemoryStore({"count": 1})

    async def count(view: Any) -> str:
        view["count"] += 1
        return "end"

    result = await kernel.run(flow_of(count), store)

    assert store["count"] == 2
    assert result.data["count"] == 2


@pytest.mark.parametrize("store", [Own(), [1, 2], "text", 5, object()], ids=lambda store: type(store).__name__)
async def test_any_other_object_as_data(kernel: Kernel, store: Any) -> None:
    """It is handed to the tasks as it is, and is the result's data."""
    seen: list[Any] = []

    async def look(given: Any) -> str:
        seen.append(given)
        return "end"

    result = await kernel.run(flow_of(look), store)

    assert seen[0] is store
    assert result.data is store


@pytest.mark.parametrize("key", [5, None, ("a",), b"a"])
async def test_data_with_a_key_that_is_no_string(kernel: Kernel, key: Any) -> None:
    """It is refused before anything runs."""
    with pytest.raises(ConfigurationError, match="a key must be a string or a Key, not"):
        await kernel.run(flow_of(end), {key: 1})


@pytest.mark.parametrize("flow", [None, "flow", object(), end, Workflow])
async def test_what_is_no_workflow(kernel: Kernel, flow: Any) -> None:
    """Something else in place of the workflow is named, whatever was to be done with it."""
    for use in (kernel.run, kernel.start, lambda flow: kernel.orchestrate(flow, {})):
        with pytest.raises(ConfigurationError, match="expected a Workflow, not"):
            await use(flow)
    with pytest.raises(ConfigurationError, match="expected a Workflow, not"):
        kernel.bind(flow)


async def test_run_ids(kernel: Kernel) -> None:
    """Every run has an id of its own, later ones sort after earlier ones; an id that is given is used."""
    flow = flow_of(end)
    ids = [(await kernel.run(flow)).run_id for _ in range(300)]
    handle = await kernel.start(flow, run_id="mine")

    assert len(set(ids)) == 300
    assert ids == sorted(ids)
    assert handle.run_id == "mine"
    assert (await handle.result()).run_id == "mine"
    assert (await kernel.run(flow, run_id="also mine")).run_id == "also mine"


@pytest.mark.parametrize("run_id", ["", 5, b"id", ["id"]])
async def test_run_id_that_is_no_text(kernel: Kernel, run_id: Any) -> None:
    """Only a non-empty string is an id, for `run` and for `start`."""
    for use in (kernel.run, kernel.start):
        with pytest.raises(ConfigurationError, match="run_id must be a string that is not empty and"):
            await use(flow_of(end), run_id=run_id)


async def test_the_same_run_id_is_the_same_run() -> None:
    """With a store, starting is idempotent: the same id again is not run again, whether it has ended or goes on."""
    ran: list[str] = []
    go = asyncio.Event()

    async def work(store: Any) -> str:
        ran.append(current_step().run_id)
        await go.wait()
        store["a"] = 1
        return "end"

    flow = flow_of(work)
    async with Kernel(clock=VirtualClock(), grace=0) as kernel:
        first = asyncio.create_task(kernel.run(flow, run_id="r1"))
        await until(lambda: bool(ran))
        second = await kernel.start(flow, run_id="r1")
        go.set()
        results = [await first, await second.result(), await kernel.run(flow, run_id="r1")]

    assert ran == ["r1"]
    assert [(result.state, result.data, result.steps) for result in results] == [("end", {"a": 1}, 1)] * 3


async def test_active_runs(kernel: Kernel) -> None:
    """A kernel knows its runs while they last."""
    seen: list[list[str]] = []

    async def look(store: Any) -> str:
        seen.append(list(kernel.active))
        assert kernel.active["r1"].status is RunStatus.RUNNING
        return "end"

    await kernel.run(flow_of(look), run_id="r1")

    assert seen == [["r1"]]
    assert kernel.active == {}


async def test_a_workflow_in_two_kernels_at_once(clock: VirtualClock) -> None:
    """Each kernel binds a workflow for itself, with its own plugins."""
    flow, seen = flow_of(end), []
    one = Kernel(discover=False, plugins=[observer(lambda name, run: seen.append("one"), "cano_run_started")])
    two = Kernel(discover=False, plugins=[observer(lambda name, run: seen.append("two"), "cano_run_started")])
    async with one, two:
        await one.run(flow)
        await two.run(flow)
        await one.run(flow)

        assert one.bind(flow) is one.bind(flow)
        assert one.bind(flow) is not two.bind(flow)
    assert seen == ["one", "two", "one"]


async def test_default_config_of_a_plugin(clock: VirtualClock) -> None:
    """Tasks without a config, in workflows without one, have what the first plugin answers."""

    class Patient:
        @hookimpl
        def cano_default_config(self) -> TaskConfig:
            return TaskConfig(retry=self)

        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1.0 if attempt < 5 else None

    async def fail(store: Any) -> str:
        raise OSError

    async with Kernel(discover=False, plugins=[Patient()], clock=clock) as kernel:
        with pytest.raises(RetryExhaustedError) as caught:
            await kernel.run(Workflow("a").register("a", fail).add_exit_state("end"))
        with pytest.raises(TaskError) as own:
            await kernel.run(Workflow("a", default_config=TaskConfig()).register("a", fail).add_exit_state("end"))
    assert caught.value.attempts == 5
    assert not isinstance(own.value, RetryExhaustedError)


# observers


async def test_observers_are_called_in_order(clock: VirtualClock) -> None:
    """Last registered first, those that ask for it before or after the others: pluggy's own order, for every hook."""
    seen: list[str] = []

    def noting(label: str, **options: Any) -> Any:
        return observer(lambda name, subject: seen.append(f"{label} {name}"), **options)

    plugins = [noting("a"), noting("last", trylast=True), noting("first", tryfirst=True), noting("b")]
    async with Kernel(discover=False, plugins=plugins, clock=clock) as kernel:
        await kernel.run(flow_of(end))

    assert seen == [f"{label} {name}" for name in LIFECYCLE for label in ("first", "b", "a", "last")]


async def test_observers_get_the_run_and_the_step(clock: VirtualClock) -> None:
    """Each hook has one argument: the run, or its step."""
    seen: list[tuple[str, type, str]] = []
    watching = observer(lambda name, subject: seen.append((name, type(subject), subject.run_id)))
    async with Kernel(discover=False, plugins=[watching], clock=clock) as kernel:
        await kernel.run(flow_of(end), run_id="r1")

    assert seen == [(name, Run if "_run_" in name else Step, "r1") for name in LIFECYCLE]


async def test_observers_without_arguments(clock: VirtualClock) -> None:
    """Who wants to know nothing about it need not take the argument."""
    seen: list[str] = []

    class Brief:
        @hookimpl
        def cano_run_started(self) -> None:
            seen.append("run started")

        @hookimpl
        def cano_step_started(self) -> None:
            seen.append("step started")

        @hookimpl
        def cano_step_finished(self) -> None:
            seen.append("step finished")

        @hookimpl
        def cano_transition_committed(self) -> None:
            seen.append("committed")

        @hookimpl
        def cano_run_finished(self) -> None:
            seen.append("run finished")

    async with Kernel(discover=False, plugins=[Brief()], clock=clock) as kernel:
        await kernel.run(flow_of(end))

    assert seen == ["run started", "step started", "step finished", "committed", "run finished"]


async def test_wrappers_go_around_the_others(clock: VirtualClock) -> None:
    """pluggy's hook wrappers, of both kinds, work for lifecycle hooks as for any other."""
    seen: list[str] = []

    class New:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            seen.append("new before")
            result = yield
            seen.append("new after")
            return result

    class Outer:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            seen.append("outer before")
            result = yield
            seen.append("outer after")
            return result

    plain = observer(lambda name, step: seen.append(f"plain {step.seq}"), "cano_step_started")
    async with Kernel(discover=False, plugins=[New(), Outer(), plain], clock=clock) as kernel:
        await kernel.run(flow_of(end))

    assert seen == ["outer before", "new before", "plain 1", "new after", "outer after"]


@pytest.mark.parametrize("failing", [True, False], ids=["failing run", "good run"])
async def test_observers_that_raise_never_break_a_run(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture, failing: bool
) -> None:
    """Whatever hook it is, the run goes on as if nothing was; the others are called."""
    hooks = [*LIFECYCLE, "cano_step_failed", "cano_step_retrying"]
    seen: list[str] = []

    def raises(name: str, subject: Any) -> None:
        raise RuntimeError(name)

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1.0 if attempt == 1 else None

    async def work(store: Any) -> str:
        store["attempt"] = current_step().attempt
        if failing or current_step().attempt == 1:
            raise OSError
        return "end"

    plugins = [observer(lambda name, subject: seen.append(name), *hooks), observer(raises, *hooks)]
    async with Kernel(discover=False, plugins=plugins, clock=clock) as kernel:
        flow = flow_of(work, retry=Once())
        if failing:
            with pytest.raises(RetryExhaustedError):
                await kernel.run(flow)
        else:
            assert (await kernel.run(flow)).data == {"attempt": 2}
        counted = kernel.observer_errors

    begin = ["cano_run_started", "cano_step_started", "cano_step_retrying"]
    ending = ["cano_step_failed"] if failing else ["cano_step_finished", "cano_transition_committed"]
    assert seen == [*begin, *ending, "cano_run_finished"]
    assert sorted(counted.values()) == [1] * len(seen)
    assert all(any(name in key for key in counted) for name in seen)


async def test_observers_that_raise_are_reported_once_and_counted(
    clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the first failure of each observer, with its traceback; `observer_errors` has how many."""

    class Broken:
        @hookimpl
        def cano_step_started(self, step: Step) -> None:
            raise RuntimeError("started is broken")

        @hookimpl
        def cano_step_finished(self) -> None:
            raise ValueError("finished is broken")

    flow = flow_of(end)
    with caplog.at_level(logging.ERROR, logger="cano"):
        async with Kernel(discover=False, plugins=[Broken()], clock=clock) as kernel:
            assert kernel.observer_errors == {}
            for _ in range(5):
                await kernel.run(flow)
            counted = kernel.observer_errors

    assert sorted(counted.values()) == [5, 5]
    assert all("Broken.cano_step_" in name for name in counted)
    assert len(caplog.records) == 2
    assert "Broken.cano_step_started raised; the run continues" in caplog.records[0].getMessage()
    assert "started is broken" in caplog.text
    assert "finished is broken" in caplog.text


async def test_what_is_counted_cannot_be_changed(clock: VirtualClock) -> None:
    """`observer_errors` is a copy."""
    async with Kernel(discover=False, clock=clock) as kernel:
        errors: Any = kernel.observer_errors
        errors["mine"] = 1

        assert kernel.observer_errors == {}


async def test_wrappers_and_what_they_wrap_are_isolated_from_each_other(clock: VirtualClock) -> None:
    """Around a hook with wrappers, too, everybody is called, whoever raises; and who it was is counted."""
    seen: list[str] = []

    class Before:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            raise RuntimeError("before")
            yield

    class After:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            yield
            raise RuntimeError("after")

    class Never:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            yield from ()

    class Twice:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            yield
            yield

    class Short:
        @hookimpl(wrapper=True)
        def cano_step_started(self) -> Iterator[None]:
            answers = yield
            seen.append(f"short got {answers}")
            return answers

    class New:
        @hookimpl(wrapper=True)
        def cano_step_started(self, step: Step) -> Iterator[None]:
            answers = yield
            seen.append(f"new got {answers}")
            return answers

    class Inside:
        @hookimpl
        def cano_step_started(self, step: Step) -> None:
            raise RuntimeError("inside")

    last = observer(lambda name, step: seen.append("last"), "cano_step_started")
    plugins = [Short(), last, Before(), After(), Never(), Inside(), Twice(), New()]
    async with Kernel(discover=False, plugins=plugins, clock=clock) as kernel:
        assert (await kernel.run(flow_of(end))).state == "end"
        counted = kernel.observer_errors

    assert seen == ["last", "short got []", "new got []"]
    names = {name.partition("<locals>.")[2].partition(".")[0]: count for name, count in counted.items()}
    assert names == {"Before": 1, "After": 1, "Never": 1, "Twice": 1, "Inside": 1}


async def test_a_wrapper_around_a_kernels_start_and_stop(clock: VirtualClock) -> None:
    """These may be async: they are awaited, and what is raised in them is raised, as without the wrapper."""
    seen: list[str] = []

    class Wraps:
        @hookimpl(wrapper=True)
        def cano_kernel_started(self, kernel: Kernel) -> Iterator[None]:
            seen.append("before")
            return (yield)

        @hookimpl(wrapper=True)
        def cano_kernel_stopping(self, kernel: Kernel) -> Iterator[None]:
            return (yield)

    class Waits:
        @hookimpl
        async def cano_kernel_started(self, kernel: Kernel) -> None:
            await asyncio.sleep(0)
            seen.append("started")

        @hookimpl
        async def cano_kernel_stopping(self, kernel: Kernel) -> None:
            await asyncio.sleep(0)
            raise LookupError("stopping")

    kernel = Kernel(discover=False, plugins=[Waits(), Wraps()], clock=clock)
    await kernel.run(flow_of(end))
    assert seen == ["before", "started"]
    with pytest.raises(LookupError, match="stopping"):
        await kernel.close()


async def test_each_kernel_counts_for_itself(clock: VirtualClock) -> None:
    """Two kernels with one broken plugin report it each."""

    class Broken:
        @hookimpl
        def cano_run_started(self) -> None:
            raise RuntimeError

    plugin, flow = Broken(), flow_of(end)
    one, two = (Kernel(discover=False, plugins=[plugin], clock=clock) for _ in range(2))
    async with one, two:
        await one.run(flow)

        assert sum(one.observer_errors.values()) == 1
        assert two.observer_errors == {}


async def test_a_kernel_that_is_closed_while_it_opens_closes_its_store() -> None:
    """The store that was being opened is closed again, and the call that opened it is refused."""
    opening, go_on, log = asyncio.Event(), asyncio.Event(), list[str]()

    class Slow(MemoryBackend):
        async def open(self) -> None:
            opening.set()
            await go_on.wait()
            log.append("opened")

        async def close(self) -> None:
            log.append("closed")

    kernel = Kernel(store=Slow(), discover=False)
    opened = asyncio.ensure_future(kernel.open())
    await opening.wait()
    await kernel.close()
    go_on.set()

    with pytest.raises(StoreUnavailableError, match="this kernel was closed"):
        await opened
    assert log == ["opened", "closed"]
