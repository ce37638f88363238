"""Fault injection: an error, a delay, a hang or SIGKILL at any call of a store, or any attempt of a task.

    faults = Faults()
    faults.at_call("commit", 3).kill()                            # the third commit from now on
    faults.at_call("commit", 2, after=True).fail(OSError("gone")) # the commit is applied, but its caller gets an error
    faults.at_task(State.CHARGE, attempt=1).fail(TimeoutError())
    kernel = Kernel(store=FaultyStore(backend, faults))
    await kernel.run(faults.into(flow))

A fault executes its actions in the order in which they were added: `fault.delay(2).fail(error)`.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import os
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from cano.engine.step import Step, current_step
from cano.errors import ConfigurationError, StoreUnavailableError
from cano.lazy_backend import given
from cano.model.code_reading import types_of
from cano.model.node import Node
from cano.model.split import SplitTask
from cano.model.task import FunctionTask, Task, is_async
from cano.model.workflow import Workflow, state_name
from cano.protocols import Capabilities, Clock, StoreBackend
from cano.records import AuditEntry, Commit, RunRecord, Transition
from cano.run_filter import RunFilter
from cano.runtime.clock import SystemClock
from cano.signals import Signal, Signals

R = TypeVar("R")
StateT = TypeVar("StateT")
CALLS = (
    "open", "close", "create", "load", "commit", "claim", "renew", "release", "runs", "history", "put_signal",
    "next_signal", "signals", "missing_recipients", "ready", "delete", "expired", "delete_finished", "claim_ready",
    "add_audit", "audit", "prune_audit", "history_page", "discard_history", "rewrite", "rewrite_signals", "slots",
    "rewrite_stream", "write_stream", "read_stream", "channels", "count", "attribute_names", "take_slots", "give_slots",
    "queue_sizes", "queued_before",
)  # fmt: skip
"""The calls of a store, as `Faults.at_call` names them. "put_signal" means `put_signal_within`, too."""


class Faults:
    """A set of faults, in stores and in tasks.

    Args:
        clock: the clock of delays, by default the system's. A `VirtualClock` does not jump during calls of a store.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock: Clock = SystemClock() if clock is None else clock
        self._at_calls: list[tuple[str, bool, Fault]] = []
        self._at_tasks: list[tuple[str, int | None, str | None, Fault]] = []
        self.calls: Counter[str] = Counter()
        """The number of calls of stores, by name."""

    def at_call(self, call: str, nth: int | None = 1, *, after: bool = False) -> Fault:
        """Add a fault at a call of the store, and return it. Raises ConfigurationError if there is no such call.

        Args:
            call: the call's name, such as "commit".
            nth: the number of the call from now on, counted from 1; None for every call.
            after: whether the store executes the call first, so that only the answer is lost.
        """
        if call not in CALLS:
            raise ConfigurationError(f"a store has no call {call!r}; it has: {', '.join(CALLS)}")
        fault = Fault(self._clock, nth)
        self._at_calls.append((call, after, fault))
        return fault

    def at_task(
        self, state: Any, attempt: int | None = 1, *, branch: str | None = None, nth: int | None = None
    ) -> Fault:
        """Add a fault at the start of an attempt of a state's task, in workflows made by `into`, and return it.

        Args:
            state: the state, or its name.
            attempt: the attempt, counted from 1; None for every attempt.
            branch: the name of a branch, such as "0:fetch", if the state is a split; None for every branch.
            nth: the number of the matching attempt, counted from 1; None for every one.
        """
        fault = Fault(self._clock, nth)
        self._at_tasks.append((state_name(state), attempt, branch, fault))
        return fault

    def into(self, flow: Workflow[StateT]) -> Workflow[StateT]:
        """Return a copy of `flow` whose tasks have the faults. Stores get the same definition."""
        twin = copy.copy(flow)
        twin._frozen, twin.bindings, twin._exits = False, {}, dict(flow._exits)
        twin.types = (*flow.types, *types_of(flow))
        twin._registered = {
            state: registration._replace(task=self._faulty(registration.task))
            for state, registration in flow.tasks.items()
        }
        return twin

    async def meet_call(self, call: str, done: bool, subject: Any) -> None:
        """Execute the faults of a store's call. A `FaultyStore` calls this before and after each call."""
        for name, after, fault in tuple(self._at_calls):
            if (name, after) == (call, done) and fault.counts():
                await fault.happen(subject)

    async def meet_task(self) -> None:
        """Execute the faults of the current attempt."""
        for fault in self._due_at(current_step()):
            await fault.happen(current_step())

    def meet_task_in_thread(self) -> None:
        """Execute the faults of the current attempt of a plain function, which runs in a thread."""
        for fault in self._due_at(current_step()):
            fault.happen_in_thread(current_step())

    def _due_at(self, step: Step) -> list[Fault]:
        here = state_name(step.state)
        return [
            fault
            for state, attempt, branch, fault in tuple(self._at_tasks)
            if state == here and attempt in (None, step.attempt) and branch in (None, step.branch) and fault.counts()
        ]

    def holding(self) -> AbstractContextManager[None]:
        """Return a context manager that keeps a virtual clock from jumping."""
        hold: Callable[[], AbstractContextManager[None]] = getattr(self._clock, "hold", nullcontext)
        return hold()

    def _faulty(self, task: Any) -> Any:
        if isinstance(task, SplitTask):
            make = task.make
            branches: Any = [self._faulty(branch) for branch in task.branches] if make is None else self._making(make)
            return SplitTask(branches, task.join)
        if isinstance(task, FunctionTask):
            return FunctionTask(self._faulty(task.function), config=task.config, targets=task.targets)
        if isinstance(task, Node) and type(task).run is Node.run:
            return _FaultyNode(self, task)
        if isinstance(task, Task):
            return _FaultyTask(self, task)
        return self._around(task)

    def _making(self, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(make)
        def made(store: Any) -> Any:
            branches = make(store)
            return awaited(branches) if isinstance(branches, Awaitable) else [*map(self._faulty, branches)]

        async def awaited(branches: Awaitable[Any]) -> list[Any]:
            return [*map(self._faulty, await branches)]

        return made

    def _around(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        if is_async(function):

            async def faulty(store: Any) -> Any:
                await self.meet_task()
                return await function(store)

        else:

            def faulty(store: Any) -> Any:  # type: ignore[misc]  # like the kernel, by `is_async`
                self.meet_task_in_thread()
                return function(store)

        functools.update_wrapper(faulty, getattr(function, "func", function))  # of a partial: its function
        faulty.__name__ = getattr(faulty, "__name__", type(function).__name__)
        return faulty


class Fault:
    """A fault at one place. Without actions, it only counts how often the place was reached.

    Attributes:
        met: how often the fault has occurred.
    """

    def __init__(self, clock: Clock, nth: int | None) -> None:
        if nth is not None and (isinstance(nth, bool) or not isinstance(nth, int) or nth < 1):
            raise ConfigurationError(f"nth counts from 1, or is None for every one, not {nth!r}")
        self.met = 0
        self._clock = clock
        self._nth = nth
        self._matched = 0
        self._actions: list[tuple[str, Callable[[Any], Any]]] = []
        self._reached = asyncio.Event()
        self._released = asyncio.Event()

    def fail(self, error: Exception | type[Exception]) -> Fault:
        """Add the action: raise `error`. Return the fault, for chaining, as do the other actions."""

        def act(subject: Any) -> None:
            raise error

        return self._add("fail", act)

    def kill(self) -> Fault:
        """Add the action: kill this process with SIGKILL."""
        return self._add("kill", lambda subject: os.kill(os.getpid(), signal.SIGKILL))

    def do(self, action: Callable[[Any], object]) -> Fault:
        """Add the action: call `action` with the first argument of the store's call, or with the step."""
        return self._add("do", action)

    def delay(self, seconds: float) -> Fault:
        """Add the action: wait `seconds`."""
        return self._add("delay", lambda subject: self._clock.sleep(seconds))

    def hang(self) -> Fault:
        """Add the action: wait until `release`."""

        async def act(subject: Any) -> None:
            await self._released.wait()

        return self._add("hang", act)

    def release(self) -> None:
        """End all waits of `hang`, and do not wait again."""
        self._released.set()

    async def reached(self) -> None:
        """Wait until the fault has occurred for the first time."""
        await self._reached.wait()

    def _add(self, name: str, act: Callable[[Any], Any]) -> Fault:
        self._actions.append((name, act))
        return self

    def counts(self) -> bool:
        """Count a matching call or attempt. Return whether the fault occurs at it."""
        self._matched += 1
        return self._nth is None or self._matched == self._nth

    async def happen(self, subject: Any) -> None:
        """Execute the actions."""
        self.met += 1
        self._reached.set()
        for name, act in self._actions:
            done = act(subject)
            if name in ("delay", "hang"):
                await done

    def happen_in_thread(self, subject: Any) -> None:
        """Execute the actions in a thread, where nothing can be awaited."""
        self.met += 1
        for name, act in self._actions:
            if name in ("delay", "hang"):
                raise ConfigurationError(f"a plain function cannot {name}: it runs in a thread, which nothing can stop")
            act(subject)


class FaultyStore:
    """A store with faults. It delegates all calls to another store.

    Args:
        backend: the other store.
        faults: its faults; by default none, until `store.faults.at_call(…)` adds some.
    """

    def __init__(self, backend: StoreBackend, faults: Faults | None = None) -> None:
        self.backend = backend
        self.faults = Faults() if faults is None else faults
        self.capabilities: Capabilities = backend.capabilities._replace(notify=False)
        self._crashed = False

    def crash(self) -> None:
        """Refuse all calls from now on, as if the process had died. Its leases do not change."""
        self._crashed = True

    async def _call(self, name: str, call: Callable[..., Awaitable[R]], *arguments: Any) -> R:
        self.faults.calls[name] += 1
        subject = arguments[0] if arguments else None
        await self.faults.meet_call(name, False, subject)
        if self._crashed:
            raise StoreUnavailableError("the store has crashed, for a test")
        with self.faults.holding():
            result = await call(*arguments)
        await self.faults.meet_call(name, True, subject)
        return result

    async def open(self) -> None:
        """See `StoreBackend`, as for all other methods."""
        await self._call("open", self.backend.open)

    async def close(self) -> None:
        with self.faults.holding():
            await self.faults.meet_call("close", False, None)
            await self.backend.close()

    async def create(self, run: RunRecord, audit: AuditEntry | None = None) -> RunRecord:
        return await self._call("create", self.backend.create, run, *given(audit))

    async def load(self, run_id: str) -> RunRecord | None:
        return await self._call("load", self.backend.load, run_id)

    async def commit(self, commit: Commit, audit: AuditEntry | None = None) -> None:
        await self._call("commit", self.backend.commit, commit, *given(audit))

    async def claim(self, run_id: str, holder: str, now: float, expires: float) -> int | None:
        return await self._call("claim", self.backend.claim, run_id, holder, now, expires)

    async def renew(self, holder: str, tokens: Mapping[str, int], expires: float) -> Sequence[str]:
        return await self._call("renew", self.backend.renew, holder, tokens, expires)

    async def release(self, run_id: str, token: int) -> None:
        await self._call("release", self.backend.release, run_id, token)

    async def runs(self, filter: RunFilter) -> Sequence[RunRecord]:
        return await self._call("runs", self.backend.runs, filter)

    async def history(self, run_id: str) -> Sequence[Transition]:
        return await self._call("history", self.backend.history, run_id)

    async def put_signal(self, run_id: str, signal: Signal, audit: AuditEntry | None = None) -> None:
        await self._call("put_signal", self.backend.put_signal, run_id, signal, *given(audit))

    async def next_signal(self, run_id: str, name: str, own: bool = False) -> Signal | None:
        return await self._call("next_signal", self.backend.next_signal, run_id, name, own)

    async def signals(self, run_id: str) -> Signals:
        return await self._call("signals", self.backend.signals, run_id)

    async def missing_recipients(self) -> Sequence[str]:
        return await self._call("missing_recipients", self.backend.missing_recipients)

    async def ready(self, now: float, workflows: Collection[str] | None = None) -> Sequence[RunRecord]:
        return await self._call("ready", self.backend.ready, now, *given(workflows))

    async def delete(self, run_id: str, audit: AuditEntry | None = None) -> bool:
        return await self._call("delete", self.backend.delete, run_id, *given(audit))

    def __getattr__(self, name: str) -> Any:  # a method of a store of `optional_stores`
        call = "put_signal" if name == "put_signal_within" else name
        if call not in (*CALLS, "scoped"):
            raise AttributeError(name)
        method = getattr(self.backend, name)
        if name == "scoped":  # a part of the store has the same faults
            return lambda namespace: FaultyStore(method(namespace), self.faults)
        return functools.partial(self._call, call, method)


class _FaultyTask(Task[Any]):
    """A task with faults at the start of each attempt."""

    def __init__(self, faults: Faults, task: Task[Any]) -> None:
        super().__init__(task.config)
        self._name = task.name
        self.run = faults._around(task.run)  # type: ignore[assignment,method-assign]  # plain where the task's own is

    async def run(self, store: Any) -> Any:
        """Do nothing: each instance replaces this method."""

    @property
    def name(self) -> str:
        """The task's own name."""
        return self._name


class _FaultyNode(Node[Any, Any, Any]):
    """A node with faults before the first phase of each attempt."""

    def __init__(self, faults: Faults, node: Node[Any, Any, Any]) -> None:
        super().__init__(node.config)
        self._faults = faults
        self._node = node
        self._last: dict[tuple[str, str | None], tuple[int, int]] = {}

    async def _meet(self) -> None:
        step = current_step()
        strand, attempt = (step.run_id, step.branch), (step.seq, step.attempt)
        if self._last.get(strand) != attempt:
            self._last[strand] = attempt
            await self._faults.meet_task()

    async def prep(self, store: Any) -> Any:
        await self._meet()
        return await self._node.prep(store)

    async def exec(self, prepared: Any) -> Any:
        await self._meet()
        return await self._node.exec(prepared)

    async def post(self, store: Any, prepared: Any, result: Any) -> Any:
        await self._meet()
        return await self._node.post(store, prepared, result)

    async def exec_fallback(self, prepared: Any, error: Exception) -> Any:
        return await self._node.exec_fallback(prepared, error)

    @property
    def name(self) -> str:
        """The node's own name."""
        return self._node.name
