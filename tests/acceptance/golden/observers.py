"""Observers for the kernels that write and read golden data."""

from __future__ import annotations

import asyncio
import os
import signal

from cano import Run, Step, hookimpl, state_name

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Witness:
    """Records which steps begin, and what runs carry.

    Attributes:
        steps: by run id, the states and branches whose steps began; the number of the attempt follows if it is not 1.
        carried: by run id, what the run carried when it was started or resumed.
    """

    def __init__(self) -> None:
        self.steps: dict[str, list[str]] = {}
        self.carried: dict[str, dict[str, str]] = {}

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Record what it carries."""
        if run.carried:
            self.carried[run.run_id] = dict(run.carried)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Record the step."""
        attempt = "" if step.attempt == 1 else f" #{step.attempt}"
        self.steps.setdefault(step.run_id, []).append((step.branch or state_name(step.state)) + attempt)


class Begun:
    """Sets its event when the step of a state begins."""

    def __init__(self, state: str) -> None:
        self._state = state
        self.event = asyncio.Event()

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Set the event, if it is that state."""
        if state_name(step.state) == self._state:
            self.event.set()


class Parked:
    """Sets its event when a run is parked."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    @hookimpl
    def cano_run_parked(self, run: Run) -> None:
        """Set the event."""
        self.event.set()


class Ended:
    """Sets its event when all runs of these ids have ended."""

    def __init__(self, *run_ids: str) -> None:
        self._run_ids = set(run_ids)
        self.event = asyncio.Event()

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Set the event after the last of the runs."""
        self._run_ids.discard(run.run_id)
        if not self._run_ids:
            self.event.set()


class Strike:
    """Sends this process a signal when a step begins: the store then has all commits before that step.

    Args:
        state: name of the state, or of the branch.
        seq: number of the step; None is any.
        number: the signal.
    """

    def __init__(self, state: str, seq: int | None = None, number: signal.Signals = signal.SIGKILL) -> None:
        self._state = state
        self._seq = seq
        self._number = number

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """Send the signal, if it is that step."""
        if (step.branch or state_name(step.state)) == self._state and self._seq in (None, step.seq):
            os.kill(os.getpid(), self._number)


class Carrier:
    """Lets runs carry a trace, as cano-otel does."""

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """Let the run carry it."""
        run.carry("traceparent", TRACEPARENT)
