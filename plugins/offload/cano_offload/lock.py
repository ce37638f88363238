"""A file lock that excludes other processes."""

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
    """Hold a lock on `file`, which is created if it is missing. The system releases the lock after a crash.

    On a system without `flock` a shared lock does nothing.

    Raises:
        OSError: the file cannot be opened or locked.
        ConfigurationError: the lock is exclusive and this system has no `flock`.
    """
    if fcntl is None:
        if not shared:
            raise ConfigurationError(
                "this system cannot lock files, so files cannot be removed safely; sweep on a system with flock"
            )
        yield
        return
    with file.open("ab") as opened:
        fcntl.flock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
