"""`Folder`: files that are named by the SHA-256 of what is in them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from cano import ConfigurationError, SerializationError, StoreUnavailableError

from cano_offload.lock import locked

LOCK = ".lock"
UNFINISHED = ".tmp"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PREFIX = re.compile(r"[0-9a-f]{2}", re.ASCII)
_NAME = re.compile(r"[0-9a-f]{62}|\.[0-9a-f]{16}\.tmp", re.ASCII)


class Found(NamedTuple):
    """A file of the folder.

    Attributes:
        path: the file.
        digest: what it is named for; None for one that a crash has left unfinished.
        size: bytes.
        changed: when it was written or asked for last, in wall-clock seconds.
    """

    path: Path
    digest: str | None
    size: int
    changed: float


class Folder:
    """Files `ab/cdef…` that hold what has the SHA-256 `abcdef…`. They are written once, and never changed.

    Args:
        path: the folder. It is made where it is missing, in one that must be there.

    Raises:
        ConfigurationError: there is none to make it in, or it is a file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if "\0" in os.fspath(path):
            raise ConfigurationError(f"{path!r} cannot be the name of a folder")
        self.path = Path(path).absolute()
        if not self.path.parent.is_dir():
            raise ConfigurationError(f"cannot make the folder {self.path}: there is no {self.path.parent}")
        if self.path.exists() and not self.path.is_dir():
            raise ConfigurationError(f"{self.path} is a file; offload needs a folder")
        self._durable: set[Path] = set()  # folders whose own entry this process has seen on disk

    def file(self, digest: str) -> Path:
        """Where what has that SHA-256 is kept.

        Raises:
            SerializationError: it is no SHA-256 in hexadecimal, and so might be the way to somewhere else.
        """
        if not _DIGEST.fullmatch(digest):
            raise SerializationError("the reference to its file is damaged")
        return self.path / digest[:2] / digest[2:]

    def keep(self, data: bytes) -> str:
        """Have `data` on disk, and its name; returns its SHA-256.

        Raises:
            StoreUnavailableError: it cannot be written.
        """
        digest = _sha256(data)
        file = self.file(digest)
        try:
            for folder in (self.path, file.parent):
                folder.mkdir(exist_ok=True)
                if folder not in self._durable:
                    _sync(folder.parent)
                    self._durable.add(folder)
            with locked(self.path / LOCK, shared=True):  # nobody removes it between our look and our touch
                if _holds(file, data):
                    os.utime(file)
                else:
                    _write(file, data)
                _sync(file.parent)  # also where another process has written it just now
        except OSError as error:
            raise StoreUnavailableError(f"cannot write {file}: {error.strerror or error}") from error
        return digest

    def read(self, digest: str, size: int) -> bytes:
        """What was kept under that SHA-256.

        Raises:
            SerializationError: the file is missing, or holds something else.
            StoreUnavailableError: it cannot be read now.
        """
        file = self.file(digest)
        try:
            with file.open("rb") as opened:
                data = opened.read(size + 1) if os.fstat(opened.fileno()).st_size == size else b""
        except FileNotFoundError:
            raise SerializationError(f"its file {file} is missing") from None
        except OSError as error:
            raise StoreUnavailableError(f"cannot read {file}: {error.strerror or error}") from error
        if len(data) != size or _sha256(data) != digest:
            raise SerializationError(f"its file {file} was changed: it does not have the SHA-256 that it is named for")
        return data

    def files(self) -> Iterator[Found]:
        """All files of ours that are there. Others are passed over."""
        for prefix in sorted(self.path.glob("??")):
            for path in sorted(prefix.iterdir()) if _PREFIX.fullmatch(prefix.name) and prefix.is_dir() else ():
                if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                    digest = None if path.name.endswith(UNFINISHED) else prefix.name + path.name
                    yield Found(path, digest, path.stat().st_size, path.stat().st_mtime)

    def remove(self, found: Found, before: float) -> bool:
        """Remove a file, unless it was written or asked for at `before` or later; whether it is gone.

        Raises:
            OSError: it cannot be removed.
            ConfigurationError: this system cannot lock files, so that it would not be safe.
        """
        with self.exclusively():
            try:
                if found.path.stat().st_mtime >= before:
                    return False
                found.path.unlink()
            except FileNotFoundError:
                return False
            return True

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """While this lasts, nobody writes or asks for a file."""
        with locked(self.path / LOCK, shared=False):
            yield


def _sha256(data: bytes) -> str:
    import hashlib  # late: a program that only loads its plugins need not pay for OpenSSL

    return hashlib.sha256(data).hexdigest()


def _holds(file: Path, data: bytes) -> bool:
    """Whether the file is there, and has not been damaged."""
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except FileNotFoundError:
        return False


def _write(file: Path, data: bytes) -> None:
    """Write a file so that, whatever happens, it is there as a whole or not at all."""
    unfinished = file.parent / f".{os.urandom(8).hex()}{UNFINISHED}"
    try:
        with unfinished.open("xb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    if os.name == "nt":
        return  # folders cannot be opened there; renaming is journaled
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
