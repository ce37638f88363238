"""The worker process of `survives_crashes`, in whose children runs are killed. It calls `main`.

It imports the workflow once. Then, for each line of JSON on its stdin, it forks a child, which executes a run and kills
itself at the given point. The results are written to a file descriptor, as lines of JSON, too.
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

from cano.engine.step import Step
from cano.errors import CanoError, ConfigurationError, RunNotFoundError
from cano.hookspecs import hookimpl
from cano.kernel.handles import RunHandle
from cano.kernel.kernel import Kernel
from cano.model.workflow import Workflow
from cano.plugins.codec_layers import Layers, split_codec
from cano.protocols import Clock, StoreBackend
from cano.records import Appended, Commit, RunRecord, RunStatus
from cano.run_filter import RunFilter
from cano.runtime.clock import SystemClock
from cano.safe_text import safe_str
from cano.testing.clock import START, VirtualClock
from cano.testing.contract_base import installed_backend, loaded
from cano.testing.faults import Faults, FaultyStore

LEASE = 3e7
"""Seconds. Virtual time makes no stop for a renewal or a poll, and no run waits until its lease expires."""
QUIET = 100 * LEASE
"""Seconds of virtual time without a write to the store after which a run hangs."""


class Virtual(VirtualClock):
    """Virtual time with a date that can be shifted."""

    def shift(self, seconds: float) -> None:
        """Move the date forward."""
        self._wall += seconds


class Real(SystemClock):
    """Real time with a date that can be shifted."""

    def __init__(self) -> None:
        self._shift = 0.0

    def shift(self, seconds: float) -> None:
        """Move the date forward."""
        self._shift += seconds

    def time(self) -> float:
        """Return the shifted wall-clock time in seconds."""
        return time.time() + self._shift


def load_flow(module: str, attribute: str, file: str | None = None) -> Workflow[Any]:
    """Return the workflow `attribute` of `module`; or, if that is a function, its result.

    Args:
        module: the module's name.
        attribute: the workflow's name in the module, such as "flow" or "Flows.order".
        file: the module's file, if the module may not be importable by its name, as those of tests often are not.

    Raises:
        ConfigurationError: the attribute is neither a workflow nor a function that makes one.
    """
    found: Any = _module(module, file)
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if not isinstance(found, Workflow) and callable(found):
        found = found()
    if not isinstance(found, Workflow):
        raise ConfigurationError(f"{module}:{attribute} is not a workflow, nor a function that makes one")
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


class Executions:
    """Executions of one workflow in forked children of this process.

    Args:
        settings: `store`, a URL; `virtual`, the kind of time; `patience` in seconds; `data` and `signals`, encoded by
            the codec.
        flow: the workflow.
        report: sends values to the parent process.
    """

    def __init__(self, settings: Mapping[str, Any], flow: Workflow[Any], report: Callable[..., None]) -> None:
        self._flow = flow
        self._report = report
        self._clock = Virtual() if settings["virtual"] else Real()
        self._quiet = QUIET if settings["virtual"] else settings["patience"]
        self._steps: dict[tuple[str, int, str | None], Step] = {}  # those under way, by run, number and branch
        self._kept: dict[tuple[str, int], list[str]] = {}  # branches that finished before the crash, by run and number
        self._points = Points(self._clock, report)
        self._kernel = Kernel(
            store=settings["store"], plugins=[self], clock=self._clock, lease=LEASE, poll=LEASE / 3, grace=0
        )
        self._kernel.bind(flow)
        asyncio.run(self._warm_up(settings["store"]))
        self._data: Mapping[str, str] = settings["data"]
        self._signals: list[tuple[str, str]] = settings["signals"]

    @hookimpl(tryfirst=True)
    def cano_open_store(self, url: str) -> StoreBackend:
        """Return the store with its crash points. As a hook, so that the kernel adds the layers in the URL."""
        return FaultyStore(installed_backend(url), self._points.faults)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Note that a step, or a branch, is under way; or that a branch has finished before the crash."""
        if step.branch is not None and f"branch {step.seq} {step.branch}" in step.run.restored_values:
            self._kept.setdefault((step.run_id, step.seq), []).append(step.branch)
        self._steps[step.run_id, step.seq, step.branch] = step

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """Note that it has ended."""
        self._steps.pop((step.run_id, step.seq, step.branch), None)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """Note that it has ended."""
        self.cano_step_finished(step)

    async def _warm_up(self, url: str) -> None:
        """Use store and codec once before the fork, so that the children need not import their modules."""
        store, codec = installed_backend(split_codec(url)[0]), self._kernel.hook.cano_codec()
        await store.open()
        await store.runs(RunFilter(limit=0))
        await store.close()
        if codec is not None:
            codec.decode(codec.encode({}))

    def execute(self, run_id: str, *, at: int | None, after: bool, shift: float) -> None:
        """Execute the run to its end, or until the process kills itself.

        Args:
            run_id: the run's id.
            at: the point at which to kill the process, counted from 1; None for none.
            after: whether to kill it after the store has executed the call, or before.
            shift: seconds by which to move the date forward; more than 0 if the run was killed before.
        """
        self._points.at, self._points.after = at, after
        self._clock.shift(shift)
        asyncio.run(self._execute(run_id, recover=shift > 0))

    async def _execute(self, run_id: str, recover: bool) -> None:
        async with self._kernel as kernel:
            if kernel.codec is not None:
                kernel.codec.register(*kernel.bind(self._flow).types())
            data = {key: self._decoded(value) for key, value in self._data.items()}
            if recover:  # its signals would have been sent by now
                await self._signal(run_id)
                await kernel.recover(self._flow)
            handle = await kernel.start(self._flow, data, run_id=run_id)
            if not recover or self._signals:
                await self._signal(run_id)
            await self._ended(handle)
            assert kernel.backend is not None
            record = await loaded(kernel.backend, run_id)
            data = {key: self._without_layers(value) for key, value in record.data.items()}
            keeps = kernel.backend.capabilities.history
            numbers = [entry.seq for entry in await kernel.history(run_id)] if keeps else [record.seq]
            self._report(
                status=record.status.value,
                state=record.state,
                data={key: base64.b64encode(value).decode() for key, value in data.items()},
                error=record.error and record.error.get("message"),
                unbroken=numbers == sorted(set(numbers)) and numbers[-1] == record.seq,
                free=record.holder is None,
                points=self._points.met,
            )

    def _without_layers(self, value: Any) -> Any:
        """Return a stored value as the codec encoded it; a list in parts as one value."""
        codec: Any = self._kernel.codec
        layers, codec = getattr(codec, "layers", Layers()), getattr(codec, "plain", codec)
        found = Appended.mapped(value, layers.unwrap)
        if found.__class__ is not Appended:
            return found
        return codec.encode([item for part in found for item in codec.decode(part)])

    async def _ended(self, handle: RunHandle) -> None:
        """Wait for the end of the run. If it hangs, report why, and end the process."""
        result = asyncio.ensure_future(handle.result())
        while not result.done():
            writes = len(self._points.met)
            quiet = asyncio.ensure_future(self._clock.sleep(self._quiet))
            await asyncio.wait({result, quiet}, return_when=asyncio.FIRST_COMPLETED)
            quiet.cancel()
            if not result.done() and len(self._points.met) == writes:
                self._report(hangs=self._waiting() or f" {await self._kernel.explain(handle.run_id)}")
                os._exit(0)
        with suppress(CanoError):
            await result

    def _waiting(self) -> str:
        """Return what the steps under way wait for: each branch, and what may be missing; or each task."""
        lines = []
        split = {(run_id, seq) for run_id, seq, branch in self._steps if branch is not None}
        for (run_id, seq, branch), step in self._steps.items():
            place = f"state {safe_str(step.state)} of workflow {step.workflow!r}"
            if branch is not None:
                lines.append(f"in {place}, branch {branch!r} is waiting")
            elif (run_id, seq) not in split and step.run.status is RunStatus.RUNNING:
                lines.append(f"in {place}, the task is waiting")
        if kept := [repr(branch) for at in split for branch in self._kept.get(at, ())]:
            lines.append(
                f"finished before the crash, and therefore not called again: {', '.join(kept)}; "
                "a branch must not wait for what another branch does outside the store"
            )
        return "".join(f"\n  - {line}" for line in lines)

    async def _signal(self, run_id: str) -> None:
        """Send the signals, each with its own id, so that a repeated one is ignored."""
        for number, (name, payload) in enumerate(self._signals):
            with suppress(RunNotFoundError):
                await self._kernel.signal(run_id, name, self._decoded(payload), id=f"{number} {name}")

    def _decoded(self, text: str) -> Any:
        """Return the value that the parent's codec has encoded, without layers."""
        codec: Any = self._kernel.codec
        return getattr(codec, "plain", codec).decode(base64.b64decode(text))


