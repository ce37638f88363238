"""The public names of the kernel."""

from __future__ import annotations

import ast
import inspect
import operator
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cano
import cano.options
import cano.testing

HERE = Path(cano.__file__).parent
EVERY_FILE = sorted(HERE.rglob("*.py"))

NAMES = [
    "API_VERSION",
    "Appended",
    "AttachedRun",
    "AttributeRange",
    "AttributeStore",
    "AuditEntry",
    "AuditingStore",
    "BatchOutcome",
    "BranchOutcome",
    "BranchStatus",
    "BulkReport",
    "Call",
    "Cancelled",
    "CanoError",
    "Capabilities",
    "Changes",
    "ClaimedRun",
    "ClaimingStore",
    "Clock",
    "CodeVersionError",
    "Codec",
    "CodecLayer",
    "Commit",
    "CompatGroup",
    "CompatReport",
    "ConcurrentWorkflow",
    "ConcurrentWorkflowStatus",
    "Condition",
    "ConfigurationError",
    "ConflictError",
    "ContextLayer",
    "DurableBatch",
    "Executor",
    "ExecutorError",
    "ExecutorUnavailableError",
    "Expect",
    "Explanation",
    "Failed",
    "FilterError",
    "Finding",
    "FunctionTask",
    "HOOK_NAMESPACE",
    "HeldSlot",
    "HistoryDiscardedError",
    "HistoryPagingStore",
    "InputsChangedError",
    "JoinConfig",
    "JoinError",
    "JoinStrategy",
    "JoinedStore",
    "JoiningStore",
    "Kernel",
    "Key",
    "KeyNotFoundError",
    "KeyValueStore",
    "Lane",
    "LateRun",
    "LayerContext",
    "LazyBackend",
    "Limit",
    "LimitingStore",
    "MISSING",
    "ManagedStore",
    "MergeConflictError",
    "Node",
    "NodeError",
    "NotifyingStore",
    "Pace",
    "PermanentStoreError",
    "PluginError",
    "PluginInfo",
    "PluginWarning",
    "Plugins",
    "Progress",
    "PruningStore",
    "QueueStore",
    "Rate",
    "ReadKey",
    "Registration",
    "RemoteError",
    "Retention",
    "RetryExhaustedError",
    "RetryStrategy",
    "RewritingStore",
    "Run",
    "RunCancelledError",
    "RunEvent",
    "RunExistsError",
    "RunFileError",
    "RunFilter",
    "RunHandle",
    "RunInfo",
    "RunInterruptedError",
    "RunListing",
    "RunNotFoundError",
    "RunPage",
    "RunRecord",
    "RunResult",
    "RunStatus",
    "RunTimeoutError",
    "RunView",
    "SchedulerError",
    "ScopedStore",
    "SerializationError",
    "Signal",
    "SignalKey",
    "Signals",
    "SizeLimitError",
    "SizeLimits",
    "SlotRequest",
    "SlotStore",
    "SplitOutcome",
    "SplitTask",
    "Standstill",
    "Step",
    "StepKilledError",
    "StepTimeoutError",
    "StoreBackend",
    "StoreError",
    "StoreTransaction",
    "StoreUnavailableError",
    "StoreView",
    "StreamChunk",
    "StreamItem",
    "StreamingStore",
    "SubWorkflow",
    "Success",
    "SystemClock",
    "Task",
    "TaskConfig",
    "TaskError",
    "Timer",
    "Transaction",
    "TransactionalStore",
    "TransientStoreError",
    "Transition",
    "TransitionError",
    "TypeMismatchError",
    "TypedStore",
    "ValidationError",
    "VersionMismatchError",
    "Wait",
    "WaitStrategy",
    "WantedSlot",
    "WorkerLostError",
    "Workflow",
    "WorkflowError",
    "WorkflowResult",
    "apply_changes",
    "current_step",
    "current_wait",
    "default_kernel",
    "derived_id",
    "edges",
    "hookimpl",
    "hookspec",
    "is_held",
    "is_queued",
    "isolate",
    "not_a_list",
    "read_history",
    "read_ready",
    "sleep_until",
    "state_name",
    "task",
    "undeclared",
    "wait_for",
]

