"""Cano: async workflows as state machines, on a plugin-based microkernel."""

import typing

from cano.concurrency.subworkflow import SubWorkflow
from cano.data.changes import Changes, ManagedStore, apply_changes
from cano.data.copying import isolate
from cano.data.store import MISSING, Key, KeyValueStore, ReadKey, TypedStore, not_a_list
from cano.data.view import StoreView
from cano.engine.step import Step, current_step, current_wait
from cano.errors import (
    CanoError,
    ConfigurationError,
    ConflictError,
    FilterError,
    HistoryDiscardedError,
    InputsChangedError,
    JoinError,
    KeyNotFoundError,
    MergeConflictError,
    NodeError,
    PermanentStoreError,
    PluginError,
    RetryExhaustedError,
    RunCancelledError,
    RunExistsError,
    RunFileError,
    RunInterruptedError,
    RunNotFoundError,
    RunTimeoutError,
    SchedulerError,
    SerializationError,
    SizeLimitError,
    StepKilledError,
    StepTimeoutError,
    StoreError,
    StoreUnavailableError,
    TaskError,
    TransientStoreError,
    TransitionError,
    TypeMismatchError,
    ValidationError,
    VersionMismatchError,
    WorkflowError,
)
from cano.hookspecs import API_VERSION, HOOK_NAMESPACE, hookimpl, hookspec
from cano.lazy_names import lazy_names as _lazy_names
from cano.model.config import TaskConfig
from cano.model.expect import Expect
from cano.model.limits import Limit, Rate
from cano.model.node import Node
from cano.model.result import RunResult
from cano.model.split import BranchOutcome, BranchStatus, JoinConfig, JoinStrategy, SplitOutcome, SplitTask
from cano.model.task import FunctionTask, Task, task
from cano.model.waiting import sleep_until, wait_for
from cano.model.workflow import Registration, Workflow, state_name

if typing.TYPE_CHECKING:
    from cano.bulk import BulkReport, Pace
    from cano.compatibility import CompatGroup, CompatReport
    from cano.concurrency.batch import (
        Cancelled,
        ConcurrentWorkflow,
        ConcurrentWorkflowStatus,
        Failed,
        Success,
        WaitStrategy,
        WorkflowResult,
    )
    from cano.concurrency.durable import BatchOutcome, DurableBatch
    from cano.engine.run import Run
    from cano.engine.run_view import Progress, RunInfo, RunView
    from cano.executors import (
        Call,
        CodeVersionError,
        Executor,
        ExecutorError,
        ExecutorUnavailableError,
        RemoteError,
        WorkerLostError,
    )
    from cano.holders import is_held, is_queued
    from cano.kernel.default import default_kernel
    from cano.kernel.handles import AttachedRun, RunHandle, RunListing
    from cano.kernel.kernel import Kernel
    from cano.lanes import Lane
    from cano.late_run import LateRun
    from cano.lazy_backend import LazyBackend
    from cano.model.drawing import edges, undeclared
    from cano.optional_stores import (
        AttributeStore,
        AuditingStore,
        ClaimingStore,
        HistoryPagingStore,
        LimitingStore,
        NotifyingStore,
        PruningStore,
        QueueStore,
        RewritingStore,
        ScopedStore,
        StreamingStore,
        read_history,
        read_ready,
    )
    from cano.plugins.loading import PluginInfo, Plugins, PluginWarning
    from cano.protocols import (
        Capabilities,
        Clock,
        Codec,
        CodecLayer,
        ContextLayer,
        LayerContext,
        RetryStrategy,
        StoreBackend,
        Timer,
    )
    from cano.records import (
        Appended,
        AuditEntry,
        ClaimedRun,
        Commit,
        Explanation,
        Finding,
        Retention,
        RunRecord,
        RunStatus,
        Standstill,
        StreamChunk,
        Transition,
        Wait,
    )
    from cano.run_filter import Condition, RunFilter, RunPage
    from cano.runtime.clock import SystemClock
    from cano.search_attributes import AttributeRange
    from cano.signals import Signal, SignalKey, Signals
    from cano.size_limits import SizeLimits, derived_id
    from cano.slots import HeldSlot, SlotRequest, SlotStore, WantedSlot
    from cano.streams import RunEvent, StreamItem
    from cano.transactions import JoinedStore, JoiningStore, StoreTransaction, Transaction, TransactionalStore