class Points:
    """The points at which a run can be killed: before and after each write to the store.

    Attributes:
        faults: the faults of the store.
        at, after: the point at which to kill the process.
        met: a description of each point that the run has reached.
    """

    def __init__(self, clock: Clock, report: Callable[..., None]) -> None:
        self.faults = Faults(clock)
        self.at: int | None = None
        self.after = False
        self.met: list[str] = []
        self._clock = clock
        self._report = report
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
        self._report(died=self.met[self.at - 1], shift=self._clock.time() - START)
        os.kill(os.getpid(), signal.SIGKILL)


def describe(call: str, subject: Any) -> str:
    """Return a short description of a write to the store."""
    if isinstance(subject, RunRecord):
        return f"the creation of a run of {subject.workflow!r}"
    if not isinstance(subject, Commit):
        return "a claim of the run"
    if subject.status.value == "running":
        moves = subject.seq != subject.expected_seq
        return f"transition {subject.seq} to {subject.state}" if moves else f"a commit in state {subject.state}"
    return f"transition {subject.seq} to {subject.state}, {subject.status.value}"


def serve(report: Callable[..., None]) -> None:
    """Read settings and orders from stdin, and execute a run in a new child for each order."""
    settings = json.loads(sys.stdin.readline())
    sys.path[:] = settings["path"]
    try:
        flow = load_flow(settings["module"], settings["attribute"], settings["file"])
        executions = Executions(settings, flow, report)
    except BaseException:  # noqa: BLE001  # the parent raises it
        report(broken=traceback.format_exc())
        return
    report(ready=True)
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                executions.execute(**json.loads(line))
            except BaseException:  # noqa: BLE001  # the parent raises it
                report(broken=traceback.format_exc())
            finally:
                sys.stdout.flush()
                os._exit(0)
        _, status = os.waitpid(child, 0)
        report(ended=os.waitstatus_to_exitcode(status))


def main(descriptor: int) -> None:
    """Execute `serve`, and write its reports to a file descriptor."""

    def report(**values: Any) -> None:
        with open(descriptor, "w", closefd=False) as stream:
            stream.write(json.dumps(values) + "\n")

    serve(report)
