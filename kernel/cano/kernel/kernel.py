"""The Kernel: binds workflows and drives runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from cano.durability.journal import within_grace
from cano.engine.binding import Plan
from cano.engine.run import Run
from cano.engine.step import Step
from cano.engine.strand import UNMANAGED
from cano.engine.teardown import within
from cano.engine.view import StoreView, isolate
from cano.errors import ConfigurationError, ConflictError, RunTimeoutError, StoreError, StoreUnavailableError
from cano.kernel.handle import RunHandle
from cano.kernel.stored_runs import StoredRuns
from cano.model.config import positive_seconds
from cano.model.result import RunResult
from cano.model.store import Key, unpack_key
from cano.model.waiting import StoreFailed
from cano.model.workflow import Workflow
from cano.records import RunStatus


class Kernel(StoredRuns):
    """Runs workflows. An async context manager; used without `async with` it starts by itself.

    Args:
        store: URL of the store that keeps the runs, answered by a plugin; or a `StoreBackend`.
        executor: URL of an executor for the `exec` phase of nodes, or an `Executor`; None runs it right here.
        plugins: objects with hook implementations, or names of installed plugins.
        discover: whether to load every installed plugin.
        block: names of plugins never to import; the environment variable CANO_BLOCK adds to them.
        strict: whether a broken plugin is an error, rather than skipped with a warning.
        clock: where time comes from.
        lease: seconds for which a silent holder keeps a run: how soon others take over after a crash.
        poll: seconds between two looks into a durable store for what other processes did.
        grace: seconds that runs get to finish when the kernel closes, before they are interrupted.

    Raises:
        ConfigurationError: an argument is of the wrong kind.
    """

    async def run(
        self, flow: Workflow[Any], data: Any = None, *, run_id: str | None = None, timeout: float | None = None
    ) -> RunResult:
        """Run `flow` to its end.

        Args:
            flow: the workflow.
            data: a mapping with the run's first data, which is copied; or an object that the tasks get as it is.
            run_id: the run's id; by default a new one.
            timeout: seconds for the whole run, by the wall clock: also while it is parked or its process is down.
                None is no limit. A run that was started before keeps its own; resumed after it failed, it has as long
                again.

        Raises:
            ValidationError: the definition is wrong.
            WorkflowError: the run failed; the cause is what a task raised.
        """
        if not self._open:  # and so when it was closed, which `open` refuses
            await self.open()
        plan, store = self._prepared(flow, data, run_id, timeout)
        if self._kept(run_id):
            return await self._run_kept(plan, store, run_id or self._new_id(), timeout)
        if run_id in self.active:
            raise ConflictError(
                f"run {run_id} is under way, and there is no store to tell its result by", run_id=run_id
            )
        run = Run(self, plan, run_id or self._new_id(), store, timeout=timeout)
        state = await run.drive()
        if run.status is RunStatus.PARKED:
            return await self.store_of_runs.settled(plan, run.run_id)
        return run.result(state)

    async def _run_kept(self, plan: Plan, store: Any, run_id: str, timeout: float | None) -> RunResult:
        durability = self.store_of_runs
        run = await self._begin(plan, store, run_id, timeout)
        if run is not None:
            self.drive(run)
        try:
            return await durability.settled(plan, run_id)
        except asyncio.CancelledError:
            if run is not None:
                run = self.active.get(run_id, run)  # another one, if it was parked meanwhile
                run.stop(RunStatus.INTERRUPTED)
                await run.ended()
            raise

    async def _begin(self, plan: Plan, store: Any, run_id: str, timeout: float | None) -> Run | None:
        beginning = self.store_of_runs.begin(plan, store, run_id, timeout=timeout)
        if timeout is None:
            return await beginning
        try:
            return await within(beginning, self.clock, timeout)
        except TimeoutError:
            message = f"run {run_id} took longer than {timeout:g} s: its store did not answer"
            raise RunTimeoutError(message, timeout=timeout, run_id=run_id, workflow=plan.name) from None

    async def start(
        self, flow: Workflow[Any], data: Any = None, *, run_id: str | None = None, timeout: float | None = None
    ) -> RunHandle:
        """Start `flow` in the background. Arguments and errors are those of `run`."""
        if not self._open:
            await self.open()
        plan, store = self._prepared(flow, data, run_id, timeout)
        kept, run_id = self._kept(run_id), run_id or self._new_id()
        run: Run | None = None
        if kept:
            run = await self._begin(plan, store, run_id, timeout)
            if run is None:
                return RunHandle(self, plan, self.active.get(run_id) or await self.store_of_runs.seen(plan, run_id))
        run = run or Run(self, plan, run_id, store, timeout=timeout)
        self.drive(run)
        return RunHandle(self, plan, run)

    async def orchestrate(self, flow: Workflow[Any], store: Any) -> Any:
        """Run `flow` on `store` itself, and return the exit state. See `Workflow.orchestrate`."""
        if not self._open:
            await self.open()
        plan = self.bind(flow)
        if isinstance(store, dict):
            store = StoreView(store)
        elif hasattr(store, "live") and hasattr(store, "apply"):
            store = StoreView(store.live(), store.apply, owner=store)
        run = Run(self, plan, self._new_id(), store)
        try:
            state = await run.drive()
            if run.status is not RunStatus.PARKED:
                return state
            result = await self.store_of_runs.settled(plan, run.run_id)
            run.view.clear()
            for key, value in result.data.items():
                run.view.put(key, value)
            run.view.commit()
            return result.state
        finally:
            # a run and its step refer to each other: they would keep the store until the next garbage collection
            run.store = run.view = UNMANAGED

    async def run_child(self, flow: Workflow[Any], data: Mapping[str, Any], parent: Step) -> RunResult:
        """Run `flow` as a child of the step `parent`, in its task. What `SubWorkflow` does."""
        try:
            return await self._run_child(flow, data, parent)
        except (ConflictError, StoreUnavailableError) as error:  # what tasks raise comes as a TaskError
            raise StoreFailed(error) from error

    async def _run_child(self, flow: Workflow[Any], data: Mapping[str, Any], parent: Step) -> RunResult:
        plan, store = self._prepared(flow, data, None, None)
        run_id = f"{parent.idempotency_key}/{flow.name}"
        journal = parent.run.journal
        if journal is None or not journal.eager:
            run: Run | None = Run(self, plan, run_id, store, parent_id=parent.run_id)
        else:
            run = await self.store_of_runs.begin(plan, store, run_id, parent_id=parent.run_id)
            if run is None and (parent.attempt > 1 or parent.run.resumed):
                run = await self.store_of_runs.take(plan, run_id, again=True)
        if run is not None:
            run.parent = parent.run
        try:
            state = None if run is None else await run.drive()
            if run is None or run.status is RunStatus.PARKED:
                return await self.store_of_runs.settled(plan, run_id)
        except asyncio.CancelledError:
            await self._end_child(run_id, parent.run)
            raise
        return run.result(state)

    async def _end_child(self, run_id: str, parent: Run) -> None:
        """End a child that its parent waits for no longer: for good, unless the parent goes on at another time."""
        if (run := self.active.get(run_id)) is not None:
            run.stop(RunStatus.INTERRUPTED if parent.interrupted() else RunStatus.CANCELLED)
            await run.ended()
        elif not parent.interrupted() and self.durability is not None:
            with suppress(StoreError):
                await within_grace(self.durability.cancel(run_id), self.clock)

    def _prepared(self, flow: Workflow[Any], data: Any, run_id: str | None, timeout: float | None) -> tuple[Plan, Any]:
        plan = self.bind(flow)
        if timeout is not None:
            positive_seconds("timeout", timeout)
        if run_id is not None and (not isinstance(run_id, str) or not run_id):
            raise ConfigurationError(f"run_id must be a non-empty string, not {run_id!r}")
        return plan, self._view_of(data)

    def _view_of(self, data: Any) -> Any:
        """What tasks get for the data that a run was started with."""
        if data is None:
            data = {}
        if data.__class__ is dict or isinstance(data, Mapping):
            for key in data:
                if not isinstance(key, str | Key):
                    raise ConfigurationError(f"the keys of a run's data must be strings, not {key!r}")
            values = {unpack_key(key, None)[0]: isolate(value) for key, value in data.items()}
            return StoreView(values) if self.durability is None else self.durability.view(values)
        if hasattr(data, "live") and hasattr(data, "apply"):
            return StoreView(data.live(), data.apply, owner=data)
        return data

    def _kept(self, run_id: str | None) -> bool:
        """Whether a run is kept in the store from its start: always in a durable one, else where it has a name."""
        durability = self.durability
        return durability is not None and (run_id is not None or durability.capabilities.durable)


_default: Kernel | None = None
_default_lock = threading.Lock()


def default_kernel() -> Kernel:
    """The kernel that `Workflow.orchestrate` uses: in memory, with every installed plugin."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Kernel()
        return _default
