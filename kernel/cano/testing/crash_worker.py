"""The process in which `survives_crashes` lets runs die: it calls `main`.

It imports the workflow once. Then, for each line of JSON on its stdin, it forks a child that plays the run and dies
where it is told to, and writes what became of that to a file descriptor, as lines of JSON too.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import ModuleType
from typing import Any

from cano.engine.clock import SystemClock
from cano.errors import CanoError, ConfigurationError, RunNotFoundError
from cano.hookspecs import hookimpl
from cano.kernel.kernel import Kernel
from cano.model.workflow import Workflow
from cano.plugins.codec_layers import Layers, split_codec
from cano.protocols import Clock, StoreBackend
from cano.records import Commit, RunFilter, RunRecord
from cano.testing.clock import START, VirtualClock
from cano.testing.contract_base import installed_backend
from cano.testing.faults import Faults, FaultyStore

LEASE = 3e7
"""Seconds. So long that no virtual time is spent on renewals and looks into the store; nobody waits for it to lapse."""


class Virtual(VirtualClock):
    """Virtual time that can begin later."""

    def shift(self, seconds: float) -> None:
        """Begin later."""
        self._wall += seconds


class Real(SystemClock):
    """Real time, but for the date, which can be a later one."""

    def __init__(self) -> None:
        self._late = 0.0

    def shift(self, seconds: float) -> None:
        """Be later."""
        self._late += seconds

    def time(self) -> float:
        """Wall-clock seconds."""
        return time.time() + self._late


def load_flow(module: str, attribute: str, file: str | None = None) -> Workflow[Any]:
    """The workflow `attribute` of `module`, or what it makes when it is called.

    Args:
        module: the module's name.
        attribute: where the workflow is in it, such as "flow" or "Flows.order".
        file: the module's file, where it cannot be imported by its name, as tests often cannot.

    Raises:
        ConfigurationError: there is no workflow.
    """
    found: Any = _module(module, file)
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Workflow) and callable(found):
        found = found()
    if not isinstance(found, Workflow):
        raise ConfigurationError(f"{module}:{attribute} is no workflow, and no function that makes one")
    return found


def _module(name: str, file: str | None) -> ModuleType:
    with suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        if file is None or (spec is not None and spec.origin == file):
            return importlib.import_module(name)
    if file is None:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Stage:
    """A workflow and its kernel, ready to be played in forked children.

    Args:
        order: what to play: `store`, a URL; `virtual`, the kind of time; `data` and `signals`, as the codec wrote them.
        flow: the workflow.
        say: tells the parent something.
    """

    def __init__(self, order: Mapping[str, Any], flow: Workflow[Any], say: Callable[..., None]) -> None:
        self._flow = flow
        self._say = say
        self._clock = Virtual() if order["virtual"] else Real()
        self._points = Points(self._clock, say)
        self._kernel = Kernel(
            store=order["store"], plugins=[self], clock=self._clock, lease=LEASE, poll=LEASE / 3, grace=0
        )
        self._kernel.bind(flow)
        asyncio.run(self._warm_up(order["store"]))
        self._data: Mapping[str, str] = order["data"]
        self._signals: list[tuple[str, str]] = order["signals"]

    @hookimpl(tryfirst=True)
    def cano_open_store(self, url: str) -> StoreBackend:
        """The store, with its points: by this hook, so that the kernel sees to the layers that its URL names."""
        return FaultyStore(installed_backend(url), self._points.faults)

    async def _warm_up(self, url: str) -> None:
        """Import whatever store and codec import when they are used first: once for all, before the fork."""
        store, codec = installed_backend(split_codec(url)[0]), self._kernel.hook.cano_codec()
        await store.open()
        await store.runs(RunFilter(limit=0))
        await store.close()
        if codec is not None:
            codec.decode(codec.encode({}))

    def play(self, run_id: str, *, at: int | None, after: bool, late: float) -> None:
        """Play the run to its end, or until it dies.

        Args:
            run_id: its id.
            at: at which point to die, counted from 1; None is nowhere.
            after: whether to die when the store has done it, or before that.
            late: how many seconds later than the first time; more than none where the run has died before.
        """
        self._points.at, self._points.after = at, after
        self._clock.shift(late)
        asyncio.run(self._play(run_id, again=late > 0))

    async def _play(self, run_id: str, again: bool) -> None:
        async with self._kernel as kernel:
            if kernel.codec is not None:
                kernel.codec.register(*kernel.bind(self._flow).types())
            data = {key: self._decoded(value) for key, value in self._data.items()}
            if again:  # what it waited for was there already, had it not died
                await self._signal(run_id)
                await kernel.recover(self._flow)
            handle = await kernel.start(self._flow, data, run_id=run_id)
            if not again or self._signals:
                await self._signal(run_id)
            with suppress(CanoError):
                await handle.result()
            record = await kernel.required_keeper().load(run_id)
            layers = getattr(kernel.codec, "layers", Layers())
            own = {
                key: layers.unwrap(value) for key, value in record.data.items() if not key.startswith("\0")
            }  # the rest is the engine's
            keeps = kernel.backend is not None and kernel.backend.capabilities.history
            numbers = [line.seq for line in await kernel.history(run_id)] if keeps else [record.seq]
            self._say(
                status=record.status.value,
                state=record.state,
                data={key: base64.b64encode(value).decode() for key, value in own.items()},
                error=record.error and record.error.get("message"),
                unbroken=numbers == sorted(set(numbers)) and numbers[-1] == record.seq,
                free=record.holder is None,
                points=self._points.met,
            )

    async def _signal(self, run_id: str) -> None:
        """Send the signals, each under an id of its own, so that it counts once however often it is sent."""
        for number, (name, payload) in enumerate(self._signals):
            with suppress(RunNotFoundError):
                await self._kernel.signal(run_id, name, self._decoded(payload), id=f"{number} {name}")

    def _decoded(self, text: str) -> Any:
        """What the parent's codec has written, without layers."""
        codec: Any = self._kernel.codec
        return getattr(codec, "plain", codec).decode(base64.b64decode(text))


