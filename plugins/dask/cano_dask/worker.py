"""The function that a worker of Dask executes for each call that may report."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from distributed import get_worker


def execute(function: Callable[..., bytes], args: tuple[bytes, ...], topic: str, key: str) -> tuple[bytes, int]:
    """Execute a call, and return its answer and how often it has reported.

    Args:
        function: the function.
        args: its arguments.
        topic: the topic of Dask's events that the reports go to.
        key: stands for the call in these events.
    """
    worker: Any = get_worker()
    lock, count = threading.Lock(), 0

    def report(data: bytes) -> None:
        nonlocal count
        with lock:  # so that the events have the order of the calls
            count += 1
            worker.log_event(topic, (key, data))

    return function(*args, report), count
