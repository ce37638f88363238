"""The look of a picture: one style sheet, light and dark, that a page may replace."""

from __future__ import annotations

COLORS = {
    "ink": ("#1c2430", "#e6eaf0"),
    "soft": ("#586374", "#a3afbf"),
    "line": ("#7a889c", "#77869c"),
    "box": ("#ffffff", "#1b222c"),
    "inner": ("#f1f4f8", "#242d3a"),
    "taken": ("#1667c7", "#6cb0ff"),
    "good": ("#14713d", "#5fd08f"),
    "bad": ("#b3261e", "#ff8f86"),
    "wait": ("#8a5a00", "#f0c05a"),
}
"""Each color in a light and in a dark surrounding. Texts have a contrast of at least 4.5 to both kinds of boxes."""

_SHAPES = """
.cano{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
.cano text{font-size:13px}
.cano .small,.cano .note{font-size:11px}
.cano .box,.cano .rim{stroke-width:1.2}
.cano .rim,.cano .way{fill:none}
.cano .branch{stroke-width:.8}
.cano .way{stroke-width:1.4}
.cano .fallback .way{stroke-dasharray:5 4}
.cano .undefined>.box{stroke-dasharray:4 3}
.cano .taken .way{stroke-width:2}
.cano .current>.box,.cano .current>.rim{stroke-width:2.4}
.cano.parked .current>.box{stroke-dasharray:6 3}
"""

_COLORED = """
.cano text{fill:$ink}
.cano .small{fill:$soft}
.cano .box{fill:$box;stroke:$line}
.cano .rim,.cano .way{stroke:$line}
.cano .branch{fill:$inner;stroke:$line}
.cano .inner{fill:$inner}
.cano .tip,.cano .start{fill:$line}
.cano .undefined>.box{stroke:$bad}
.cano .undefined>.small{fill:$bad}
.cano .visited>.box,.cano .visited>.rim,.cano .taken .way,.cano .current>.box,.cano .current>.rim{stroke:$taken}
.cano .taken .tip,.cano .note{fill:$taken}
.cano.succeeded .current>.box,.cano.succeeded .current>.rim{stroke:$good}
.cano.parked .current>.box,.cano.parked .current>.rim{stroke:$wait}
.cano.parked .current>.note{fill:$wait}
.cano.failed .current>.box,.cano.cancelled .current>.box{stroke:$bad}
.cano.failed .current>.note,.cano.cancelled .current>.note{fill:$bad}
"""


def _colored(index: int) -> str:
    """Return the rules with the light or the dark colors; not as variables, which many programs do not know."""
    rules = _COLORED
    for name, both in COLORS.items():
        rules = rules.replace(f"${name}", both[index])
    return rules


SHEET = f"{_SHAPES}{_colored(0)}@media (prefers-color-scheme:dark){{{_colored(1)}}}".strip()
"""The style sheet. All its rules are for what is inside an element of the class `cano`."""
