"""Layers: each box gets a row, so that as many links as possible point down and are short."""

from __future__ import annotations

from collections.abc import Sequence

from cano_drawing.layout.graph import Link

PASSES = 8
"""The most passes in which boxes move to the row in which their links are shortest."""


def pointing_down(number: int, links: Sequence[Link]) -> list[bool]:
    """Return for each link whether it is drawn downwards; the others close a cycle, and are drawn upwards.

    The boxes are visited depth first, from the first one on. A link to a box that is being visited closes a cycle.
    """
    leaving: list[list[int]] = [[] for _ in range(number)]
    for place, link in enumerate(links):
        leaving[link.source].append(place)
    down = [True] * len(links)
    begun, ended = [False] * number, [False] * number
    for root in range(number):
        if begun[root]:
            continue
        begun[root] = True
        stack = [(root, iter(leaving[root]))]
        while stack:
            box, rest = stack[-1]
            for place in rest:
                target = links[place].target
                if not begun[target]:
                    begun[target] = True
                    stack.append((target, iter(leaving[target])))
                    break
                down[place] = ended[target]
            else:
                ended[box] = True
                stack.pop()
    return down


def layers_of(number: int, links: Sequence[Link]) -> list[int]:
    """Return the row of each box, counted from 0 at the top. The links have no cycle, and lead to a greater row."""
    above: list[list[int]] = [[] for _ in range(number)]
    below: list[list[int]] = [[] for _ in range(number)]
    for source, target in links:
        below[source].append(target)
        above[target].append(source)
    order = _sorted(above, below)
    rows = [0] * number
    for box in order:
        rows[box] = max((rows[each] + 1 for each in above[box]), default=0)
    for _ in range(PASSES):
        moved = [_moved(box, rows, above, below) for box in reversed(order)]
        if not any(moved):
            break
    least = min(rows, default=0)
    return [row - least for row in rows]


def _sorted(above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> list[int]:
    """Return the boxes so that each comes after those above it."""
    missing = [len(some) for some in above]
    order = [box for box, some in enumerate(above) if not some]
    for box in order:
        for each in below[box]:
            missing[each] -= 1
            if not missing[each]:
                order.append(each)
    return order


def _moved(box: int, rows: list[int], above: Sequence[Sequence[int]], below: Sequence[Sequence[int]]) -> bool:
    """Move a box to the lowest row if more links leave it than reach it. Return whether it has moved."""
    if len(below[box]) <= len(above[box]) or not below[box]:
        return False
    lowest = min(rows[each] for each in below[box]) - 1
    moved, rows[box] = lowest != rows[box], lowest
    return moved
