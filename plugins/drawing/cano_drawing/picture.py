"""`picture_of`: the SVG of a workflow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from cano import ConfigurationError

from cano_drawing.layout.graph import Box, Link, Placed
from cano_drawing.layout.layered import lay_out
from cano_drawing.machine import Machine, State
from cano_drawing.shapes import label, px, rect, way
from cano_drawing.style import SHEET
from cano_drawing.trace import Trace
from cano_drawing.words import attribute, columns, count, cut, seconds, xml

MOST = 150
"""States of a picture. Of a workflow with more, the part around one state is drawn."""
NEAR = 40
"""States of such a part."""
BRANCHES = 6
"""Branches that a split's box names one by one."""

LETTER, SMALL = 7.9, 6.7
"""Width of a letter of a name, and of the other texts, in pixels."""
NAME, LINE = 18.0, 15.0
"""Height of a name, and of a line of the other texts."""
NOTE = 22
"""Letters that are kept free for a run's note."""
CHIP = 20.0
"""Height of a branch."""
PAD, MARGIN = 12.0, 14.0
"""Pixels between a box and its texts, and around a picture."""
DOT = 12.0
"""Size of the mark of the start."""


class Part(NamedTuple):
    """A part of a picture, with its size and its SVG, drawn from its upper left corner on."""

    width: float
    height: float
    svg: Sequence[str]

    def at(self, x: float, y: float, attributes: str = "") -> list[str]:
        """Return the SVG at a place."""
        return [f'<g transform="translate({px(x)} {px(y)})"{attributes}>', *self.svg, "</g>"]


