"""`process://` keeps every promise of an executor."""

from __future__ import annotations

from cano import Executor
from cano.testing import ExecutorContract
from cano_process import ProcessExecutor


class TestProcesses(ExecutorContract):
    """Two worker processes."""

    def make_executor(self) -> Executor:
        """Return an executor with two workers."""
        return ProcessExecutor(2)
