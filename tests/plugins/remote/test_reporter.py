"""`Reporter`: what it sends at once, what it keeps for the answer, and what it drops."""

from __future__ import annotations

import queue
from typing import Any

import pytest
from cano import Progress, current_step
from cano.engine.ports import Detail
from cano_msgspec import MsgspecCodec
from cano_remote import reports
from cano_remote.elsewhere import enter, known_flow
from cano_remote.reports import Reporter

CALL: dict[str, Any] = {
    "run_id": "r", "workflow": "w", "version": "1", "state": "a", "task_name": "t", "branch": None, "seq": 1,
    "attempt": 1, "phase": None, "payload": None, "outcome": None, "error": None, "parents": [], "deadline": None,
}  # fmt: skip


class Sent:
    """Decodes what a reporter sends."""

    def __init__(self) -> None:
        self.codec = MsgspecCodec()
        self.reports: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
        self.reporter = Reporter(self.codec, self.send)
        self.detail: Detail = enter(CALL, self.reporter, known_flow({}))
        self.reporter.detail = self.detail

    def send(self, data: bytes) -> None:
        """Keep a report."""
        items, progress = self.codec.decode(data)
        self.reports.put([[(channel, self.codec.decode(item)) for channel, item, _ in items], progress])


def test_items_wait_for_one_with_flush_or_for_the_end() -> None:
    """One report has all items so far, and the answer has the rest. After the end, items are dropped."""
    sent = Sent()
    for number in range(3):
        current_step().emit("x", number, flush=number == 1)
    assert sent.reports.get_nowait() == [[("x", 0), ("x", 1)], None]
    reported = sent.reporter.end()
    assert reported is not None
    assert [(channel, sent.codec.decode(item), flush) for channel, item, flush in reported.items] == [("x", 2, False)]
    current_step().emit("x", 3, flush=True)
    assert sent.reports.empty()


def test_many_bytes_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that emits much keeps little of it in its process."""
    monkeypatch.setattr(reports, "LIVE_BYTES", 10)
    sent = Sent()
    current_step().emit("x", "a" * 20)
    assert sent.reports.get_nowait() == [[("x", "a" * 20)], None]
    assert sent.reporter.end() is None


def test_the_last_progress_is_sent_a_moment_later() -> None:
    """Of many reports of progress the first is sent at once, and the last without another report; few in between."""
    sent = Sent()
    for number in range(1000):
        current_step().progress(number)
    received = [sent.reports.get(timeout=60)]
    while received[-1][1] != [999, None, None]:
        received.append(sent.reports.get(timeout=60))
    assert received[0] == [[], [0, None, None]]
    assert sent.detail.progress == Progress(999, None, None)
    assert sent.reporter.end() is None


def test_the_end_sends_the_progress_that_waits() -> None:
    """A report that waits for its moment is sent before the answer."""
    sent = Sent()
    current_step().progress(1)
    current_step().progress(2, 2, "done")
    sent.reporter.end()
    received = []
    while not sent.reports.empty():
        received.append(sent.reports.get()[1])
    assert received == [[1, None, None], [2, 2, "done"]]


def test_without_a_channel_the_answer_has_all() -> None:
    """Items, progress and attributes are in the answer."""
    codec = MsgspecCodec()
    reporter = Reporter(codec, None)
    reporter.detail = enter(CALL, reporter, known_flow({"tenant": str}))
    step = current_step()
    step.emit("x", 1, flush=True)
    step.progress(1, 2)
    step.attributes["tenant"] = "acme"
    reported = reporter.end()
    assert reported is not None
    assert (reported.items, reported.progress, reported.attributes) == (
        [("x", codec.encode(1), True)], [1, 2, None], {"tenant": (True, "acme")},
    )  # fmt: skip