class Points:
    """The points at which a run may die: whatever it writes to the store, before and after.

    Attributes:
        faults: what the store meets.
        at, after: where to die.
        met: what each point was.
    """

    def __init__(self, clock: Clock, say: Callable[..., None]) -> None:
        self.faults = Faults(clock)
        self.at: int | None = None
        self.after = False
        self.met: list[str] = []
        self._clock = clock
        self._say = say
        self._numbers: dict[int, int] = {}
        for call in ("create", "claim", "commit"):
            self.faults.at_call(call, None).do(partial(self._before, call))
            self.faults.at_call(call, None, after=True).do(self._after)

    def _before(self, call: str, subject: Any) -> None:
        self.met.append(describe(call, subject))
        self._numbers[id(subject)] = len(self.met)
        if self.at == len(self.met) and not self.after:
            self._die()

    def _after(self, subject: Any) -> None:
        if self.after and self.at == self._numbers[id(subject)]:
            self._die()

    def _die(self) -> None:
        assert self.at is not None
        self._say(died=self.met[self.at - 1], late=self._clock.time() - START)
        os.kill(os.getpid(), signal.SIGKILL)


def describe(call: str, subject: Any) -> str:
    """What a write to the store is, in a few words."""
    if isinstance(subject, RunRecord):
        return f"the creation of a run of {subject.workflow!r}"
    if not isinstance(subject, Commit):
        return "a claim of the run"
    if subject.status.value == "running":
        moves = subject.seq != subject.expected_seq
        return f"transition {subject.seq} to {subject.state}" if moves else f"a note in state {subject.state}"
    return f"transition {subject.seq} to {subject.state}, {subject.status.value}"


def serve(say: Callable[..., None]) -> None:
    """Do what stdin says."""
    order = json.loads(sys.stdin.readline())
    sys.path[:] = order["path"]
    try:
        stage = Stage(order, load_flow(order["module"], order["attribute"], order["file"]), say)
    except BaseException:  # noqa: BLE001  # the parent raises it
        say(broken=traceback.format_exc())
        return
    say(ready=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                stage.play(**json.loads(line))
            except BaseException:  # noqa: BLE001  # the parent raises it
                say(broken=traceback.format_exc())
            finally:
                sys.stdout.flush()
                os._exit(0)
        _, status = os.waitpid(child, 0)
        say(ended=os.waitstatus_to_exitcode(status))


def main(descriptor: int) -> None:
    """Serve, and answer to a file descriptor."""

    def say(**what: Any) -> None:
        with open(descriptor, "w", closefd=False) as stream:
            stream.write(json.dumps(what) + "\n")

    serve(say)
