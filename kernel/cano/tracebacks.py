"""Tracebacks of what users' code raised, as bounded texts. Making one never fails, whatever the exception does."""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator
from contextlib import suppress
from traceback import walk_tb
from types import FrameType, TracebackType

from cano.errors import CanoError, JoinError
from cano.safe_text import LONGEST, error_text, safe_repr, safe_str

__all__ = ["fold", "members", "raised_at", "rendered"]

ENV = "CANO_TRACEBACK"
"""The environment variable with what tracebacks contain, too, separated by commas: `full` is the engine's frames, and
`locals` the local variables of the user's."""

LINKS = 20
"""Exceptions of a chain that a text shows: those nearest to the root cause, and the last one."""
FIRST, LAST = 5, 20
"""Frames that a text shows of one exception, from the begin and from the end of its traceback."""
MEMBERS, DEPTH = 10, 3
"""Members that a text shows of a group of exceptions, and of how many groups inside one another."""
LOCALS, WIDTH = 30, 200
"""Local variables that a text shows of a frame, and characters of the value of one."""
_ENGINE = ("cano", "cano_durability")
_PYTHON = os.path.dirname(os.__file__) + os.sep
_PACKAGES = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_CAUSED = "\nThe above exception was the direct cause of the following exception:\n"
_DURING = "\nDuring handling of the above exception, another exception occurred:\n"


def rendered(error: BaseException) -> str:
    """Return the traceback of `error` as text: the root cause first, with files, lines, source lines and notes.

    One line stands for the engine's frames of an exception, and for those in the middle of a long traceback. The text
    has at most 10,000 characters. CANO_TRACEBACK=locals in the environment adds local variables, shortened.
    """
    lines, size = [], 0
    try:
        for line in _chain_lines(error, DEPTH):
            lines.append(line)
            if (size := size + len(line) + 1) > LONGEST:
                break
        return safe_str("\n".join(lines))
    except Exception:  # noqa: BLE001  # the exception's own code may raise anything, also in what looks like an attribute
        return error_text(error)


def raised_at(error: BaseException) -> str | None:
    """Return `file:line in function` of the user's frame that raised the root cause of `error`; None if there is none.

    It is the innermost frame that is not the engine's, nor of Python, nor of an installed package; else of one.
    """
    try:
        for link, _ in _links(error):
            frames = [frame for frame in walk_tb(link.__traceback__) if not _is_engine(frame[0])]
            own = [frame for frame in frames if not _is_installed(frame[0].f_code.co_filename)]
            if chosen := own or frames:
                frame, line = chosen[-1]
                return f"{safe_str(frame.f_code.co_filename)}:{line} in {safe_str(frame.f_code.co_name)}"
    except Exception:  # noqa: BLE001  # as above
        pass
    return None


def fold(error: BaseException) -> None:
    """Take the engine's frames out of the tracebacks of an error that ends a run, and of its causes.

    Python then prints the user's frames alone, and those through which the error is raised from here. With
    CANO_TRACEBACK=full in the environment, this does nothing.
    """
    if isinstance(error, CanoError) and not _wants("full"):
        with suppress(Exception):  # what the exception's own code raises
            _fold(error, DEPTH)


def _fold(error: BaseException, depth: int) -> None:
    for link, _ in _links(error):
        own: TracebackType | None = None
        for step in reversed(list(_steps(link.__traceback__))):
            if not _is_engine(step.tb_frame):
                own = TracebackType(own, step.tb_frame, step.tb_lasti, step.tb_lineno)
        if own is not None or isinstance(link, CanoError):
            link.__traceback__ = own
        for member in members(link) if depth else ():
            _fold(member, depth - 1)


def _links(error: BaseException) -> list[tuple[BaseException, str]]:
    """Return `error` and its causes, the root cause first, each with the text that joins it to the one before."""
    found: list[tuple[BaseException, str]] = []
    link: BaseException | None = error
    seen: set[int] = set()
    while link is not None and id(link) not in seen and len(seen) < 1000:
        seen.add(id(link))
        caused, before = link.__cause__ is not None, link.__cause__
        if not caused and not link.__suppress_context__:
            before = link.__context__
        found.append((link, "" if before is None else _CAUSED if caused else _DURING))
        link = before
    return found[::-1]


def _chain_lines(error: BaseException, depth: int) -> Iterator[str]:
    links = _links(error)
    for number, (link, joint) in enumerate(links):
        if LINKS <= number < len(links) - 1:
            continue
        if number > LINKS:
            yield f"\n… {number - LINKS} more exceptions"
        if number:
            yield joint
        yield from _lines(link)
        parts = members(link)
        for place, member in enumerate(parts[:MEMBERS] if depth else (), start=1):
            yield f"  +-- {place} of {len(parts)}"
            for text in _chain_lines(member, depth - 1):
                yield "  | " + text.replace("\n", "\n  | ")
        if len(parts) > MEMBERS or (parts and not depth):
            yield f"  +-- … {len(parts) - (MEMBERS if depth else 0)} more exceptions"


def members(error: BaseException) -> list[BaseException]:
    """Return the exceptions of a group, or of the branches of a split but for the first, which is the cause."""
    if isinstance(error, BaseExceptionGroup):
        return list(error.exceptions)
    outcome = getattr(error, "outcome", None) if isinstance(error, JoinError) else None  # a task's own has none
    found = getattr(outcome, "errors", ())
    return [each for each in found if isinstance(each, BaseException) and each is not error.__cause__]


def _lines(error: BaseException) -> Iterator[str]:
    """Yield the lines of one exception, without its causes."""
    frames = list(walk_tb(error.__traceback__))
    if frames:
        yield "Traceback (most recent call last):"
    own = [frame for frame in frames if not _is_engine(frame[0])]
    shown = own if own or isinstance(error, CanoError) else frames  # only a mistake of the engine shows its own
    if len(shown) < len(frames):
        yield "  … frames of cano"
    for number, (frame, line) in enumerate(shown):
        if FIRST <= number < len(shown) - LAST:
            if number == FIRST:
                yield f"  … {len(shown) - FIRST - LAST} more frames"
            continue
        yield f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}'
        if source := linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip():
            yield f"    {source}"
        if own and _wants("locals"):
            for name, value in list(frame.f_locals.items())[:LOCALS]:
                shown_value = safe_repr(value)
                yield f"      {name} = {shown_value[:WIDTH]}{' …' if len(shown_value) > WIDTH else ''}"
    kind, text = type(error), safe_str(error)
    module = "" if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}."
    yield f"{module}{kind.__qualname__}{text and ': '}{text}"
    with suppress(Exception):  # it may be anything, a property that raises as well
        for note in error.__notes__:
            yield safe_str(note)


def _steps(step: TracebackType | None) -> Iterator[TracebackType]:
    while step is not None:
        yield step
        step = step.tb_next


def _wants(what: str) -> bool:
    return what in os.environ.get(ENV, "").split(",")


def _is_engine(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__")).partition(".")[0] in _ENGINE


def _is_installed(file: str) -> bool:
    return file.startswith((_PYTHON, "<frozen ")) or any(part in file for part in _PACKAGES)
