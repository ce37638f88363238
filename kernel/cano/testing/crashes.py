"""`survives_crashes`: kill a run's process at every write to the store, and check that the run ends the same.

    def test_order() -> None:
        report = survives_crashes(flow, {"order": 7})
        print(report)

For each write (the run's creation, each commit, each claim), a process starts a run and kills itself with SIGKILL:
once before the write, and once after it. Another process recovers the run. Exit state, data and error must be those
of a run that was not killed, and that has succeeded. A task's external effects happen at least once; `check` can test
whether the idempotency key has made them happen only once.
"""

from __future__ import annotations

import base64
import inspect
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from cano.checks import one_of
from cano.data.store import MISSING
from cano.errors import ConfigurationError, SerializationError
from cano.kernel.kernel import Kernel
from cano.model.code_reading import types_of
from cano.model.workflow import Workflow
from cano.protocols import Codec
from cano.testing.crash_worker import LEASE, load_flow


class CrashPoint(NamedTuple):
    """The point at which a run was killed.

    Attributes:
        number: the number of the write to the store, counted from 1.
        when: "before" or "after" the store executed the write.
        write: a description of the write.
    """

    number: int
    when: str
    write: str

    def __str__(self) -> str:
        return f"{self.when} write {self.number} ({self.write})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a run.

    Attributes:
        run_id: the run's id; there is one run for each point.
        status: "succeeded", "failed" or "cancelled".
        state: name of the exit state, or of the state that failed.
        data: the run's data.
        error: the message of the error that it failed with, or None.
        unbroken: whether its history has no gap.
        free: whether its lease is released.
    """

    run_id: str
    status: str
    state: str
    data: Mapping[str, Any]
    error: str | None = None
    unbroken: bool = True
    free: bool = True

    def differences(self, other: Outcome) -> list[str]:
        """Return how `other`, which was killed, differs from this one, which was not. Run ids are ignored."""
        found = []
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in _COMPARED]
        pairs += [
            (f"data[{key!r}]", self.data.get(key, MISSING), other.data.get(key, MISSING))
            for key in {**self.data, **other.data}
        ]
        for name, one, two in pairs:
            if not _same(one, two) and _shown(one, self.run_id) != _shown(two, other.run_id):
                found.append(f"{name}: {_shown(one)} without the crash, {_shown(two)} with it")
        return found


_COMPARED = ("status", "state", "error", "unbroken", "free")


@dataclass(frozen=True, slots=True)
class CrashReport:
    """The report of `survives_crashes`.

    Attributes:
        outcome: the outcome of the run, killed or not.
        points: the points at which it was killed.
    """

    outcome: Outcome
    points: tuple[CrashPoint, ...]

    def __str__(self) -> str:
        return f"{self.outcome.status} in {self.outcome.state}, killed at {len(self.points)} points:" + "".join(
            f"\n  {point}" for point in self.points
        )


def survives_crashes(
    flow: Workflow[Any] | str,
    data: Mapping[str, Any] | None = None,
    *,
    store: str | None = None,
    signals: Iterable[tuple[str, Any]] = (),
    check: Callable[[Outcome], object] | None = None,
    status: str = "succeeded",
    virtual_time: bool = True,
    patience: float = 60.0,
) -> CrashReport:
    """Check that a run of `flow` has the same outcome wherever its process is killed.

    Args:
        flow: a workflow that is a global of a module, such as a test's; or "module:attribute", whose attribute may also
            be a function that makes a workflow.
        data: the run's initial data.
        store: URL of a durable store for the runs; by default an SQLite file in a temporary folder.
        signals: names and payloads of signals that are sent to the run after it has started.
        check: called with the outcome of each recovered run, and of the one that was not killed. It may raise
            AssertionError, for example if an external effect is wrong.
        status: the status that the run must end with: "succeeded", or "failed" or "cancelled" if that is intended.
        virtual_time: whether waits and delays take no real time. Use False for tasks that wait for something outside
            the process, such as a network.
        patience: seconds that a run may take. In virtual time, a run also hangs if 95 years pass without a write.

    Raises:
        AssertionError: a run does not survive. The message names the point and the differences, or what a run that
            hangs is waiting for. Or the run that is not killed ends with another status.
        ConfigurationError: another process cannot find the workflow, there is no codec or store, or `status` is none.
    """
    one_of("status", status, ("succeeded", "failed", "cancelled"))
    if not hasattr(os, "fork"):
        raise ConfigurationError("survives_crashes needs os.fork and SIGKILL, which this system does not have")
    with tempfile.TemporaryDirectory(prefix="cano-crashes-") as folder:
        module, attribute, file = _location(flow)
        codec = _codec(load_flow(module, attribute, file) if isinstance(flow, str) else flow)
        settings = {
            "module": module, "attribute": attribute, "file": file, "path": sys.path, "virtual": virtual_time,
            "patience": patience,
            "store": f"sqlite:///{folder}/runs.db?synchronous=normal" if store is None else store,
            "data": {str(key): _encoded(codec, value) for key, value in (data or {}).items()},
            "signals": [(name, _encoded(codec, payload)) for name, payload in signals],
        }  # fmt: skip
        # in real time the worker gives up first, because it knows what the run is waiting for
        with _worker(settings, Path(folder), patience if virtual_time else patience + 30) as worker:
            return _Trial(worker, codec, check or (lambda outcome: None), status).report()


class _Trial:
    """Executes one run that is not killed, and one for each point that is; compares their outcomes."""

    def __init__(self, worker: _Worker, codec: Codec, check: Callable[[Outcome], object], status: str) -> None:
        self._worker = worker
        self._status = status
        self._codec = codec
        self._check = check
        self._prefix = f"crash-{os.getpid()}-{time.time_ns():x}"

    def report(self) -> CrashReport:
        result = self._worker.execute("without a crash", f"{self._prefix}-0", at=None, after=False, shift=0.0)
        expected = self._outcome(f"{self._prefix}-0", result)
        if expected.status != self._status:
            because = "" if expected.error is None else f": {expected.error}"
            raise AssertionError(
                f"the run has {expected.status} in {expected.state} even without a crash{because}; "
                f"if that is intended, pass status={expected.status!r}"
            )
        self._check(expected)
        points = [
            self._killed(number, when, write, expected)
            for number, write in enumerate(result["points"], 1)
            for when in ("before", "after")
        ]
        return CrashReport(expected, tuple(points))

    def _killed(self, number: int, when: str, write: str, expected: Outcome) -> CrashPoint:
        run_id = f"{self._prefix}-{number}-{when}"
        point = CrashPoint(number, when, write)
        result = self._worker.execute(f"until {point}", run_id, at=number, after=when == "after", shift=0.0)
        if "died" in result:  # it may have made fewer writes this time
            point = point._replace(write=result["died"])
            shift = result["shift"] + LEASE + 1  # by then its lease has expired
            result = self._worker.execute(f"after a crash {point}", run_id, at=None, after=False, shift=shift)
        outcome = self._outcome(run_id, result)
        if differences := expected.differences(outcome):
            raise AssertionError(
                f"the run does not survive a crash {point}:" + "".join(f"\n  - {line}" for line in differences)
            )
        try:
            self._check(outcome)
        except AssertionError as error:
            error.add_note(f"after a crash {point}")
            raise
        return point

    def _outcome(self, run_id: str, result: Mapping[str, Any]) -> Outcome:
        data = {key: self._decoded(base64.b64decode(value)) for key, value in result["data"].items()}
        return Outcome(
            run_id, result["status"], result["state"], data, result["error"], result["unbroken"], result["free"],
        )  # fmt: skip

    def _decoded(self, value: bytes) -> Any:
        with suppress(SerializationError):  # only the worker knows its class: then the bytes are compared
            return self._codec.decode(value)
        return value


@dataclass
class _Worker:
    """A handle to the worker process."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    output: Path
    patience: float
    _buffer: bytes = field(default=b"")

    def execute(self, what: str, run_id: str, **options: Any) -> dict[str, Any]:
        """Let a child of the worker execute a run, and return its reports. `what` names the execution in errors."""
        self.send({"run_id": run_id, **options})
        result: dict[str, Any] = {}
        while "ended" not in result:
            result |= self.receive(what)
        if "hangs" in result:
            raise AssertionError(f"{what}, the run hangs:{result['hangs']}{self._printed()}")
        if "broken" in result:
            raise AssertionError(f"{what}, the run failed to execute:\n{result['broken']}{self._printed()}")
        if "died" not in result and "status" not in result:
            raise AssertionError(f"{what}, its process ended with status {result['ended']}{self._printed()}")
        return result

    def send(self, values: Mapping[str, Any]) -> None:
        """Send the worker a line of JSON."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(values).encode() + b"\n")
        self.process.stdin.flush()

    def receive(self, what: str) -> dict[str, Any]:
        """Return the next report of the worker."""
        deadline = time.monotonic() + self.patience
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise AssertionError(f"{what}, the run did not end within {self.patience:g} s{self._printed()}")
            chunk = os.read(self.answers.fileno(), 65536)
            if not chunk:
                raise AssertionError(f"{what}, the worker ended with status {self.process.wait()}{self._printed()}")
            self._buffer += chunk
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _printed(self) -> str:
        printed = self.output.read_text(errors="replace")[-4000:]
        return f"\nIt printed:\n{printed}" if printed else ""


@contextmanager
def _worker(settings: Mapping[str, Any], folder: Path, patience: float) -> Iterator[_Worker]:
    readable, writable = os.pipe()
    output = folder / "output"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with os.fdopen(readable, "rb") as answers, output.open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from cano.testing import crash_worker; crash_worker.main({writable})"],
            env=environment, pass_fds=[writable],
            stdin=subprocess.PIPE, stdout=printed, stderr=printed, start_new_session=True,
        )  # fmt: skip
        os.close(writable)
        try:
            worker = _Worker(process, answers, output, max(patience, 60.0))  # a busy machine takes long to start it
            worker.send(settings)
            started = worker.receive("at its start")
            if "broken" in started:
                raise ConfigurationError(f"another process cannot execute this workflow:\n{started['broken']}")
            worker.patience = patience
            yield worker
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # with its child, which may hang
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def _location(flow: Workflow[Any] | str) -> tuple[str, str, str | None]:
    """Return the module, attribute and file where another process finds a workflow."""
    if isinstance(flow, str):
        module, colon, attribute = flow.partition(":")
        if not (module and colon and attribute):
            raise ConfigurationError(f"flow must be a workflow or 'module:attribute', not {flow!r}")
        return module, attribute, None
    if not isinstance(flow, Workflow):
        raise ConfigurationError(f"flow must be a workflow or 'module:attribute', not {flow!r}")
    for name, known in tuple(sys.modules.items()):
        if name == "__main__" or not inspect.ismodule(known):
            continue
        for attribute, value in tuple(vars(known).items()):
            if value is flow:
                return name, attribute, getattr(known, "__file__", None)
    raise ConfigurationError(
        f"another process must be able to find workflow {flow.name!r}: make it a global of a module other than the "
        "main one, or pass 'module:function' of a function that makes it"
    )


def _codec(flow: Workflow[Any]) -> Codec:
    kernel = Kernel()
    kernel.load()
    codec: Codec | None = kernel.ask("cano_codec")
    if codec is None:
        raise ConfigurationError(f"a durable store needs a codec; the plugin 'msgspec' is {kernel.inactive('msgspec')}")
    codec.register(*types_of(flow))
    return codec


def _encoded(codec: Codec, value: Any) -> str:
    return base64.b64encode(codec.encode(value)).decode()


def _same(one: Any, two: Any) -> bool:
    try:
        return type(one) is type(two) and bool(one == two)
    except Exception:  # noqa: BLE001  # a user's __eq__ may raise
        return False


def _shown(value: Any, run_id: str | None = None) -> str:
    """Return a value as text; with `run_id`, in full and without that id."""
    if value is MISSING:
        return "missing"
    return f"{value!r:.200}" if run_id is None else repr(value).replace(run_id, "RUN")
