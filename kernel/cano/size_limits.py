"""`SizeLimits`: how much a kernel accepts from callers and from its store; and ids that are made from others."""

from __future__ import annotations

from dataclasses import dataclass, fields

from cano.checks import LARGEST, whole
from cano.errors import SizeLimitError

DERIVED = 512
"""Bytes that an id has at most which is made from others. Processes must agree on these ids, so it cannot be set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeLimits:
    """The largest sizes that a kernel accepts. Runs that are stored already are continued, whatever their ids.

    Attributes:
        ids: bytes of the ids that callers choose, of runs and signals.
        names: bytes of the names of workflows, states and signals, and of the keys of a new run's data.
        errors: characters of an error's message, and of its cause, that a run's record and a span keep; the rest is
            cut. Texts of errors that are not of Cano have at most 10,000 in any case.
        run: bytes of all values of a run together, decompressed, when it is read.
        signals: number of signals that wait for one run.
        attributes: bytes of the value of a search attribute, at most 2,000.
        emitted: bytes of the items that a run has emitted and that wait to be stored.

    Raises:
        ConfigurationError: a limit is not a whole number of at least 1.
    """

    ids: int = 512
    names: int = 512
    errors: int = 10_000
    run: int = 2**30
    signals: int = 10_000
    attributes: int = 1000
    emitted: int = 2**24

    def __post_init__(self) -> None:
        for field in fields(self):
            whole(field.name, getattr(self, field.name), 1, 2000 if field.name == "attributes" else LARGEST)

    def check(self, limit: str, what: str, value: str | None, run_id: str | None = None) -> None:
        """Check a text against the limit `ids` or `names`.

        Raises:
            SizeLimitError: it is longer.
        """
        most: int = getattr(self, limit)
        if value is not None and len(value) * 4 > most and (size := len(value.encode(errors="replace"))) > most:
            raise self.exceeded(limit, f"{what}, {value:.30}…, has {size} bytes", size, run_id)

    def exceeded(self, limit: str, problem: str, size: int, run_id: str | None = None) -> SizeLimitError:
        """Return the error for what exceeds a limit."""
        most = getattr(self, limit)
        message = f"{problem}, more than SizeLimits.{limit} = {most}; reduce it, or raise the limit: Kernel(limits="
        return SizeLimitError(message + f"SizeLimits({limit}=…))", limit=limit, most=most, size=size, run_id=run_id)

    def cut(self, text: str) -> str:
        """Return the text of an error, with a mark if its end is cut."""
        return (
            text if len(text) <= self.errors else f"{text[: self.errors]}… ({len(text) - self.errors} more characters)"
        )


def derived_id(text: str) -> str:
    """Return an id that was made from others. One that would be longer than `DERIVED` bytes ends in its hash."""
    whole_text = text.encode(errors="replace")
    if len(whole_text) <= DERIVED:
        return text
    from hashlib import sha256  # late: importing it takes 4 ms

    return whole_text[: DERIVED - 33].decode(errors="ignore") + "~" + sha256(whole_text).hexdigest()[:32]
