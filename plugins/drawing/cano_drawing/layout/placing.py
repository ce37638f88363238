"""The places in each row: near the neighbours in the other rows, in order, and apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

ROUNDS = 2
"""How often all rows are placed, downwards and upwards."""
LONG = 3.0
"""How much more a line that passes a row pulls at each end than another one, so that long lines are straight."""


class Pull(NamedTuple):
    """A step of a line, which pulls at a node: towards where the node at its other end is, and `shift` from there."""

    other: int
    weight: float
    shift: float


class Places:
    """The horizontal centers of nodes in rows.

    Args:
        rows: the nodes of each row, from left to right.
        widths: the width of each node.
        gap: the least distance between two nodes of a row.
    """

    def __init__(self, rows: Sequence[Sequence[int]], widths: Sequence[float], gap: float) -> None:
        self._rows = rows
        self._offsets = [_offsets(row, widths, gap) for row in rows]
        self.x = [0.0] * len(widths)
        for row, offsets in zip(rows, self._offsets, strict=True):
            for node, offset in zip(row, offsets, strict=True):
                self.x[node] = offset - offsets[-1] / 2

    def improve(
        self, steps: Sequence[tuple[int, int]], ends: Sequence[tuple[float, float]], bends: Sequence[bool]
    ) -> None:
        """Move the nodes to where the lines pull them.

        Args:
            steps: the lines' steps, each from a row to the next one.
            ends: where each step begins and ends, from the centers of its nodes.
            bends: whether a node is a point that a long line passes.
        """
        above: list[list[Pull]] = [[] for _ in self.x]
        below: list[list[Pull]] = [[] for _ in self.x]
        for (source, target), (begin, end) in zip(steps, ends, strict=True):
            weight = 1.0 + LONG * (bends[source] + bends[target])
            above[target].append(Pull(source, weight, begin - end))
            below[source].append(Pull(target, weight, end - begin))
        indices = range(len(self._rows))
        for turn in range(ROUNDS):
            last = turn == ROUNDS - 1
            for order, near in ((indices, above), (reversed(indices), below)):
                for index in order:
                    self._place(index, (above, below) if last else (near,))

    def _place(self, index: int, sides: Sequence[Sequence[Sequence[Pull]]]) -> None:
        """Place the nodes of a row as near as possible to where they are pulled, by least squares.

        Nodes that would overlap or change their order form a block, which moves as one ("pool adjacent violators").
        """
        x, row, offsets = self.x, self._rows[index], self._offsets[index]
        blocks: list[tuple[float, float, int]] = []  # the mean place that its first node wants, the weight, the size
        for node, offset in zip(row, offsets, strict=True):
            wanted = weight = 0.0
            for near in sides:
                for other, pull, shift in near[node]:
                    wanted += pull * (x[other] + shift)
                    weight += pull
            if not weight:
                wanted, weight = 0.01 * x[node], 0.01
            mean, size = wanted / weight - offset, 1
            while blocks and blocks[-1][0] >= mean:
                before, heavy, many = blocks.pop()
                mean = (before * heavy + mean * weight) / (heavy + weight)
                weight, size = weight + heavy, size + many
            blocks.append((mean, weight, size))
        place = 0
        for mean, _, size in blocks:
            for _ in range(size):
                x[row[place]] = mean + offsets[place]
                place += 1


def _offsets(row: Sequence[int], widths: Sequence[float], gap: float) -> list[float]:
    """Return the distance of each node from the first one, if they are as near as they may be."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (widths[left] + widths[right]) / 2 + gap)
    return offsets
