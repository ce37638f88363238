"""The shapes of a picture, as SVG: lines with tips, boxes and texts."""

from __future__ import annotations

from collections.abc import Sequence

from cano_drawing.layout.graph import Point
from cano_drawing.words import xml

TIP = 7.0
"""Length of an arrow's tip."""


def way(points: Sequence[Point]) -> str:
    """Return a line with a tip at its end: it is curved between rows, and straight where it passes them."""
    (x, y), before = points[-1], points[-2]
    if points[0][0] == x != points[1][0]:  # an arrow from a box to itself, which comes from the right
        tip, end = ((x + TIP, y - TIP / 2), (x + TIP, y + TIP / 2)), (x + TIP, y)
        (right, middle), top = before, points[0][1]
        path = [f"C{px(right)} {px(top)} {px(right)} {px(2 * middle - top)} {_point(end)}"]
    else:
        back = y - TIP if y > before[1] else y + TIP
        tip, end = ((x - TIP / 2, back), (x + TIP / 2, back)), (x, back)
        path = [*map(_piece, points[:-1], [*points[1:-1], end])]
    corners = " ".join(map(_point, (points[-1], *tip)))
    return f'<path class="way" d="M{_point(points[0])}{"".join(path)}"/><polygon class="tip" points="{corners}"/>'


def _piece(begin: Point, end: Point) -> str:
    (x0, y0), (x1, y1) = begin, end
    if x0 == x1:
        return f"V{px(y1)}"
    half = px((y0 + y1) / 2)
    return f"C{px(x0)} {half} {px(x1)} {half} {px(x1)} {px(y1)}"


def rect(x: float, y: float, width: float, height: float, kind: str, radius: float) -> str:
    """Return a box with its upper left corner at a place, and round corners."""
    size = f'width="{px(width)}" height="{px(height)}" rx="{px(radius)}"'
    return f'<rect class="{kind}" x="{px(x)}" y="{px(y)}" {size}/>'


def label(text: str, x: float, y: float, kind: str = "name") -> str:
    """Return a text whose middle is at `x`, on the line `y`."""
    return f'<text class="{kind}" x="{px(x)}" y="{px(y)}" text-anchor="middle">{xml(text)}</text>'


def _point(point: Point) -> str:
    return f"{px(point[0])} {px(point[1])}"


def px(amount: float) -> str:
    """Return a length with at most one digit after the point."""
    return f"{round(amount, 1) + 0.0:g}"  # without a negative zero