OPTIONS = [
    "Options",
    "Seconds",
    "Span",
    "Text",
    "duration",
    "file_mode",
    "instant",
    "one_of",
    "optional",
    "place_name",
    "positive_seconds",
    "refuse",
    "seconds",
    "similar",
    "switch",
    "text",
    "whole",
]

TESTING = [
    "CrashPoint",
    "CrashReport",
    "DamageContract",
    "DurableStoreBackendContract",
    "ExecutorContract",
    "Fault",
    "Faults",
    "FaultyStore",
    "LostAnswersContract",
    "Outcome",
    "Relay",
    "RestartContract",
    "StoreBackendContract",
    "VirtualClock",
    "survives_crashes",
]


# names


def test_exactly_these_names_are_public() -> None:
    """What users may import is decided here: a name that comes or goes has to be put down in this list."""
    assert cano.__all__ == NAMES
    assert cano.testing.__all__ == TESTING
    assert cano.options.__all__ == OPTIONS


def test_names_are_sorted() -> None:
    """Names are in plain order, each once."""
    for names in (cano.__all__, cano.options.__all__, cano.testing.__all__):
        assert names == sorted(set(names))


def test_names_that_come_late_are_there() -> None:
    """What is imported when it is first asked for is listed, comes with a star, and a wrong name is refused as ever."""
    program = (
        "import cano\n"
        "assert 'Kernel' not in vars(cano)\n"
        "assert set(cano.__all__) <= set(dir(cano))\n"
        "from cano import *\n"
        "assert Kernel is cano.Kernel is vars(cano)['Kernel']\n"
        "assert [name for name in cano.__all__ if name not in globals()] == []\n"
        "assert not hasattr(cano, 'Kernal')\n"
        "import cano.testing\n"
        "assert 'VirtualClock' not in vars(cano.testing)\n"
        "assert set(cano.testing.__all__) <= set(dir(cano.testing))\n"
        "assert not hasattr(cano.testing, 'VirtualClok')\n"
        "try:\n"
        "    from cano import Kernal\n"
        "except ImportError as error:\n"
        "    assert \"cannot import name 'Kernal'\" in str(error)\n"
    )

    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


def test_importing_it_is_cheap() -> None:
    """`import cano` loads no library that takes milliseconds, before a name that needs it is used."""
    slow = {"asyncio", "hashlib", "importlib.metadata", "json", "logging"}
    program = f"import sys, cano; print(*{slow} & {{*sys.modules}})"

    done = subprocess.run([sys.executable, "-I", "-c", program], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == ""


def test_nothing_else_is_public() -> None:
    """Whatever the package has besides is a module, or has an underscore before it."""
    for package in (cano, cano.testing):
        others = {name for name in vars(package) if not name.startswith("_")} - set(package.__all__)

        assert [name for name in others if not isinstance(vars(package)[name], ModuleType)] == []


def test_every_name_is_documented() -> None:
    """Each public class and function has a docstring of its own, and so has each public method of a class."""
    undocumented = []
    for name in [*NAMES, *(f"options.{name}" for name in OPTIONS)]:
        thing = operator.attrgetter(name)(cano)
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not documented(thing):
            undocumented.append(name)
        for member, value in vars(thing).items() if inspect.isclass(thing) else ():
            value = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if inspect.isfunction(value) and not member.startswith("_") and not documented(value):
                undocumented.append(f"{name}.{member}")

    assert undocumented == []


def documented(thing: Any) -> bool:
    """Whether there is a docstring that somebody wrote: dataclasses and named tuples make one of their own."""
    text = vars(thing).get("__doc__") if inspect.isclass(thing) else thing.__doc__
    return text is not None and bool(text) and not text.startswith(f"{thing.__name__}(")


def test_every_module_says_what_it_is() -> None:
    """A module begins with a docstring."""
    assert [path for path in EVERY_FILE if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []


# imports


def test_the_kernel_needs_nothing_but_pluggy() -> None:
    """The kernel imports the standard library, pluggy and itself, at whatever place in a file."""
    for path in EVERY_FILE:
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: imports are absolute"
                imported.add((node.module or "").partition(".")[0])

        allowed = {"pytest"} if path.name == "pytest_plugin.py" else {"pluggy"}
        assert imported - sys.stdlib_module_names <= {"cano", *allowed}, path
