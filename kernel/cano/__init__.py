"""Cano: async workflows as state machines, on a plugin-based microkernel."""

import importlib
import typing

from cano.config import TaskConfig
from cano.errors import (
    CanoError,
    ConfigurationError,
    ConflictError,
    JoinError,
    KeyNotFoundError,
    MergeConflictError,
    NodeError,
    PluginError,
    RetryExhaustedError,
    RunCancelledError,
    RunInterruptedError,
    RunNotFoundError,
    RunTimeoutError,
    SchedulerError,
    SerializationError,
    StepTimeoutError,
    StoreError,
    StoreUnavailableError,
    TaskError,
    TransitionError,
    TypeMismatchError,
    ValidationError,
    VersionMismatchError,
    WorkflowError,
)
from cano.hookspecs import API_VERSION, HOOK_NAMESPACE, hookimpl, hookspec
from cano.layers import CodecLayer
from cano.limits import Limit
from cano.node import Node
from cano.protocols import (
    Call,
    Capabilities,
    Clock,
    Codec,
    Executor,
    NotifyingStore,
    RetryStrategy,
    StoreBackend,
    Timer,
)
from cano.records import Commit, RunFilter, RunRecord, RunStatus, Signal, Signals, Transition, Wait
from cano.result import RunResult
from cano.split import BranchOutcome, BranchStatus, JoinConfig, JoinStrategy, SplitOutcome
from cano.step import Progress, Step, current_step
from cano.store import MISSING, Key, KeyValueStore, TypedStore, not_a_list
from cano.subworkflow import SubWorkflow
from cano.task import FunctionTask, Task, task
from cano.view import Changes, ManagedStore, StoreView, apply_changes, isolate
from cano.waiting import sleep_until, wait_for
from cano.workflow import Registration, Workflow, state_name

if typing.TYPE_CHECKING:
    from cano.clock import SystemClock
    from cano.concurrent import (
        Cancelled,
        ConcurrentWorkflow,
        ConcurrentWorkflowStatus,
        Failed,
        Success,
        WaitStrategy,
        WorkflowResult,
    )
    from cano.drawing import edges, undeclared
    from cano.handle import RunHandle, RunInfo
    from cano.holders import is_held
    from cano.inspection import Explanation, Finding, Retention, RunListing, Standstill
    from cano.kernel import Kernel, default_kernel
    from cano.plugins import PluginInfo, PluginWarning
    from cano.run import Run

__all__ = [
    "API_VERSION",
    "BranchOutcome",
    "BranchStatus",
    "Call",
    "Cancelled",
    "CanoError",
    "Capabilities",
    "Changes",
    "Clock",
    "Codec",
    "CodecLayer",
    "Commit",
    "ConcurrentWorkflow",
    "ConcurrentWorkflowStatus",
    "ConfigurationError",
    "ConflictError",
    "Executor",
    "Explanation",
    "Failed",
    "Finding",
    "FunctionTask",
    "HOOK_NAMESPACE",
    "JoinConfig",
    "JoinError",
    "JoinStrategy",
    "Kernel",
    "Key",
    "KeyNotFoundError",
    "KeyValueStore",
    "Limit",
    "MISSING",
    "ManagedStore",
    "MergeConflictError",
    "Node",
    "NodeError",
    "NotifyingStore",
    "PluginError",
    "PluginInfo",
    "PluginWarning",
    "Progress",
    "Registration",
    "Retention",
    "RetryExhaustedError",
    "RetryStrategy",
    "Run",
    "RunCancelledError",
    "RunFilter",
    "RunHandle",
    "RunInfo",
    "RunInterruptedError",
    "RunListing",
    "RunNotFoundError",
    "RunRecord",
    "RunResult",
    "RunStatus",
    "RunTimeoutError",
    "SchedulerError",
    "SerializationError",
    "Signal",
    "Signals",
    "SplitOutcome",
    "Standstill",
    "Step",
    "StepTimeoutError",
    "StoreBackend",
    "StoreError",
    "StoreUnavailableError",
    "StoreView",
    "SubWorkflow",
    "Success",
    "SystemClock",
    "Task",
    "TaskConfig",
    "TaskError",
    "Timer",
    "Transition",
    "TransitionError",
    "TypeMismatchError",
    "TypedStore",
    "ValidationError",
    "VersionMismatchError",
    "Wait",
    "WaitStrategy",
    "Workflow",
    "WorkflowError",
    "WorkflowResult",
    "apply_changes",
    "current_step",
    "default_kernel",
    "edges",
    "hookimpl",
    "hookspec",
    "is_held",
    "isolate",
    "not_a_list",
    "sleep_until",
    "state_name",
    "task",
    "undeclared",
    "wait_for",
]

# What drives runs needs asyncio, which takes longer to import than all of this: it comes when it is first asked for.
_LATE = {
    "clock": "SystemClock",
    "concurrent": "Cancelled ConcurrentWorkflow ConcurrentWorkflowStatus Failed Success WaitStrategy WorkflowResult",
    "drawing": "edges undeclared",
    "handle": "RunHandle RunInfo",
    "holders": "is_held",
    "inspection": "Explanation Finding Retention RunListing Standstill",
    "kernel": "Kernel default_kernel",
    "plugins": "PluginInfo PluginWarning",
    "run": "Run",
}

if not typing.TYPE_CHECKING:  # a type checker would take every name for one that exists

    def __getattr__(name: str) -> typing.Any:
        for module, names in _LATE.items():
            if name in names.split():
                value = globals()[name] = getattr(importlib.import_module(f"cano.{module}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
