"""A step's progress as text."""

from __future__ import annotations

from cano import Progress

CELLS = 10


def bar(progress: Progress) -> str:
    """Return the progress in one line: a bar and a share if the total is known, the amounts, and the message."""
    done, total = f"{progress.done:g}", ""
    if progress.total is not None:
        total = f"/{progress.total:g}"
        if progress.total > 0:
            share = min(1.0, max(0.0, progress.done / progress.total))
            full = int(share * CELLS)
            done = f"[{'#' * full}{'.' * (CELLS - full)}] {share:.0%} {done}"
    return f"{done}{total} {progress.message or ''}".strip()
