"""`CompatReport`: which unfinished runs of a store a program can continue. `Kernel.compat` makes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class CompatGroup(NamedTuple):
    """Unfinished runs of one definition that are in the same state.

    Attributes:
        workflow, version, fingerprint: the definition that they were begun under, or have migrated to.
        state: name of the state that is next.
        runs: number of runs.
        problem: "" if this program can continue them. Otherwise "changed" for another definition that `migrate` does
            not cover, "unreadable" for values that cannot be decoded here, or "missing" for a workflow that this
            program does not have.
        differences: every difference between the definitions, or the first reasons why runs cannot be read.
        remedy: what to do about it.
        examples: the ids of some of the runs.
    """

    workflow: str
    version: str
    fingerprint: str
    state: str
    runs: int
    problem: str = ""
    differences: Sequence[str] = ()
    remedy: str = ""
    examples: Sequence[str] = ()


class CompatReport(NamedTuple):
    """The unfinished runs of a store, as a program sees them that is to continue them.

    Attributes:
        groups: the runs in groups, those first that the program cannot continue.
    """

    groups: Sequence[CompatGroup] = ()

    @property
    def unfinished(self) -> int:
        """Number of the runs."""
        return sum(group.runs for group in self.groups)

    @property
    def stranded(self) -> int:
        """Number of the runs that no process with this program can continue."""
        return sum(group.runs for group in self.groups if group.problem)
