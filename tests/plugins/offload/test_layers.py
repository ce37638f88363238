"""Limits and offloading: sizes, references and files; no reference leads outside the folder."""

from __future__ import annotations

import hashlib
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cano_offload
import pytest
from cano import ConfigurationError, SerializationError, StoreUnavailableError
from cano_offload import Folder, LimitLayer, OffloadLayer, size_in_bytes
from cano_offload._plugin import cano_codec_layer
from cano_offload.layer import MARK, reference_in
from cano_offload.sizes import format_size
from hypothesis import given
from hypothesis import strategies as st

SHARED = OffloadLayer(100, Folder(Path(tempfile.mkdtemp()) / "blobs"))


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


# sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1), ("4096", 4096), ("7B", 7), ("1KB", 1000), ("512KiB", 512 * 1024), ("1MiB", 1024**2),
        ("10MB", 10_000_000), ("2GiB", 2 * 1024**3), ("3GB", 3 * 10**9), ("1TiB", 1024**4), ("007", 7),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    """Units are powers of 1000 or of 1024."""
    assert size_in_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "0", "0MiB", "MiB", "1 MiB", "1mib", "1Mi", "1M", "-1", "1.5MiB", "1e6", "٣", "1KIB", "1" * 16, "1MiB "],
)
def test_wrong_sizes_are_refused(text: str) -> None:
    """The error about a malformed size shows valid ones."""
    with pytest.raises(ConfigurationError, match="is not a size; write 512KiB, 1MiB, 10MB"):
        size_in_bytes(text)


@given(st.integers(1, 10**14))
def test_a_size_is_shown_exactly(size: int) -> None:
    """A formatted size parses back to the same number."""
    assert size_in_bytes(format_size(size).partition(" (")[0].replace(" bytes", "").replace(" ", "")) == size


# specs


def test_specs(tmp_path: Path) -> None:
    """The plugin makes layers from `limit:` and `offload:` and ignores other names."""
    assert repr(cano_codec_layer("limit:1MiB")) == "<LimitLayer, 1 MiB (1048576 bytes)>"
    layer = cano_codec_layer(f"offload:4097:{tmp_path}/a:b,c")
    assert repr(layer) == f"<OffloadLayer, over 4097 bytes to '{tmp_path}/a:b,c'>"
    assert cano_codec_layer("offloaded:1:a") is None


@pytest.mark.parametrize("spec", ["limit", "limit:", "limit:x", "limit:1:2", "offload:x:blobs"])
def test_wrong_sizes_in_specs(spec: str) -> None:
    """Layers with a malformed size are refused."""
    with pytest.raises(ConfigurationError, match="is not a size"):
        cano_codec_layer(spec)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("offload", "names no folder"),
        ("offload:1MiB", "names no folder"),
        ("offload:1MiB:", "names no folder"),
        ("offload:1MiB:/nowhere/at/all", "/nowhere/at does not exist; create it first"),
        ("offload:1MiB:/dev/null", "is a file"),
        ("offload:1MiB:a\0b", "cannot be the name"),
    ],
)
def test_wrong_folders_in_specs(spec: str, problem: str) -> None:
    """Layers with an impossible folder are refused."""
    with pytest.raises(ConfigurationError, match=problem):
        cano_codec_layer(spec)


# limits


@given(st.binary(max_size=20))
def test_a_limit_refuses_what_is_over_it(data: bytes) -> None:
    """A value over the limit is refused with both sizes; stored values over it can be read."""
    layer = LimitLayer(10)
    assert layer.unwrap(data) == data
    if len(data) <= 10:
        assert layer.wrap(data) == data
    else:
        with pytest.raises(
            SerializationError, match=rf"^its {len(data)} bytes exceed the store's limit of 10 bytes; store less"
        ):
            layer.wrap(data)


# offloading


@given(st.binary(max_size=300))
def test_round_trip(data: bytes) -> None:
    """Any bytes survive, even those that begin with the mark, and the store keeps at most 100 of them."""
    for each in (data, MARK + data, SHARED.wrap(MARK)):
        stored = SHARED.wrap(each)
        assert SHARED.unwrap(stored) == each
        assert len(stored) <= 100
        assert (stored == each) is (len(each) <= 100 and not each.startswith(MARK))


def test_a_file_is_named_for_what_is_in_it(folder: Folder) -> None:
    """Equal values share one file `ab/cdef…`, and no unfinished file is left."""
    layer = OffloadLayer(10, folder)
    data = b"x" * 11
    assert layer.wrap(data) == layer.wrap(data) == MARK + f"{digest(data)}:11".encode()

    (found,) = folder.files()
    assert found.path == folder.path / digest(data)[:2] / digest(data)[2:]
    assert found.path.read_bytes() == data
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", digest(data)[:2]]


