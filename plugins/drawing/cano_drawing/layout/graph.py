"""Boxes and links that are laid out, and the places that they got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Point = tuple[float, float]


class Box(NamedTuple):
    """A box to be placed, with its size in pixels. `loops` reserves room for an arrow from the box to itself."""

    width: float
    height: float
    loops: bool = False


class Link(NamedTuple):
    """An arrow between two boxes, by their numbers."""

    source: int
    target: int


class Placed(NamedTuple):
    """The result of a layout.

    Attributes:
        width, height: the size of the whole, in pixels.
        centers: the center of each box.
        routes: for each link the points that its line passes, from the source's edge to the target's.
    """

    width: float
    height: float
    centers: Sequence[Point]
    routes: Sequence[Sequence[Point]]
