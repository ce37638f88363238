"""`Lane`: the place of a submitted run in the queues."""

from __future__ import annotations

from typing import Any, NamedTuple

from cano.checks import refuse, text, whole

LONGEST = 200
"""The most bytes of a queue's name, and of a key: stores have them in indexes."""
PRIORITY = 32_000
"""The largest priority; the least one is as far below 0."""


class Lane(NamedTuple):
    """The place of a submitted run in the queues. Runs with equal lanes begin in the order in which they were stored.

    Attributes:
        queue: the name of the queue. A worker that serves some queues claims only their runs.
        priority: the runs with the larger numbers begin first.
        key: runs of one queue and priority begin in turn, one of each key; "" for none.
    """

    queue: str = "default"
    priority: int = 0
    key: str = ""

    @classmethod
    def checked(cls, queue: Any, priority: Any = 0, key: Any = None) -> Lane:
        """Return a lane. Raises ConfigurationError if a value is not allowed."""
        whole("priority", priority, -PRIORITY, PRIORITY)
        for name, value in (("queue", queue), *((("key", key),) if key not in (None, "") else ())):
            if len(text(name, value).encode()) > LONGEST:
                refuse(name, value, f"a text of at most {LONGEST} bytes")
        if "," in queue or not queue.isprintable() or queue != queue.strip():
            refuse("queue", queue, "a name of printable characters, without a comma, or a space at an end")
        return cls(queue, priority, key or "")
