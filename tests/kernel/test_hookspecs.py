"""The hooks: documented, really called, and implemented as they are specified."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import FunctionType, SimpleNamespace
from typing import Any

import cano
import click
import pluggy
import pytest
from cano import (
    HOOK_NAMESPACE,
    Call,
    Capabilities,
    Codec,
    CodecLayer,
    ConfigurationError,
    ContextLayer,
    Executor,
    Expect,
    Kernel,
    Key,
    KeyValueStore,
    LateRun,
    LayerContext,
    Node,
    RetryStrategy,
    Run,
    RunStatus,
    Step,
    StoreBackend,
    TaskConfig,
    TaskError,
    Workflow,
    hookimpl,
    hookspecs,
    wait_for,
)
from cano.engine import ports
from cano.engine.ports import BoundState, BoundWorkflow, Caller, Host, RunKeeper, Work
from cano.model import drawing
from cano.plugins.loading import Plugins
from cano.testing import VirtualClock
from cano_cli.commands import add_plugin_commands
from cano_memory.backend import MemoryBackend

SPECS: dict[str, Callable[..., Any]] = {
    name: value
    for name, value in vars(hookspecs).items()
    if isinstance(value, FunctionType) and hasattr(value, f"{HOOK_NAMESPACE}_spec")
}
LIFECYCLE = [name for name in SPECS if name.startswith(("cano_run_", "cano_step_", "cano_transition_"))]
every_hook = pytest.mark.parametrize("name", SPECS)


def parameters(function: Callable[..., Any]) -> list[str]:
    """The names of a function's parameters, without self."""
    return [name for name in inspect.signature(function).parameters if name != "self"]


def hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a spec or an implementation, resolved."""
    package = importlib.import_module(function.__module__.partition(".")[0])
    public = {
        name: getattr(package, name) for name in getattr(package, "__all__", ())
    }  # some are imported on first use
    return typing.get_type_hints(function, localns={**vars(ports), **vars(cano), **public})


# documented


def test_there_are_hooks() -> None:
    """The file's public functions are all hooks, and the hooks are found here."""
    functions = [name for name, value in vars(hookspecs).items() if isinstance(value, FunctionType)]

    assert functions == list(SPECS)
    assert len(LIFECYCLE) == 9


@every_hook
def test_every_hook_is_documented(name: str) -> None:
    """A hook's docstring begins with a sentence and says what each parameter is, in order, and nothing of others."""
    text = inspect.getdoc(SPECS[name]) or ""
    summary, _, arguments = text.partition("\n\nArgs:\n")

    assert summary.partition("\n\n")[0].endswith("."), "the first paragraph is a sentence"
    assert re.findall(r"^    (\w+): \S", arguments, re.MULTILINE) == parameters(SPECS[name])


@every_hook
def test_every_hook_is_annotated(name: str) -> None:
    """Each parameter and the result have a type."""
    assert sorted(hints(SPECS[name])) == sorted([*parameters(SPECS[name]), "return"])


@pytest.mark.parametrize("name", LIFECYCLE)
def test_a_lifecycle_hook_takes_one_argument(name: str) -> None:
    """Lifecycle hooks are called directly, with exactly one argument, and return nothing; one says if it logs."""
    assert len(parameters(SPECS[name])) == 1
    returned = hints(SPECS[name])["return"]
    assert returned == (bool | None if name == "cano_run_late" else type(None))


# called


class State(Enum):
    """The states of the workflows below."""

    ASK = 1
    WORK = 2
    DONE = 3


class Twice:
    """One retry."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Again, once."""
        return 1.0 if attempt == 1 else None


class Here:
    """An executor that executes right here."""

    remote = True

    async def submit(self, call: Call) -> Any:
        """Do it."""
        return await call()


class Text:
    """A codec for whatever has a repr that is read back as a string."""

    def encode(self, value: Any) -> bytes:
        """As text."""
        return repr(value).encode()

    def decode(self, data: bytes, type: Any = None) -> Any:
        """The text."""
        return data.decode()

    def register(self, *types: Any) -> None:
        """It makes no use of types."""


class Mirror:
    """A layer that turns bytes round."""

    def wrap(self, data: bytes) -> bytes:
        """Backwards."""
        return data[::-1]

    def unwrap(self, data: bytes) -> bytes:
        """Forwards again."""
        return data[::-1]