def test_a_missing_file_is_named(folder: Folder) -> None:
    """The error about a missing file names the file."""
    layer = OffloadLayer(10, folder)
    stored = layer.wrap(b"x" * 11)
    (found,) = folder.files()
    found.path.unlink()
    with pytest.raises(SerializationError, match=f"^its file {found.path} is missing; restore it from a backup$"):
        layer.unwrap(stored)


@pytest.mark.parametrize("content", [b"y" * 11, b"x" * 10, b"x" * 12, b""])
def test_a_changed_file_is_named_and_repaired(folder: Folder, content: bytes) -> None:
    """Reading a changed file is an error; storing the value again repairs the file."""
    layer = OffloadLayer(10, folder)
    stored = layer.wrap(b"x" * 11)
    (found,) = folder.files()
    found.path.write_bytes(content)
    with pytest.raises(SerializationError, match=f"its file {found.path} was changed"):
        layer.unwrap(stored)

    assert layer.wrap(b"x" * 11) == stored
    assert layer.unwrap(stored) == b"x" * 11


@given(st.binary(max_size=100) | st.from_regex(rb"\A[0-9a-f./]{60,70}(:[0-9]+)?\Z"))
def test_no_reference_leads_elsewhere(rest: bytes) -> None:
    """Any stored bytes with the mark are either refused or the name of a file in the folder."""
    try:
        reference = reference_in(MARK + rest)
        assert reference is not None
        file = SHARED.folder.file(reference.digest)
    except SerializationError as error:
        assert str(error).startswith("the reference to its file is corrupt")  # noqa: PT017  # most of them
    else:
        assert file.parent.parent == SHARED.folder.path
        assert len(file.name) == 62


@pytest.mark.parametrize("name", ["../../etc/passwd", "a" * 63, "A" * 64, "a" * 64 + "\n", "ab/" + "c" * 61, "é" * 64])
def test_a_folder_has_files_of_its_own_only(folder: Folder, name: str) -> None:
    """`Folder.read` refuses every name that is not a SHA-256."""
    with pytest.raises(SerializationError):
        folder.read(name, 1)


def test_a_full_disk(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full, the store is unavailable, and no unfinished file is left."""

    def full(opened: int) -> None:
        raise OSError(28, "No space left on device")

    layer = OffloadLayer(10, folder)
    layer.wrap(b"y" * 11)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreUnavailableError, match=r"cannot write .*: No space left on device"):
            layer.wrap(b"x" * 11)
    assert [found.digest for found in folder.files()] == [digest(b"y" * 11)]


def test_a_file_that_cannot_be_read(folder: Folder) -> None:
    """If a file cannot be read, here because it is a folder, the store is unavailable."""
    layer = OffloadLayer(10, folder)
    stored = layer.wrap(b"x" * 11)
    (found,) = folder.files()
    found.path.unlink()
    found.path.mkdir()
    with pytest.raises(StoreUnavailableError, match="cannot read"):
        layer.unwrap(stored)


def test_files_are_synced_before_they_are_referred_to(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folders' names are synced first, then the file's content, then its name."""
    log: list[str] = []
    sync, replace = os.fsync, Path.replace

    def noted_sync(opened: int) -> None:
        log.append(Path(f"/proc/self/fd/{opened}").resolve().name)
        sync(opened)

    def noted_replace(self: Path, target: Any) -> Path:
        log.append("renamed")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    data = b"x" * 11
    prefix = digest(data)[:2]
    OffloadLayer(10, folder).wrap(data)

    parent, above, unfinished, *rest = log
    assert (parent, above) == (folder.path.parent.name, "blobs")
    assert unfinished.endswith(".tmp")
    assert rest == ["renamed", prefix]

    log.clear()
    OffloadLayer(10, Folder(folder.path)).wrap(data)  # as another process, which finds the file
    assert log == [parent, "blobs", prefix]


def test_many_threads_keep_the_same_values(folder: Folder) -> None:
    """Threads that store equal values never read an incomplete file."""
    layer = OffloadLayer(10, folder)
    values = [bytes([number % 5]) * 5000 for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda data: layer.unwrap(layer.wrap(data)), values)) == values
    assert len([*folder.files()]) == 5


def test_the_readme_says_it() -> None:
    """The README contains every public name and the mark."""
    text = (Path(cano_offload.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for promised in (*cano_offload.__all__, MARK.hex(" ").upper()):
        assert promised in text
