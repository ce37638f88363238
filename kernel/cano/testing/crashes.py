"""`survives_crashes`: kill a run at every write to its store, and see that it comes to the same end all the same.

    def test_order() -> None:
        report = survives_crashes(flow, {"order": 7})
        print(report)

For each write (the run's creation, each commit, each claim) a process begins a run and kills itself with SIGKILL,
once before the write and once after it. Another process recovers the run. Exit state, data and error must be those
of a run that nobody has killed. A task's effects on the outside happen at least once: whether the idempotency key
made them once is for `check` to see.
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

from cano.data.store import MISSING
from cano.errors import ConfigurationError, SerializationError
from cano.kernel.kernel import Kernel
from cano.model.code_reading import types_of
from cano.model.workflow import Workflow
from cano.protocols import Codec
from cano.testing.crash_worker import LEASE, load_flow


class CrashPoint(NamedTuple):
    """Where a run was killed.

    Attributes:
        number: which of its writes to the store that was, counted from 1.
        when: "before" or "after" the store did it.
        write: what it was.
    """

    number: int
    when: str
    write: str

    def __str__(self) -> str:
        return f"{self.when} write {self.number} ({self.write})"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has come to.

    Attributes:
        run_id: its id; every point has a run of its own.
        status: "succeeded", "failed" or "cancelled".
        state: name of the exit state, or of the state that failed.
        data: its data.
        error: the message of what it failed with, or None.
        unbroken: whether its history is one unbroken line.
        free: whether nobody holds it any more.
    """

    run_id: str
    status: str
    state: str
    data: Mapping[str, Any]
    error: str | None = None
    unbroken: bool = True
    free: bool = True

    def differences(self, other: Outcome) -> list[str]:
        """How `other`, which was killed on its way, differs from this one, which was not; but for their ids."""
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
    """What `survives_crashes` has seen.

    Attributes:
        outcome: what the run comes to, killed or not.
        points: where it was killed.
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
    virtual_time: bool = True,
    patience: float = 60.0,
) -> CrashReport:
    """Check that a run of `flow` comes to the same end wherever its process is killed.

    Args:
        flow: a workflow that is a global of a module, such as a test's; or "module:attribute", where the attribute
            may also be a function that makes one.
        data: the run's first data.
        store: URL of a durable store for the runs; by default an SQLite file in a temporary folder.
        signals: names and payloads of signals that are sent to the run when it has started.
        check: called with the outcome of each recovered run, and of the one that was not killed; may raise
            AssertionError, where an effect on the outside is not what it should be, say.
        virtual_time: whether waits and delays take no real time. Not for tasks that themselves wait for something
            real, such as a network.
        patience: seconds that a run may take.

    Raises:
        AssertionError: it does not survive. The message names the point, and what differs.
        ConfigurationError: the workflow cannot be found by another process, or there is no codec or store.
    """
    if not hasattr(os, "fork"):
        raise ConfigurationError("survives_crashes needs os.fork and SIGKILL, which this system has not")
    with tempfile.TemporaryDirectory(prefix="cano-crashes-") as folder:
        place = _place(flow)
        codec = _codec(load_flow(*place) if isinstance(flow, str) else flow)
        order = {
            "module": place[0], "attribute": place[1], "file": place[2], "path": sys.path, "virtual": virtual_time,
            "store": f"sqlite:///{folder}/runs.db?synchronous=normal" if store is None else store,
            "data": {str(key): _encoded(codec, value) for key, value in (data or {}).items()},
            "signals": [(name, _encoded(codec, payload)) for name, payload in signals],
        }  # fmt: skip
        with _worker(order, Path(folder), patience) as worker:
            return _Trial(worker, codec, check or (lambda outcome: None)).report()


class _Trial:
    """Runs that are killed, and one that is not, to compare them with."""

    def __init__(self, worker: _Worker, codec: Codec, check: Callable[[Outcome], object]) -> None:
        self._worker = worker
        self._codec = codec
        self._check = check
        self._prefix = f"crash-{os.getpid()}-{time.time_ns():x}"

    def report(self) -> CrashReport:
        said = self._worker.play("without a crash", f"{self._prefix}-0", at=None, after=False, late=0.0)
        expected = self._outcome(f"{self._prefix}-0", said)
        self._check(expected)
        points = [
            self._killed(number, when, write, expected)
            for number, write in enumerate(said["points"], 1)
            for when in ("before", "after")
        ]
        return CrashReport(expected, tuple(points))

    def _killed(self, number: int, when: str, write: str, expected: Outcome) -> CrashPoint:
        run_id = f"{self._prefix}-{number}-{when}"
        point = CrashPoint(number, when, write)
        said = self._worker.play(f"until {point}", run_id, at=number, after=when == "after", late=0.0)
        if "died" in said:  # it may have made fewer writes this time
            point = point._replace(write=said["died"])
            late = said["late"] + LEASE + 1  # by then its lease has lapsed
            said = self._worker.play(f"after a crash {point}", run_id, at=None, after=False, late=late)
        outcome = self._outcome(run_id, said)
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

    def _outcome(self, run_id: str, said: Mapping[str, Any]) -> Outcome:
        data = {key: self._decoded(base64.b64decode(value)) for key, value in said["data"].items()}
        return Outcome(
            run_id, said["status"], said["state"], data, said["error"], said["unbroken"], said["free"],
        )  # fmt: skip

    def _decoded(self, value: bytes) -> Any:
        with suppress(SerializationError):  # its class is known to the worker only: then the bytes are compared
            return self._codec.decode(value)
        return value


@dataclass
class _Worker:
    """The process that lets runs die, as its parent sees it."""

    process: subprocess.Popen[bytes]
    answers: IO[bytes]
    output: Path
    patience: float
    _buffer: bytes = field(default=b"")

    def play(self, what: str, run_id: str, **how: Any) -> dict[str, Any]:
        """Let it play a run; what it said of that."""
        self.tell({"run_id": run_id, **how})
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= self.answer(what)
        if "broken" in said:
            raise AssertionError(f"{what}, the run broke:\n{said['broken']}{self._printed()}")
        if "died" not in said and "status" not in said:
            raise AssertionError(f"{what}, its process died by itself, with status {said['ended']}{self._printed()}")
        return said

    def tell(self, what: Mapping[str, Any]) -> None:
        """Send it a line."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self, what: str) -> dict[str, Any]:
        """The next thing that it says."""
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
def _worker(order: Mapping[str, Any], folder: Path, patience: float) -> Iterator[_Worker]:
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
            worker = _Worker(process, answers, output, patience)
            worker.tell(order)
            started = worker.answer("at its start")
            if "broken" in started:
                raise ConfigurationError(f"another process cannot play this workflow:\n{started['broken']}")
            yield worker
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # with the child that may hang
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()


def _place(flow: Workflow[Any] | str) -> tuple[str, str, str | None]:
    """Module, attribute and file under which another process finds a workflow."""
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
        "main one, or say 'module:function' of a function that makes it"
    )


def _codec(flow: Workflow[Any]) -> Codec:
    kernel = Kernel()
    kernel.load()
    codec: Codec | None = kernel.hook.cano_codec()
    if codec is None:
        raise ConfigurationError("a durable store needs a codec: install cano-msgspec")
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
    """How a value is written; without the run's id, if that is given."""
    if value is MISSING:
        return "not there"
    return f"{value!r:.200}" if run_id is None else repr(value).replace(run_id, "RUN")
