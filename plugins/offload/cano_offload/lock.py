"""A file lock that excludes other processes; and opening files with an exact mode."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cano import ConfigurationError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(file: Path, *, shared: bool, mode: int) -> Iterator[None]:
    """Hold a lock on `file`, which is created with `mode` if it is missing. A crash releases the lock.

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
    with open(file, "ab", opener=opener(mode)) as opened:
        fcntl.flock(opened, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield


def opener(mode: int) -> Callable[[str, int], int]:
    """Return an opener for `open`. It creates files with `mode`, whatever the umask, and follows no symbolic link."""

    def open_file(path: str, flags: int) -> int:
        flags |= getattr(os, "O_NOFOLLOW", 0)  # Windows has none
        try:
            descriptor = os.open(path, flags | os.O_EXCL, mode & 0o600)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            return os.open(path, flags & ~os.O_CREAT)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        return descriptor

    return open_file