PLACE = LayerContext("store", "run", "key")


class Bound(Mirror):
    """A layer that binds values to their place."""

    def wrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Backwards, before the key."""
        return data[::-1] + context.key.encode()

    def unwrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """Forwards again."""
        return data.removesuffix(context.key.encode())[::-1]

    def is_current(self, data: bytes) -> bool:
        """It has one form only."""
        return True


class Everything:
    """Implements every hook, and notes each call in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.heard: set[str] = set()
        self.notes: dict[str, Any] = {}

    def note(self, name: str, about: Any = None) -> None:
        """Note a call."""
        self.calls.append(name)
        self.heard.add(name)
        self.notes[name] = about

    @hookimpl
    def cano_add_hookspecs(self, pm: pluggy.PluginManager) -> None:
        """Note it."""
        self.note("cano_add_hookspecs", pm)

    @hookimpl
    def cano_codec(self) -> Codec | None:
        """Note it."""
        self.note("cano_codec")
        return Text()

    @hookimpl
    def cano_codec_layer(self, spec: str) -> CodecLayer | None:
        """Note it."""
        self.note("cano_codec_layer", spec)
        return Bound() if spec == "bound" else Mirror()

    @hookimpl
    def cano_open_store(self, url: str) -> StoreBackend | None:
        """Note it."""
        self.note("cano_open_store", url)
        return MemoryBackend(strict=url.startswith("layered:"))

    @hookimpl
    def cano_seal_store(self, store: StoreBackend, layer: ContextLayer, names: Sequence[str]) -> StoreBackend | None:
        """Note it, and leave the store as it is."""
        self.note("cano_seal_store", (layer.unwrap_in(layer.wrap_in(b"ab", PLACE), PLACE), names))
        return store

    @hookimpl
    def cano_stores(self) -> Mapping[str, Capabilities]:
        """Note it."""
        self.note("cano_stores")
        return {"guest": MemoryBackend().capabilities}

    @hookimpl
    def cano_open_executor(self, url: str) -> Executor | None:
        """Note it."""
        self.note("cano_open_executor", url)
        return Here()

    @hookimpl
    def cano_keep_runs(self, kernel: Host) -> RunKeeper | None:
        """Note it, and leave runs to another plugin."""
        self.note("cano_keep_runs", kernel)
        return None

    @hookimpl
    async def cano_kernel_started(self, kernel: Kernel) -> None:
        """Note it."""
        self.note("cano_kernel_started", kernel)

    @hookimpl
    def cano_bind_state(self, state: BoundState, kernel: Host) -> Work | None:
        """Note it, and leave the state to the engine."""
        self.note("cano_bind_state", (state.state, kernel))
        return None

    @hookimpl
    def cano_bind_call(self, state: BoundState, executor: Executor, config: TaskConfig, kernel: Host) -> Caller | None:
        """Note it, and execute the function here."""
        self.note("cano_bind_call", (state.name, executor, config.priority, kernel))
        return state.call if state.node is None else state.node.exec

    @hookimpl
    def cano_default_config(self) -> TaskConfig | None:
        """Note it."""
        self.note("cano_default_config")
        return TaskConfig(retry="twice")

    @hookimpl
    def cano_retry_strategy(self, spec: str) -> RetryStrategy | None:
        """Note it."""
        self.note("cano_retry_strategy", spec)
        return Twice()

    @hookimpl
    def cano_watch_lateness(self, plan: BoundWorkflow, kernel: Host) -> Any:
        """Note it, and leave it to others."""
        self.note("cano_watch_lateness", plan)

    @hookimpl
    def cano_draw(self, flow: Workflow[Any], run: Any, history: Sequence[Any], around: str | None) -> str:
        """Note it."""
        self.note("cano_draw", (flow, run, history, around))
        return "<svg/>"

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Note it."""
        self.note("cano_run_started", run.resumed)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note it."""
        self.note("cano_step_started", (step.state, step.attempt, step.next_state))

    @hookimpl
    def cano_phase_started(self, step: Step) -> None:
        """Note it."""
        self.note("cano_phase_started", step.phase)

    @hookimpl
    def cano_step_retrying(self, step: Step) -> None:
        """Note it."""
        self.note("cano_step_retrying", (step.attempt, type(step.error), step.delay))

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note it."""
        self.note("cano_step_finished", (step.state, step.next_state))

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note it."""
        self.note("cano_step_failed", step.error)

    @hookimpl
    def cano_transition_committed(self, step: Step) -> None:
        """Note it."""
        self.note("cano_transition_committed", (step.state, step.next_state))

    @hookimpl
    def cano_run_late(self, late: LateRun) -> None:
        """Note it."""
        self.note("cano_run_late", late)

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Note it."""
        self.note("cano_run_parked", run.status)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Note it."""
        self.note("cano_run_finished", (run.status, run.error))

    @hookimpl
    async def cano_kernel_stopping(self, kernel: Kernel) -> None:
        """Note it."""
        self.note("cano_kernel_stopping", kernel)

    @hookimpl
    def cano_commands(self, app: Any) -> None:
        """Note it."""
        self.note("cano_commands", app)


