"""Calls and their answers as bytes."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple

from cano import (
    Changes,
    Codec,
    ConfigurationError,
    RemoteError,
    SerializationError,
    SplitOutcome,
    sleep_until,
    wait_for,
)
from cano.engine.ports import error_text, rendered

from cano_remote.naming import Target, class_name, class_named
from cano_remote.reports import Reported

FORMAT = 2
CAUSES = 4
"""The most causes of an error that are sent."""
_PAUSE: Any = type(sleep_until(0, then=""))


class Header(NamedTuple):
    """The part of a request that is the same for all calls of a bound task.

    Attributes:
        target: the function.
        types: the names of the classes that its values may have.
        whole: whether the argument is the data of a whole task, and not one value for a node's `exec`.
        attributes: the names of the types of the search attributes that the workflow declares.
    """

    target: Target
    types: tuple[str, ...]
    whole: bool
    attributes: Mapping[str, str] = {}

    def packed(self, codec: Codec) -> bytes:
        """Return the header as bytes."""
        target = [*self.target._replace(attributes=dict(self.target.attributes))]
        return codec.encode([FORMAT, target, list(self.types), self.whole, dict(self.attributes)])

    @classmethod
    def unpacked(cls, data: bytes, codec: Codec) -> Header:
        """Return the header that was packed into `data`.

        Raises:
            SerializationError: the bytes are corrupt, or of another version.
        """
        try:
            version, *rest = codec.decode(data)
            if version != FORMAT:
                raise ValueError(f"it has format {version!r}, and this version of cano-remote reads {FORMAT}")
            target, types, whole, attributes = rest
            return cls(Target(*target), tuple(types), whole, attributes)
        except (TypeError, ValueError) as error:
            raise SerializationError(f"a call for this process cannot be read: {error}") from error


class Answer(NamedTuple):
    """The result of a call, and its changes of the data.

    Attributes:
        result: the result.
        changes: the changes of a whole task.
        reads: the keys whose values a whole task has read.
        reported: the reports of the call that were not sent before, or None.
    """

    result: Any
    changes: Changes | None = None
    reads: tuple[str, ...] = ()
    reported: Reported | None = None

    def packed(self, codec: Codec) -> bytes:
        """Return the answer as bytes. Raises SerializationError if a value cannot be encoded."""
        result, pause = self.result, isinstance(self.result, _PAUSE)
        if isinstance(result, _PAUSE):
            result = [result.signal, result.then, result.timeout, result.until, result.on_timeout, result.fresh]
        changes = None if self.changes is None else self.changes.packed()
        reported = None if self.reported is None else [*self.reported]
        return codec.encode([True, pause, result, changes, list(self.reads), reported])


def packed_error(error: BaseException, codec: Codec, depth: int = CAUSES) -> bytes:
    """Return an error as bytes: its class, arguments, attributes and causes, as far as they can be sent."""
    place = f"raised in process {os.getpid()} on {socket.gethostname()}"
    try:
        arguments = codec.encode(error.args)
    except Exception:  # noqa: BLE001  # an argument cannot be sent: the error's text must do
        arguments = None
    attributes = {}
    for name, value in vars(error).items():
        try:
            attributes[name] = codec.encode(value)
        except Exception:  # noqa: BLE001  # this attribute cannot be sent
            continue
    cause = error.__cause__
    note = f"{place}:\n{rendered(error)}" if depth == CAUSES else ""  # which has those of the causes, too
    return codec.encode([
        False, class_name(type(error)), arguments, attributes, error_text(error), note,
        None if cause is None or depth == 0 else packed_error(cause, codec, depth - 1),
    ])  # fmt: skip


def unpacked_error(data: bytes, codec: Codec) -> Exception:
    """Return the error of `packed_error`."""
    _, *rest = codec.decode(data)
    return _error(codec, *rest)


def packed_outcome(outcome: SplitOutcome, codec: Codec) -> bytes:
    """Return the outcome of a split as bytes: errors as text; the reason in its place if a result cannot be sent."""
    try:
        return codec.encode([outcome.packed(), ""])
    except SerializationError as error:
        return codec.encode([None, f"the outcome of the split cannot be sent to another process: {error}"])


def unpacked_outcome(data: bytes, codec: Codec) -> Any:
    """Return the outcome of `packed_outcome`, or an object that raises the reason when a task reads it."""
    packed, problem = codec.decode(data)
    return SplitOutcome.unpacked(packed) if not problem else _Unsent(problem)


class _Unsent:
    """Stands for what could not be sent. Its attributes raise ConfigurationError."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def __getattr__(self, name: str) -> Any:
        raise ConfigurationError(self._problem)


def unpacked(data: bytes, codec: Codec) -> Answer | Exception:
    """Return what `data` was made of: an answer, or the error that the call raised.

    Raises:
        SerializationError: the bytes are corrupt, or have a value of a class that this program does not know.
    """
    fine, *rest = codec.decode(data)
    if not fine:
        return _error(codec, *rest)
    pause, result, changes, reads, reported = rest
    if pause:
        signal, then, timeout, until, on_timeout, fresh = result
        if signal is None:
            result = sleep_until(until, then=then)
        else:
            result = wait_for(signal, then=then, timeout=timeout, on_timeout=on_timeout, fresh=fresh)
    changes = None if changes is None else Changes.unpacked(changes)
    return Answer(result, changes, tuple(reads), reported and Reported(*reported))


def _error(
    codec: Codec, name: str, arguments: bytes | None, attributes: Mapping[str, bytes], text: str, note: str,
    cause: bytes | None,
) -> Exception:  # fmt: skip
    """Return the error; a `RemoteError` with its text where it cannot be made here."""
    made: Exception | None = None
    kind = class_named(name)
    if kind is not None and issubclass(kind, Exception) and arguments is not None:
        try:
            args = codec.decode(arguments)
            made = kind.__new__(kind, *args)
            made.args = args
            for key, value in attributes.items():
                setattr(made, key, codec.decode(value))
        except Exception:  # noqa: BLE001  # the class cannot be made of its arguments
            made = None
    if made is None:
        made = RemoteError(text, error_type=name)
    if note:
        made.add_note(note)
    if cause is not None:
        made.__cause__ = unpacked_error(cause, codec)
    return made