def picture_of(machine: Machine, trace: Trace | None = None, around: str | None = None) -> str:
    """Return a workflow as SVG, the same text for the same workflow and run.

    Each state is a group with the attribute `data-state`, each transition one with `data-from` and `data-to`. A run
    adds classes to them, and texts in lines that are kept free for it, so that nothing moves while the run does.

    Args:
        machine: the workflow.
        trace: the way of a run that is drawn over it.
        around: the state around which a large workflow is drawn; by default the run's state, or else the start.

    Raises:
        ConfigurationError: there is no state `around`.
    """
    shown = _shown(machine, trace, around)
    part = _machine(shown, trace)
    width, height = part.width + 2 * MARGIN, part.height + 2 * MARGIN
    what = f"Workflow {machine.name}: {count(len(machine.states), 'state')}"
    if shown.left_out:
        what += f", without {shown.left_out} that are further away"
        height += LINE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="cano{f" {trace.status}" if trace else ""}" role="img" '
        f'aria-label={attribute(what)} viewBox="0 0 {px(width)} {px(height)}" '
        f'width="{px(width)}" height="{px(height)}">',
        f"<title>{xml(what)}</title>",
        f"<style>{SHEET}</style>",
        *part.at(MARGIN, MARGIN),
    ]
    if shown.left_out:
        more = f"{count(shown.left_out, 'more state')} further away"
        lines.append(f'<text class="small" x="{px(MARGIN)}" y="{px(height - MARGIN / 2)}">{xml(more)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _shown(machine: Machine, trace: Trace | None, around: str | None) -> Machine:
    names = {state.name for state in machine.states}
    if around is not None and around not in names:
        raise ConfigurationError(f"workflow {machine.name!r} has no state {around!r} to be drawn around")
    if len(machine.states) <= MOST and around is None:
        return machine
    if around is None:
        around = trace.state if trace is not None and trace.state in names else machine.states[0].name
    return machine.near(around, NEAR)


def _machine(machine: Machine, trace: Trace | None) -> Part:
    states = machine.states
    parts = [_state(state, trace) for state in states]
    number = {state.name: index for index, state in enumerate(states, start=machine.has_start)}
    loops = {arrow.source for arrow in machine.arrows if arrow.source == arrow.target}
    boxes = [Box(DOT, DOT)] * machine.has_start
    boxes += [Box(part.width, part.height, state.name in loops) for state, part in zip(states, parts, strict=True)]
    links = [Link(number[arrow.source], number[arrow.target]) for arrow in machine.arrows]
    placed = lay_out(boxes, [Link(0, 1)] * machine.has_start + links)
    return Part(placed.width, placed.height, [*_ways(machine, placed, trace), *_boxes(machine, parts, placed, trace)])


def _ways(machine: Machine, placed: Placed, trace: Trace | None) -> Iterator[str]:
    if machine.has_start:
        x, y = placed.centers[0]
        yield f'<circle class="start" cx="{px(x)}" cy="{px(y)}" r="{px(DOT / 2)}"/>'
        yield f'<g class="arrow">{way(placed.routes[0])}</g>'
    for arrow, route in zip(machine.arrows, placed.routes[machine.has_start :], strict=True):
        taken = 0 if trace is None else trace.taken.get((arrow.source, arrow.target), 0)
        classes = "arrow" + " fallback" * arrow.fallback + " taken" * bool(taken)
        title = f"{arrow.source} → {arrow.target}"
        title += ", if all attempts fail" if arrow.fallback else ""
        title += f", taken {count(taken, 'time')}" if taken else ""
        names = f"data-from={attribute(arrow.source)} data-to={attribute(arrow.target)}"
        yield f'<g class="{classes}" {names}><title>{xml(title)}</title>{way(route)}</g>'


def _boxes(machine: Machine, parts: Sequence[Part], placed: Placed, trace: Trace | None) -> Iterator[str]:
    for state, part, (x, y) in zip(machine.states, parts, placed.centers[machine.has_start :], strict=True):
        classes = "state" + " exit" * state.is_exit + " undefined" * state.is_undefined
        if trace is not None:
            classes += " visited" * (state.name in trace.visits) + " current" * (state.name == trace.state)
        attributes = f' class="{classes}" data-state={attribute(state.name)}'
        yield from part.at(x - part.width / 2, y - part.height / 2, attributes)


def _state(state: State, trace: Trace | None) -> Part:
    """Return a state's box: its name, its task, the branches or the workflow in it, and a run's notes."""
    small = [*_lines(state)]
    note = None if trace is None else _note(state, trace)
    below = [*_inside(state)]
    widths = [columns(cut(state.name)) * LETTER, *(columns(each) * SMALL for each in small), 60.0]
    widths += [part.width for part in below]
    if note is not None:
        widths.append(NOTE * SMALL)
    width = max(widths) + 2 * PAD
    lines = [f"<title>{xml(_title(state))}</title>"]
    texts, y = [label(cut(state.name), width / 2, PAD / 2 + 14)], PAD / 2 + NAME
    for each in small:
        texts.append(label(each, width / 2, y + 11, "small"))
        y += LINE
    for part in below:
        texts += part.at((width - part.width) / 2, y + 4)
        y += part.height + 8
    if note is not None:
        texts.append(label(cut(note, int((width - PAD) / SMALL)), width / 2, y + 11, "note"))
        y += LINE
    height = y + PAD / 2
    lines.append(rect(0, 0, width, height, "box", height / 2 if state.is_exit and not small else 7))
    if state.is_exit:
        radius = height / 2 - 3 if not small else 5
        lines.append(rect(3, 3, width - 6, height - 6, "rim", radius))
    return Part(width, height, [*lines, *texts])


def _lines(state: State) -> Iterator[str]:
    if state.task is not None:
        yield cut(state.task)
    elif state.is_undefined:
        yield "no task"
    if state.open_ended:
        yield "any state may follow"


def _title(state: State) -> str:
    return state.name if state.task is None else f"{state.name}: {state.task}"


def _note(state: State, trace: Trace) -> str:
    """Return what a run did in a state, or does there."""
    if state.name == trace.state and trace.waits_for is not None:
        return f"waits: {trace.waits_for}"
    if state.name not in trace.visits:
        return trace.status if state.name == trace.state and trace.status != "succeeded" else ""
    number, took = trace.visits[state.name]
    return seconds(took) if number == 1 else f"{number} visits, {seconds(took)}"


def _inside(state: State) -> Iterator[Part]:
    if state.branches:
        named = [cut(name, 24) for name in state.branches[:BRANCHES]]
        if (more := len(state.branches) - BRANCHES) > 0:
            named.append(f"and {more} more")
        width = max(map(columns, named)) * SMALL + 14
        svg = []
        for index, name in enumerate(named):
            y = index * (CHIP + 3)
            svg += [rect(0, y, width, CHIP, "branch", 4), label(name, width / 2, y + 14, "small")]
        yield Part(width, len(named) * (CHIP + 3) - 3, svg)
    if state.inner is not None:
        drawn = _machine(state.inner, None)
        width, height = drawn.width + 2 * PAD, drawn.height + 2 * PAD
        yield Part(width, height, [rect(0, 0, width, height, "inner", 5), *drawn.at(PAD, PAD)])