FAILING = Key("failing", int)


class Flaky(Node[State, None, None]):
    """Fails as often as the store says."""

    async def prep(self, store: KeyValueStore) -> None:
        """Nothing to prepare."""

    async def exec(self, prepared: None) -> None:
        """Nothing to do."""

    async def post(self, store: KeyValueStore, prepared: None, result: None) -> State:
        """Fail or go on."""
        if cano.current_step().attempt <= store.get(FAILING, default=0):
            raise OSError("down")
        return State.DONE


async def ask(store: KeyValueStore) -> State:
    """Wait for an answer."""
    return wait_for("answer", then=State.WORK)


def test_everything_implements_every_hook() -> None:
    """No hook is forgotten below."""
    assert [name for name in vars(Everything) if name.startswith("cano_")] == list(SPECS)


async def start_run_and_stop(plugin: Everything) -> None:
    """Two runs, one of which fails."""
    kernel = Kernel(
        store="guest://", executor="other://", plugins=[plugin], discover=False, clock=VirtualClock(), grace=0
    )
    plugin.calls.clear()
    async with kernel:
        starting = ["cano_codec", "cano_open_store", "cano_open_executor", "cano_keep_runs", "cano_kernel_started"]
        assert plugin.calls == ["cano_add_hookspecs", *starting]
        assert plugin.notes["cano_open_store"] == "guest://"
        assert plugin.notes["cano_open_executor"] == "other://"
        assert plugin.notes["cano_keep_runs"] is kernel
        assert plugin.notes["cano_kernel_started"] is kernel
        plugin.calls.clear()

        flow = Workflow(State.WORK).register(State.WORK, Flaky()).add_exit_states([State.DONE, State.ASK])
        await kernel.run(flow, {"failing": 1})
        assert plugin.calls == [
            "cano_default_config",
            "cano_bind_state",
            "cano_retry_strategy",
            "cano_bind_call",
            "cano_run_started",
            "cano_step_started",
            *["cano_phase_started"] * 3,
            "cano_step_retrying",
            "cano_phase_started",
            "cano_step_finished",
            "cano_transition_committed",
            "cano_run_finished",
        ]
        assert plugin.notes["cano_bind_state"] == (State.WORK, kernel)
        assert plugin.notes["cano_retry_strategy"] == "twice"
        assert plugin.notes["cano_bind_call"] == ("WORK", kernel.executors["default"], 0, kernel)
        assert plugin.notes["cano_run_started"] is False
        assert plugin.notes["cano_step_started"] == (State.WORK, 1, None)
        assert plugin.notes["cano_phase_started"] == "post"
        assert plugin.notes["cano_step_retrying"] == (1, OSError, 1.0)
        assert plugin.notes["cano_step_finished"] == (State.WORK, State.DONE)
        assert plugin.notes["cano_transition_committed"] == (State.WORK, State.DONE)
        assert plugin.notes["cano_run_finished"] == (RunStatus.SUCCEEDED, None)
        plugin.calls.clear()

        with pytest.raises(TaskError) as caught:
            await kernel.run(flow, {"failing": 2})
        assert plugin.calls == [
            "cano_run_started",
            "cano_step_started",
            *["cano_phase_started"] * 3,
            "cano_step_retrying",
            "cano_phase_started",
            "cano_step_failed",
            "cano_run_finished",
        ]
        assert plugin.notes["cano_step_failed"] is caught.value
        assert plugin.notes["cano_run_finished"] == (RunStatus.FAILED, caught.value)
        plugin.calls.clear()
    assert plugin.calls == ["cano_kernel_stopping"]
    assert plugin.notes["cano_kernel_stopping"] is kernel


