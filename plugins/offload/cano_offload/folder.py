"""`Folder`: files named after the SHA-256 of their content."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import NamedTuple

from cano import ConfigurationError, SerializationError, StoreUnavailableError
from cano.options import file_mode as check_file_mode

from cano_offload.lock import locked, opener

LOCK = ".lock"
UNFINISHED = ".tmp"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PREFIX = re.compile(r"[0-9a-f]{2}", re.ASCII)
_NAME = re.compile(r"[0-9a-f]{62}|\.[0-9a-f]{16}\.tmp", re.ASCII)


class StoredFile(NamedTuple):
    """A file in the folder.

    Attributes:
        path: the file.
        digest: the SHA-256 in its name; None for an unfinished file that a crash has left.
        size: bytes.
        changed: when its value was last stored, in seconds since the Unix epoch.
    """

    path: Path
    digest: str | None
    size: int
    changed: float


class Folder:
    """A folder of files `ab/cdef…`, where `abcdef…` is the SHA-256 of the content. Files are never changed.

    Args:
        path: the folder. It is created on first use; its parent must exist.
        file_mode: the mode of new files, whatever the umask. New folders have it, too, and let the users enter that
            may read the files.

    Raises:
        ConfigurationError: the parent does not exist, the path is a file, or `file_mode` is wrong.
    """

    def __init__(self, path: str | os.PathLike[str], *, file_mode: int = 0o600) -> None:
        self.file_mode = check_file_mode("file_mode", file_mode)
        if "\0" in os.fspath(path):
            raise ConfigurationError(f"{path!r} cannot be the name of a folder")
        self.path = Path(path).absolute()
        try:
            parent, other = self.path.parent.is_dir(), self.path.exists() and not self.path.is_dir()
        except OSError as error:  # such as a name that is too long for the file system
            raise ConfigurationError(f"{self.path} cannot be the name of a folder: {error.strerror}") from error
        if not parent:
            raise ConfigurationError(
                f"cannot create the folder {self.path}: {self.path.parent} does not exist; create it first"
            )
        if other:
            raise ConfigurationError(f"{self.path} is a file; offload needs a folder")
        self._synced: set[Path] = set()  # folders whose name this process has synced to disk

    def file(self, digest: str) -> Path:
        """Return the path of the file with that SHA-256.

        Raises:
            SerializationError: `digest` is not a hexadecimal SHA-256, so the path could lie outside the folder.
        """
        if not _DIGEST.fullmatch(digest):
            raise SerializationError("the reference to its file is corrupt; restore the value from a backup")
        return self.path / digest[:2] / digest[2:]

    def keep(self, data: bytes) -> str:
        """Write `data` to its file and sync it and its name to disk. Return its SHA-256.

        If the file exists, only its time changes, so that a sweep leaves it.

        Raises:
            StoreUnavailableError: the file cannot be written.
        """
        digest = _sha256(data)
        file = self.file(digest)
        try:
            for folder in (self.path, file.parent):
                self._make(folder)
                if folder not in self._synced:
                    _sync_folder(folder.parent)
                    self._synced.add(folder)
            # no sweep can remove the file between the check and the new time
            with locked(self.path / LOCK, shared=True, mode=self.file_mode):
                if _has_content(file, data):
                    os.utime(file)
                else:
                    _write_atomically(file, data, self.file_mode)
                _sync_folder(file.parent)  # even if another process has just written the file
        except OSError as error:
            raise StoreUnavailableError(f"cannot write {file}: {error.strerror or error}") from error
        return digest

    def _make(self, folder: Path) -> None:
        """Create a folder, unless it exists."""
        try:
            folder.mkdir(0o700)
        except FileExistsError:
            if folder != self.path and folder.is_symlink():  # a sweep would not find its files
                raise OSError(f"{folder} is a symbolic link; put a folder in its place") from None
        else:
            folder.chmod(self.file_mode | self.file_mode >> 2 & 0o111)

    def read(self, digest: str, size: int) -> bytes:
        """Return the content of the file with that SHA-256 and size.

        Raises:
            SerializationError: the file is missing or its content differs.
            StoreUnavailableError: the file cannot be read now.
        """
        file = self.file(digest)
        try:
            with file.open("rb") as opened:
                data = opened.read(size + 1) if os.fstat(opened.fileno()).st_size == size else b""
        except FileNotFoundError:
            raise SerializationError(f"its file {file} is missing; restore it from a backup") from None
        except OSError as error:
            raise StoreUnavailableError(f"cannot read {file}: {error.strerror or error}") from error
        if len(data) != size or _sha256(data) != digest:
            raise SerializationError(
                f"its file {file} was changed: its SHA-256 differs from its name; restore it from a backup"
            )
        return data

    def files(self) -> Iterator[StoredFile]:
        """Return all files that `keep` has written, also unfinished ones.

        Ignore other files in the folder, and all symbolic links.
        """
        for prefix in sorted(self.path.glob("??")):
            if not _PREFIX.fullmatch(prefix.name) or not S_ISDIR(prefix.lstat().st_mode):
                continue
            for path in sorted(prefix.iterdir()):
                if _NAME.fullmatch(path.name) and S_ISREG((found := path.lstat()).st_mode):
                    digest = None if path.name.endswith(UNFINISHED) else prefix.name + path.name
                    yield StoredFile(path, digest, found.st_size, found.st_mtime)

    def remove(self, found: StoredFile, before: float) -> bool:
        """Remove a file unless its value was stored at `before` or later. Return whether this removed it.

        Raises:
            OSError: the file cannot be removed, or a symbolic link is in the place of its folder.
            ConfigurationError: this system cannot lock files, so removing one is not safe.
        """
        with self.exclusively():
            try:
                # by descriptor: the folder may have been replaced by a link since the file was found
                prefix = os.open(found.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            try:
                status = os.stat(found.path.name, dir_fd=prefix, follow_symlinks=False)
                if status.st_mtime >= before or not S_ISREG(status.st_mode):
                    return False
                os.unlink(found.path.name, dir_fd=prefix)
            except FileNotFoundError:
                return False
            finally:
                os.close(prefix)
            return True

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Hold the folder's exclusive lock, so that no process stores a value meanwhile."""
        with locked(self.path / LOCK, shared=False, mode=self.file_mode):
            yield


def _sha256(data: bytes) -> str:
    import hashlib  # imported on first use, because it loads OpenSSL

    return hashlib.sha256(data).hexdigest()


def _has_content(file: Path, data: bytes) -> bool:
    """Return whether the file exists and contains exactly `data`."""
    try:
        return file.stat().st_size == len(data) and file.read_bytes() == data
    except FileNotFoundError:
        return False


def _write_atomically(file: Path, data: bytes, mode: int) -> None:
    """Write a file so that after a crash it either exists completely or not at all."""
    unfinished = file.parent / f".{os.urandom(8).hex()}{UNFINISHED}"
    try:
        with open(unfinished, "xb", opener=opener(mode)) as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk."""
    if os.name == "nt":
        return  # Windows cannot open folders, and journals renames
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
