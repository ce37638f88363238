"""Channels for reports: for executors whose reports come apart from the results of the calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

LATE = 60.0
"""Seconds that a report may come after its call's result. They come before it, unless a connection was lost."""


class Channel:
    """Hands reports to the calls that make them. All methods belong to one event loop."""

    def __init__(self) -> None:
        self._calls: dict[str, _Reports] = {}

    def open(self, key: str, take: Callable[[bytes], object]) -> None:
        """Let `take` get the reports of the call that `key` stands for, until `close`."""
        self._calls[key] = _Reports(take)

    def take(self, key: str, data: bytes) -> None:
        """Take a report. One of a call that has ended is dropped."""
        if (reports := self._calls.get(key)) is not None:
            reports.count += 1
            reports.take(data)
            reports.more.set()

    async def received(self, key: str, count: int) -> None:
        """Wait until `count` reports of the call have come. Raises TimeoutError after `LATE` seconds."""
        reports = self._calls[key]
        if reports.count < count:
            async with asyncio.timeout(LATE):
                while reports.count < count:
                    reports.more.clear()
                    await reports.more.wait()

    def close(self, key: str) -> None:
        """Take no more reports of the call."""
        self._calls.pop(key, None)


class _Reports:
    def __init__(self, take: Callable[[bytes], object]) -> None:
        self.take = take
        self.count = 0
        self.more = asyncio.Event()