__all__ = [
    "API_VERSION", "Appended", "AttachedRun", "AttributeRange", "AttributeStore", "AuditEntry", "AuditingStore",
    "BatchOutcome", "BranchOutcome", "BranchStatus", "BulkReport", "Call", "Cancelled", "CanoError", "Capabilities",
    "Changes", "ClaimedRun", "ClaimingStore", "Clock", "CodeVersionError", "Codec", "CodecLayer", "Commit",
    "CompatGroup", "CompatReport", "ConcurrentWorkflow", "ConcurrentWorkflowStatus", "Condition", "ConfigurationError",
    "ConflictError", "ContextLayer", "DurableBatch", "Executor", "ExecutorError", "ExecutorUnavailableError", "Expect",
    "Explanation", "Failed", "FilterError", "Finding", "FunctionTask", "HOOK_NAMESPACE", "HeldSlot",
    "HistoryDiscardedError", "HistoryPagingStore", "InputsChangedError", "JoinConfig", "JoinError", "JoinStrategy",
    "JoinedStore", "JoiningStore", "Kernel", "Key", "KeyNotFoundError", "KeyValueStore", "Lane", "LateRun",
    "LayerContext", "LazyBackend", "Limit", "LimitingStore", "MISSING", "ManagedStore", "MergeConflictError", "Node",
    "NodeError", "NotifyingStore", "Pace", "PermanentStoreError", "PluginError", "PluginInfo", "PluginWarning",
    "Plugins", "Progress", "PruningStore", "QueueStore", "Rate", "ReadKey", "Registration", "RemoteError", "Retention",
    "RetryExhaustedError", "RetryStrategy", "RewritingStore", "Run", "RunCancelledError", "RunEvent", "RunExistsError",
    "RunFileError", "RunFilter", "RunHandle", "RunInfo", "RunInterruptedError", "RunListing", "RunNotFoundError",
    "RunPage", "RunRecord", "RunResult", "RunStatus", "RunTimeoutError", "RunView", "SchedulerError", "ScopedStore",
    "SerializationError", "Signal", "SignalKey", "Signals", "SizeLimitError", "SizeLimits", "SlotRequest", "SlotStore",
    "SplitOutcome", "SplitTask", "Standstill", "Step", "StepKilledError", "StepTimeoutError", "StoreBackend",
    "StoreError", "StoreTransaction", "StoreUnavailableError", "StoreView", "StreamChunk", "StreamItem",
    "StreamingStore", "SubWorkflow", "Success", "SystemClock", "Task", "TaskConfig", "TaskError", "Timer",
    "Transaction", "TransactionalStore", "TransientStoreError", "Transition", "TransitionError", "TypeMismatchError",
    "TypedStore", "ValidationError", "VersionMismatchError", "Wait", "WaitStrategy", "WantedSlot", "WorkerLostError",
    "Workflow", "WorkflowError", "WorkflowResult", "apply_changes", "current_step", "current_wait", "default_kernel",
    "derived_id", "edges", "hookimpl", "hookspec", "is_held", "is_queued", "isolate", "not_a_list", "read_history",
    "read_ready", "sleep_until", "state_name", "task", "undeclared", "wait_for",
]  # fmt: skip

# To define a workflow takes none of these names, and many need asyncio, so they are imported on first use.
if not typing.TYPE_CHECKING:  # with these functions, type checkers would accept every name
    __getattr__, __dir__ = _lazy_names(
        __name__,
        {
            "bulk": "BulkReport Pace",
            "compatibility": "CompatGroup CompatReport",
            "engine.run_view": "Progress RunInfo RunView",
            "executors": (
                "Call CodeVersionError Executor ExecutorError ExecutorUnavailableError RemoteError WorkerLostError"
            ),
            "lanes": "Lane",
            "late_run": "LateRun",
            "optional_stores": (
                "AttributeStore AuditingStore ClaimingStore HistoryPagingStore LimitingStore NotifyingStore "
                "PruningStore QueueStore RewritingStore ScopedStore StreamingStore read_history read_ready"
            ),
            "protocols": (
                "Capabilities Clock Codec CodecLayer ContextLayer LayerContext RetryStrategy StoreBackend Timer"
            ),
            "records": (
                "Appended AuditEntry ClaimedRun Commit Explanation Finding Retention RunRecord RunStatus Standstill "
                "StreamChunk Transition Wait"
            ),
            "run_filter": "Condition RunFilter RunPage",
            "signals": "Signal SignalKey Signals",
            "size_limits": "SizeLimits derived_id",
            "streams": "RunEvent StreamItem",
            "runtime.clock": "SystemClock",
            "search_attributes": "AttributeRange",
            "slots": "HeldSlot SlotRequest SlotStore WantedSlot",
            "transactions": "JoinedStore JoiningStore StoreTransaction Transaction TransactionalStore",
            "concurrency.batch": (
                "Cancelled ConcurrentWorkflow ConcurrentWorkflowStatus Failed Success WaitStrategy WorkflowResult"
            ),
            "concurrency.durable": "BatchOutcome DurableBatch",
            "model.drawing": "edges undeclared",
            "kernel.handles": "AttachedRun RunHandle RunListing",
            "holders": "is_held is_queued",
            "kernel.default": "default_kernel",
            "kernel.kernel": "Kernel",
            "lazy_backend": "LazyBackend",
            "plugins.loading": "PluginInfo PluginWarning Plugins",
            "engine.run": "Run",
        },
    )
