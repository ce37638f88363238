"""Reads the file of a run, as often as it is asked to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from cano import Appended, RunRecord, Signal, SizeLimits, Transition

from cano_durability.run_files.frames import SLACK, Reader, Sealing
from cano_durability.run_files.packing import KINDS, Unpacker


class RunFile:
    """The file of a run, which is read twice: to check it, and to write the run.

    Args:
        file: the file.
        limits: the sizes that are accepted.
        sealing: decrypts the frames, if the store is encrypted.

    Attributes:
        digest: the SHA-256 of the file, once it was read.
        parts: whether the run has lists in parts, as far as it was read.
    """

    def __init__(self, file: BinaryIO, limits: SizeLimits, sealing: Sealing | None) -> None:
        self._file = file
        self._limits = limits
        self._sealing = sealing
        self.digest = ""
        self.parts = False

    def items(self) -> Iterator[Any]:
        """Yield the run's record, its transitions, signals and ids. Raises RunFileError."""
        self._file.seek(0)
        reader = Reader(self._file, self._sealing, self._limits.run + SLACK)
        unpacker, order = Unpacker(self._limits), _Order(self._limits)
        for frame in reader.frames():
            try:
                item = unpacker.unpacked(frame)
                order.check(frame.meta["kind"], item)
            except ValueError as error:
                raise reader.error("forged", f"{error}; export the run again", frame.offset) from error
            values: Mapping[str, Any] = getattr(item, "data", getattr(item, "changed", {}))
            self.parts |= any(value.__class__ is Appended for value in values.values())
            yield item
        if (problem := order.problem()) is not None:
            raise reader.error("forged", f"{problem}; export the run again")
        self.digest = reader.digest


class _Order:
    """Checks that the parts of a file fit together."""

    def __init__(self, limits: SizeLimits) -> None:
        self._limits = limits
        self._kinds = [*KINDS]
        self._rank, self._seq, self._waiting = -1, -1, 0
        self._run: RunRecord | None = None

    def check(self, kind: str, item: Any) -> None:
        """Check the next part. Raises ValueError."""
        before, self._rank = self._rank, self._kinds.index(kind)
        if self._rank < before or (self._rank == 0) is not (before == -1):
            raise ValueError("it is in the wrong place")
        if isinstance(item, RunRecord):
            self._run = item
        elif isinstance(item, Transition):
            if item.seq <= self._seq:
                raise ValueError(f"transition {item.seq} follows {self._seq}")
            self._seq = item.seq
        elif isinstance(item, Signal):
            self._waiting += not item.own
            if self._waiting > self._limits.signals:
                raise ValueError(f"more than SizeLimits.signals = {self._limits.signals} signals wait")

    def problem(self) -> str | None:
        """Return what is missing at the end, or None."""
        if self._run is None:
            return "it has no run"
        wrong = self._seq not in (-1, self._run.seq)
        return f"its history ends at {self._seq}, and its run is at {self._run.seq}" if wrong else None
