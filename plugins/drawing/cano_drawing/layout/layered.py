"""`lay_out`: boxes in rows, and lines between them that pass no box."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from cano_drawing.layout.graph import Box, Link, Placed, Point
from cano_drawing.layout.layering import layers_of, pointing_down
from cano_drawing.layout.ordering import Ordering
from cano_drawing.layout.placing import Places

GAP = 28.0
"""Pixels between two boxes of a row."""
BETWEEN = 44.0
"""Pixels between two rows."""
BEND = 4.0
"""The width that is kept free for a line that passes a row."""
LOOP = 22.0
"""The width of an arrow from a box to itself."""
PORTS = 16.0
"""The most pixels between the ends of two lines at a box."""


def lay_out(boxes: Sequence[Box], links: Sequence[Link]) -> Placed:
    """Place boxes and lines. The first box comes first, and links to a box itself are drawn at its right.

    Args:
        boxes: the boxes, which never overlap each other, nor a line.
        links: the links, by the boxes' numbers. Those that close a cycle are drawn upwards.
    """
    straight = [place for place, link in enumerate(links) if link.source != link.target]
    down = pointing_down(len(boxes), [links[place] for place in straight])
    drawn = [
        links[place] if is_down else Link(links[place].target, links[place].source)
        for place, is_down in zip(straight, down, strict=True)
    ]
    rows = layers_of(len(boxes), drawn)
    chains, steps = _chains(rows, drawn)
    order = Ordering(rows, steps).best()
    widths = [box.width + 2 * LOOP * box.loops for box in boxes] + [BEND] * (len(rows) - len(boxes))
    bends = [node >= len(boxes) for node in range(len(rows))]
    placed = Places(order, widths, GAP)
    ports = [(0.0, 0.0)] * len(chains)
    for _ in range(2):  # the order of the lines at a box is known when the boxes have been placed
        placed.improve(steps, [*_ends(chains, ports)], bends)
        ports = _ports(chains, placed.x, boxes)
    left = min((placed.x[node] - widths[node] / 2 for node in range(len(rows))), default=0.0)
    x = [each - left for each in placed.x]
    tops, heights = _bands(order, boxes)
    centers = [(x[box], tops[rows[box]] + heights[rows[box]] / 2) for box in range(len(boxes))]
    routes: list[Sequence[Point]] = [_loop(centers[link.source], boxes[link.source]) for link in links]
    for place, is_down, chain, port in zip(straight, down, chains, ports, strict=True):
        points = _route(chain, port, rows, x, tops, heights, boxes)
        routes[place] = points if is_down else points[::-1]
    width = max((x[node] + widths[node] / 2 for node in range(len(rows))), default=0.0)
    return Placed(width, tops[-1] + heights[-1] if tops else 0.0, centers, routes)


def _chains(rows: list[int], links: Sequence[Link]) -> tuple[list[list[int]], list[tuple[int, int]]]:
    """Return for each link the nodes that it passes, and the steps from row to row. Add the rows of new nodes."""
    chains, steps = list[list[int]](), list[tuple[int, int]]()
    for source, target in links:
        chain = [source]
        for row in range(rows[source] + 1, rows[target]):
            chain.append(len(rows))
            rows.append(row)
        chain.append(target)
        chains.append(chain)
        steps += pairwise(chain)
    return chains, steps


def _bands(order: Sequence[Sequence[int]], boxes: Sequence[Box]) -> tuple[list[float], list[float]]:
    """Return the top and the height of each row."""
    tops, heights, top = [], [], 0.0
    for row in order:
        tops.append(top)
        heights.append(max((boxes[node].height for node in row if node < len(boxes)), default=0.0))
        top += heights[-1] + BETWEEN
    return tops, heights


def _ports(chains: Sequence[Sequence[int]], x: Sequence[float], boxes: Sequence[Box]) -> list[tuple[float, float]]:
    """Return where each line leaves its upper box and reaches its lower one: side by side, in the order of the lines.

    The places are counted from the centers of the boxes.
    """
    leaving: list[list[int]] = [[] for _ in boxes]
    reaching: list[list[int]] = [[] for _ in boxes]
    for number, chain in enumerate(chains):
        leaving[chain[0]].append(number)
        reaching[chain[-1]].append(number)
    upper, lower = [0.0] * len(chains), [0.0] * len(chains)
    for ends, groups, near in ((upper, leaving, 1), (lower, reaching, -2)):
        for box, group in enumerate(groups):
            group.sort(key=lambda number: (x[chains[number][near]], number))
            step = min(PORTS, boxes[box].width * 0.8 / max(1, len(group)))
            for index, number in enumerate(group):
                ends[number] = (index - (len(group) - 1) / 2) * step
    return [*zip(upper, lower, strict=True)]


def _ends(chains: Sequence[Sequence[int]], ports: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield for each step of each line where it begins and ends, from the centers of its nodes."""
    for chain, (upper, lower) in zip(chains, ports, strict=True):
        last = len(chain) - 2
        for index in range(last + 1):
            yield upper if index == 0 else 0.0, lower if index == last else 0.0


def _route(
    chain: Sequence[int], port: tuple[float, float], rows: Sequence[int], x: Sequence[float], tops: Sequence[float],
    heights: Sequence[float], boxes: Sequence[Box],
) -> list[Point]:  # fmt: skip
    """Return the points of a line: it crosses each row vertically, and moves sideways between the rows only."""
    first, last = chain[0], chain[-1]
    begin, end = x[first] + port[0], x[last] + port[1]
    row, lowest = rows[first], rows[last]
    points = [(begin, tops[row] + (heights[row] + boxes[first].height) / 2), (begin, tops[row] + heights[row])]
    for node in chain[1:-1]:
        row = rows[node]
        points += [(x[node], tops[row]), (x[node], tops[row] + heights[row])]
    points += [(end, tops[lowest]), (end, tops[lowest] + (heights[lowest] - boxes[last].height) / 2)]
    return [point for point, following in zip(points, [*points[1:], None], strict=True) if point != following]


def _loop(center: Point, box: Box) -> list[Point]:
    right, quarter = center[0] + box.width / 2, box.height / 4
    return [(right, center[1] - quarter), (right + LOOP, center[1]), (right, center[1] + quarter)]
