"""The order in each row, with few crossings: by the barycenters of the neighbours, and by swapping neighbours.

Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures", 1981; the swaps are
those of Gansner et al., "A technique for drawing directed graphs", 1993.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence

Rows = list[list[int]]

WORK = 2_000
"""Boxes and bends that all sweeps together may place, so that large graphs get fewer sweeps."""
LEAST, MOST = 3, 30
"""The fewest and the most sweeps from each beginning."""


class Ordering:
    """The rows of a layered graph, whose links connect rows that are next to each other.

    Args:
        rows: the row of each node.
        links: the links, each from a row to the next one.
    """

    def __init__(self, rows: Sequence[int], links: Iterable[tuple[int, int]]) -> None:
        self._row_of = rows
        self._above: Rows = [[] for _ in rows]
        self._below: Rows = [[] for _ in rows]
        for source, target in links:
            self._below[source].append(target)
            self._above[target].append(source)
        self._place = [0] * len(rows)

    def best(self) -> Rows:
        """Return the order with the fewest crossings that was found."""
        sweeps = max(LEAST, min(MOST, WORK // max(1, len(self._row_of))))
        found: tuple[int, Rows] | None = None
        for backwards in (False, True):
            crossings, rows = self._improved(self._visited(backwards), sweeps)
            if found is None or crossings < found[0]:
                found = crossings, rows
            if not crossings:
                break
        assert found is not None
        return found[1]

    def _visited(self, backwards: bool) -> Rows:
        """Return the nodes of each row as a depth first visit meets them."""
        rows: Rows = [[] for _ in range(max(self._row_of, default=-1) + 1)]
        seen = [False] * len(self._row_of)
        nodes = range(len(self._row_of))
        for root in [*(node for node in nodes if not self._above[node]), *nodes]:
            stack = [root]
            while stack:
                node = stack.pop()
                if not seen[node]:
                    seen[node] = True
                    rows[self._row_of[node]].append(node)
                    stack += self._below[node] if backwards else reversed(self._below[node])
        return rows

    def _improved(self, rows: Rows, sweeps: int) -> tuple[int, Rows]:
        self._settle(rows)
        best, kept, since = self._crossings(rows), [list(row) for row in rows], 0
        for sweep in range(sweeps):
            if not best or since == 6:
                break
            self._sweep(rows, down=sweep % 2 == 0, ties=sweep % 4 > 1)
            self._swap(rows)
            since += 1
            if (crossings := self._crossings(rows)) < best:
                best, kept, since = crossings, [list(row) for row in rows], 0
        return best, kept

    def _settle(self, rows: Rows) -> None:
        for row in rows:
            for place, node in enumerate(row):
                self._place[node] = place

    def _sweep(self, rows: Rows, *, down: bool, ties: bool) -> None:
        """Sort each row by the mean place of the neighbours in the row before, which has been sorted."""
        place, near = self._place, self._above if down else self._below
        for row in rows if down else reversed(rows):
            keys = {}
            for node in row:
                some = near[node]
                keys[node] = sum([place[each] for each in some]) / len(some) if some else float(place[node])
            if ties:  # nodes of one mean change their order, which leads out of a local minimum
                row.reverse()
            row.sort(key=keys.__getitem__)
            for number, node in enumerate(row):
                place[node] = number

    def _swap(self, rows: Rows) -> None:
        """Swap neighbours in a row while that removes crossings."""
        place, above, below = self._place, self._above, self._below
        changed = set(range(len(rows)))
        while changed:
            index = min(changed)
            changed.remove(index)
            row, better = rows[index], False
            for number in range(len(row) - 1):
                one, other = row[number], row[number + 1]
                if _gain(above[one], above[other], place) + _gain(below[one], below[other], place) > 0:
                    row[number], row[number + 1] = other, one
                    place[one], place[other] = number + 1, number
                    better = True
            if better:
                changed.update(near for near in (index - 1, index, index + 1) if 0 <= near < len(rows))

    def _crossings(self, rows: Rows) -> int:
        place, below, number = self._place, self._below, 0
        for row in rows[:-1]:
            ends: list[int] = []
            for node in row:
                new = [place[each] for each in below[node]]
                for end in new:
                    number += len(ends) - bisect_right(ends, end)
                for end in new:
                    insort(ends, end)
        return number


def _gain(ones: Sequence[int], others: Sequence[int], place: Sequence[int]) -> int:
    """Return how many crossings vanish if a node with the neighbours `ones` goes behind one with `others`."""
    if len(ones) == len(others) == 1:
        left, right = place[ones[0]], place[others[0]]
        return (left > right) - (left < right)
    gain = 0
    for one in ones:
        left = place[one]
        for other in others:
            right = place[other]
            gain += (left > right) - (left < right)
    return gain