async def park_and_go_on(plugin: Everything) -> None:
    """A run that waits for a signal and gets it."""
    async with Kernel(plugins=[plugin], discover=False, store="guest://", clock=VirtualClock()) as kernel:
        flow = Workflow(State.ASK).register(State.ASK, ask).register(State.WORK, Flaky()).add_exit_state(State.DONE)
        handle = await kernel.start(flow, {})
        while "cano_run_parked" not in plugin.calls:
            await kernel.clock.sleep(1)
        assert "cano_run_finished" not in plugin.calls
        assert plugin.notes["cano_run_parked"] is RunStatus.PARKED

        await kernel.signal(handle.run_id, "answer")
        assert (await handle.result()).state is State.DONE
        assert plugin.notes["cano_run_started"] is True
        assert plugin.calls[-1] == "cano_run_finished"


async def start_with_layers(plugin: Everything) -> None:
    """A kernel whose store's URL names layers around the codec."""
    plugin.calls.clear()
    async with Kernel(store="layered://?codec=mirror:1&a=b", plugins=[plugin], discover=False):
        assert plugin.calls[1:] == [
            "cano_codec", "cano_codec_layer", "cano_open_store", "cano_keep_runs", "cano_kernel_started",
        ]  # fmt: skip
        assert plugin.notes["cano_codec_layer"] == "mirror:1"
        assert plugin.notes["cano_open_store"] == "layered://?a=b"
    plugin.calls.clear()
    async with Kernel(store="layered://?codec=mirror,bound,mirror", plugins=[plugin], discover=False):
        assert plugin.calls[1:6] == ["cano_codec", *["cano_codec_layer"] * 3, "cano_open_store"]
        assert plugin.notes["cano_seal_store"] == (b"ab", ["mirror", "bound", "mirror"])


def add_commands(plugin: Everything) -> None:
    """What the command line does with plugins."""
    app = click.Group("cano")
    plugin.calls.clear()
    add_plugin_commands(app, Plugins([plugin], discover=False, block=(), strict=False), print)

    assert plugin.calls == ["cano_add_hookspecs", "cano_commands"]
    assert plugin.notes["cano_commands"] is app


async def test_hooks_are_called_at_their_moments() -> None:
    """Each hook is called once at its moment, with what its docstring says; deciders when a workflow is bound."""
    await start_run_and_stop(Everything())


async def test_parking_is_told() -> None:
    """A run that is parked is reported as parked, not as finished; and as resumed when it goes on."""
    await park_and_go_on(Everything())


async def test_layers_are_asked_for() -> None:
    """Each layer that a store's URL names is asked for by its item, and the store's plugin sees nothing of it."""
    await start_with_layers(Everything())


def test_the_command_line_calls_its_hook() -> None:
    """The hook of the command line, which the kernel itself never calls, is called by cano-cli with its group."""
    add_commands(Everything())


async def ask_for_another_store(plugin: Everything) -> None:
    """A kernel that no plugin can open the store of tells what there would be."""
    hookless = SimpleNamespace(cano_stores=plugin.cano_stores)
    with pytest.raises(ConfigurationError, match=r"the store 'other://'; there are: guest$"):
        await Kernel(store="other://", plugins=[hookless], discover=False).open()


async def be_late(plugin: Everything) -> None:
    """A run that takes longer than expected."""
    async with Kernel(plugins=[plugin], discover=False, store="guest://", clock=VirtualClock()) as kernel:

        async def slow(store: KeyValueStore) -> State:
            await kernel.clock.sleep(2)
            return State.DONE

        flow = Workflow(State.WORK, expect=Expect(within=1)).register(State.WORK, slow).add_exit_state(State.DONE)
        await kernel.run(flow)
        assert plugin.notes["cano_watch_lateness"] is kernel.bind(flow)
        assert plugin.notes["cano_run_late"].within == 1


async def test_lateness_is_told() -> None:
    """A workflow that expects something asks for an observer when it is bound; a late run is told."""
    await be_late(Everything())


