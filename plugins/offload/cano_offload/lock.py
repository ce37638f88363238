"""A lock between processes, on a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cano import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(file: Path, *, shared: bool) -> Iterator[None]:
    """Hold the lock on `file`, which is made where it is missing; a crash frees it.

    Raises:
        OSError: the file cannot be opened or locked.
        ConfigurationError: this system has no such locks, and an exclusive one is wanted. Shared ones are done without.
    """
    if fcntl is None:
        if not shared:
            raise ConfigurationError("this system cannot lock files, so nothing can be removed safely while it is used")
        yield
        return
    with file.open("ab") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
