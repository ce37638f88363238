"""Frees the memory that a kept exception holds."""

from __future__ import annotations

import traceback
from contextlib import suppress

from cano.tracebacks import members


def clear_locals(error: BaseException) -> None:
    """Clear the local variables in the tracebacks of `error`, its causes and its parts. Their texts stay the same.

    Otherwise a kept error would keep what its task had loaded, and the errors that led to that task.
    """
    todo: list[BaseException | None] = [error]
    cleared: set[int] = set()
    while todo:
        one = todo.pop()
        if one is None or id(one) in cleared:
            continue
        cleared.add(id(one))
        traceback.clear_frames(one.__traceback__)
        with suppress(Exception):  # what the exception's own code raises
            todo += [one.__cause__, one.__context__, *members(one)]