async def test_without_a_plugin_that_finds_late_runs_the_bind_fails() -> None:
    """A workflow that expects something is refused if no plugin would find its late runs."""
    flow = Workflow(State.WORK, name="w", expect=Expect(within=1)).register(State.WORK, ask).add_exit_state(State.DONE)
    flow.register(State.ASK, ask)
    with pytest.raises(ConfigurationError, match=r"'w' has expect=, and the plugin 'durability', which finds late"):
        Kernel(discover=False, block=["durability"]).bind(flow)


def draw(plugin: Everything) -> None:
    """A picture of a workflow."""
    flow = Workflow(State.WORK, name="w")
    kernel = Kernel(plugins=[plugin], discover=False)
    assert drawing.svg(kernel, flow, None, (), "WORK") == "<svg/>"
    assert plugin.notes["cano_draw"] == (flow, None, (), "WORK")
    assert drawing.mimebundle(kernel, flow)["image/svg+xml"] == "<svg/>"


def test_a_plugin_draws() -> None:
    """A picture of a workflow is the answer of a plugin."""
    draw(Everything())


async def test_no_hook_is_dead() -> None:
    """Every hook of the file is called by something."""
    plugin = Everything()
    await start_run_and_stop(plugin)
    await park_and_go_on(plugin)
    await start_with_layers(plugin)
    add_commands(plugin)
    await ask_for_another_store(plugin)
    await be_late(plugin)
    draw(plugin)

    assert plugin.heard == set(SPECS)


async def test_the_first_answer_wins() -> None:
    """Of several plugins that could answer, the last one registered is asked first, and the rest not at all."""

    class First(Everything):
        pass

    first, second = First(), Everything()
    async with Kernel(store="guest://", plugins=[first, second], discover=False):
        assert second.notes["cano_open_store"] == "guest://"
        assert "cano_open_store" not in first.calls
        assert "cano_kernel_started" in first.calls


async def test_a_store_object_is_not_asked_for() -> None:
    """Where the store is an object already, no plugin is asked."""
    plugin = Everything()
    async with Kernel(store=MemoryBackend(), plugins=[plugin], discover=False) as kernel:
        assert isinstance(kernel.backend, MemoryBackend)
        assert isinstance(kernel.backend.capabilities, Capabilities)
    assert "cano_open_store" not in plugin.calls


# implemented as specified


def implementations() -> list[tuple[str, Callable[..., Any]]]:
    """Every hook implementation of the installed plugins, by the hook's name."""
    found = []
    for point in importlib.metadata.entry_points(group=HOOK_NAMESPACE):
        manager = pluggy.PluginManager(HOOK_NAMESPACE)
        manager.register(point.load(), point.name)
        for caller in manager.get_hookcallers(manager.get_plugin(point.name)) or ():
            found += [(caller.name, impl.function) for impl in caller.get_hookimpls()]
    return found


def test_our_plugins_implement_hooks_as_specified() -> None:
    """An implementation takes a hook's parameters with its types, and returns what the hook may return.

    No type checker sees this: pluggy calls implementations by name.
    """
    found = implementations()
    assert {name for name, _ in found} >= {"cano_open_store", "cano_retry_strategy", "cano_default_config"}
    for name, function in found:
        if name not in SPECS:
            continue  # a hook of another plugin's
        spec, impl = hints(SPECS[name]), hints(function)
        where = f"{function.__module__}.{function.__qualname__}"
        assert set(parameters(function)) <= set(parameters(SPECS[name])), where
        for key in parameters(function):
            assert impl[key] in (spec[key], Any), f"{where}: {key}"
        assert inspect.getdoc(function), where
        allowed = typing.get_args(spec["return"]) or (spec["return"],)
        for kind in typing.get_args(impl["return"]) or (impl["return"],):
            assert any(fits(kind, one) for one in allowed), f"{where} returns {kind}, the hook {allowed}"


def fits(kind: Any, allowed: Any) -> bool:
    """Whether a return type is one that is allowed: the same, a subclass, or a class that has all of a protocol."""
    if kind == allowed or allowed is Any:
        return True
    if getattr(allowed, "_is_protocol", False):
        methods = [name for name, value in vars(allowed).items() if callable(value) and not name.startswith("_")]
        return all(hasattr(kind, name) for name in methods)
    return isinstance(kind, type) and isinstance(allowed, type) and issubclass(kind, allowed)
