"""Reports of a call about itself: items of streams, search attributes, progress, and whether it knows its wait's token.

Items with `flush`, and progress, are sent at once if the executor has a channel for that; all else with the answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from cano import Codec, Progress, SerializationError, Step, current_wait
from cano.engine.ports import NOTHING, Detail

PAUSE = 0.1
"""Seconds from one report of progress that is sent at once to the next."""
LIVE_BYTES = 64 * 1024
"""Bytes of items from which they are sent at once, also without `flush`."""


class Reported(NamedTuple):
    """Reports that come with the answer.

    Attributes:
        items: channel, encoded item and `flush` of what was not sent before.
        progress: the arguments of the last report of progress, if it was not sent before.
        attributes: the search attributes that were changed, as `Detail.attributes` has them.
        token_known: whether the task has asked for the token of its wait.
    """

    items: list[tuple[str, bytes, bool]]
    progress: list[Any] | None = None
    attributes: Mapping[str, tuple[bool, Any]] = {}
    token_known: bool = False


class Reporter:
    """Collects the reports of one call, where it is executed. It is the emitter and the journal of the call's step.

    Args:
        codec: encodes the items.
        send: the executor's channel, or None.
    """

    def __init__(self, codec: Codec, send: Callable[[bytes], object] | None) -> None:
        self._codec = codec
        self._send = send
        self._lock = threading.Lock()
        self._items: list[tuple[str, bytes, bool]] = []
        self._size = 0
        self._progress: Progress | None = None  # not yet sent
        self._sent_at = -PAUSE
        self._timer: threading.Timer | None = None
        self._ended = False
        self.detail: Detail | None = None
        """That of the call's step, once it is known."""

    def emit(self, step: Step, channel: str, item: Any, flush: bool) -> Awaitable[None]:
        """See `Step.emit`. It takes as long as the channel does; what a call emits after its end is dropped."""
        try:
            encoded = self._codec.encode(item)
        except SerializationError as error:
            error.add_note(f"an item of channel {channel!r} cannot be sent to the process of run {step.run_id}")
            raise
        with self._lock:
            if not self._ended:
                self._items.append((channel, encoded, flush))
                self._size += len(encoded)
                if self._send is not None and (flush or self._size >= LIVE_BYTES):
                    self._flush()
        return NOTHING

    def report_progress(self, run: Any) -> None:
        """Send the progress, at once or a moment after the last time."""
        if self._send is None:
            return  # the answer has it
        with self._lock:
            self._progress = run.detail.progress
            wait = self._sent_at + PAUSE - time.monotonic()
            if wait <= 0:
                self._flush()
            elif self._timer is None and not self._ended:
                self._timer = threading.Timer(wait, self._later)
                self._timer.daemon = True
                self._timer.start()

    def _later(self) -> None:
        with self._lock:
            self._timer = None
            if self._progress is not None:
                self._flush()

    def _flush(self) -> None:
        if self._ended or self._send is None:
            return
        items, self._items, self._size = self._items, [], 0
        progress, self._progress = self._progress, None
        if progress is not None:
            self._sent_at = time.monotonic()
        self._send(self._codec.encode([items, progress and [*progress]]))

    def end(self) -> Reported | None:
        """Send nothing more, and return what the answer is to report; None for nothing."""
        with self._lock:
            if self._progress is not None:
                self._flush()
            self._ended = True
            if self._timer is not None:
                self._timer.cancel()
            if (detail := self.detail) is None:
                return None
            progress = detail.progress if self._send is None else None  # otherwise it was sent just now
            reported = Reported(self._items, progress and [*progress], detail.attributes, detail.token_known)
        return reported if any(reported) else None


class Receiver:
    """Takes the reports of one attempt's calls, in the process of the run.

    Args:
        codec: decodes them.
        step: the step, as the attempt sees it.
    """

    def __init__(self, codec: Codec, step: Step) -> None:
        self._codec = codec
        self._step = step
        self._emitted = False
        self.problem: Exception | None = None
        """The first error of a report, which is the attempt's; otherwise None."""

    def report(self, data: bytes) -> None:
        """Take what a call has sent, in any thread."""
        if self.problem is None:
            try:
                items, progress = self._codec.decode(data)
                self._take(items, progress)
            except Exception as error:  # noqa: BLE001  # the attempt raises it
                self.problem = error

    def begin_again(self) -> None:
        """Mark what was emitted as superseded: the worker was lost, and another one gets the call."""
        emitter = self._step.run.emitter
        if self._emitted and emitter is not None:
            emitter.discard(self._step, self._step.phase, ended=False)

    def finish(self, reported: Reported | None) -> None:
        """Take the reports of the answer. Raises the first error of a report."""
        if self.problem is not None:
            raise self.problem
        if reported is not None:
            self._take(reported.items, reported.progress)
            self._set(reported)

    def _take(self, items: Any, progress: Any) -> None:
        for channel, item, flush in items:
            self._emitted = True
            self._step.emit(channel, self._codec.decode(item), flush=flush)
        if progress is not None:
            self._step.progress(*progress)

    def _set(self, reported: Reported) -> None:
        attributes = self._step.attributes
        for name, (is_set, value) in reported.attributes.items():
            if is_set:
                attributes[name] = value
            else:
                del attributes[name]
        if reported.token_known:
            current_wait()
