"""The files among other users: who can read them, and where links that others plant can lead."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cano import ConfigurationError, Kernel, StoreUnavailableError
from cano_offload import Folder
from cano_offload._plugin import cano_codec_layer
from cano_offload.folder import StoredFile
from cano_offload.layer import OffloadLayer
from cano_offload.sweep import sweep

from tests.plugins.offload.conftest import age


@pytest.fixture
def umask() -> Iterator[None]:
    """A umask that lets all users read and write new files."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """Return the mode of the folder, its sub-folders and all files, in octal."""
    every = [folder, *folder.rglob("*")]
    return {path.relative_to(folder).as_posix()[:5]: f"{stat.S_IMODE(path.stat().st_mode):o}" for path in every}


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize(
    ("option", "file", "folder"),
    [("", "600", "700"), (":file_mode=640", "640", "750"), (":file_mode=664", "664", "775")],
)
def test_only_the_owner_can_read_them(tmp_path: Path, option: str, file: str, folder: str) -> None:
    """Files have mode 600 and folders 700, or those of the option, whatever the umask."""
    layer = cano_codec_layer(f"offload:1:{tmp_path / 'blobs'}{option}")
    assert isinstance(layer, OffloadLayer)
    digest = layer.folder.keep(b"secret")

    assert modes(tmp_path / "blobs") == {
        ".": folder, ".lock": file, digest[:2]: folder, f"{digest[:2]}/{digest[2:4]}": file,
    }  # fmt: skip


def test_the_mode_is_as_written_whatever_the_umask(tmp_path: Path) -> None:
    """A strict umask does not take away what `file_mode` gives: a second user can lock, read and write."""
    before = os.umask(0o077)
    try:
        Folder(tmp_path / "blobs", file_mode=0o660).keep(b"shared")
    finally:
        os.umask(before)

    assert set(modes(tmp_path / "blobs").values()) == {"770", "660"}


@pytest.mark.usefixtures("umask")
def test_existing_folders_and_files_keep_their_modes(folder: Folder) -> None:
    """What an administrator has set stays."""
    digest = Folder(folder.path, file_mode=0o666).keep(b"old")
    for path in folder.path.rglob("*"):
        path.chmod(0o777 if path.is_dir() else 0o644)
    folder.path.chmod(0o751)
    folder.keep(b"old")

    assert modes(folder.path) == {
        ".": "751", ".lock": "644", digest[:2]: "777", f"{digest[:2]}/{digest[2:4]}": "644",
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["", "755", "400", "rw", "0o600"])
def test_no_mode(tmp_path: Path, mode: str) -> None:
    """A wrong mode is refused."""
    with pytest.raises(ConfigurationError, match="file_mode must be a file mode that lets the owner read and write"):
        cano_codec_layer(f"offload:1:{tmp_path / 'blobs'}:file_mode={mode}")


def bait(folder: Folder) -> StoredFile:
    """Store a value that no store refers to; return its old file."""
    folder.keep(b"unreferenced")
    age(folder)
    (found,) = folder.files()
    return found


async def test_a_sweep_follows_no_link_to_a_folder(tmp_path: Path, folder: Folder) -> None:
    """A link in the place of a sub-folder does not lead the sweep to files elsewhere."""
    found = bait(folder)
    elsewhere = found.path.parent.rename(tmp_path / "elsewhere")
    (folder.path / found.path.parent.name).symlink_to(elsewhere)
    url = f"sqlite:///{tmp_path / 'runs.db'}?codec=offload:100:{folder.path}"
    async with Kernel(store=url):
        pass

    swept = await sweep(Kernel(), [url], delete=True, even_all=True)

    assert swept.unreferenced == []
    assert [path.name for path in elsewhere.iterdir()] == [found.path.name]


def test_a_link_that_comes_after_the_listing_is_not_followed(tmp_path: Path, folder: Folder) -> None:
    """A folder that is replaced by a link between listing and removing is left alone."""
    found = bait(folder)
    elsewhere = found.path.parent.rename(tmp_path / "elsewhere")
    found.path.parent.symlink_to(elsewhere)

    with pytest.raises(OSError, match=r"directory|symbolic"):
        folder.remove(found, before=found.changed + 1)
    assert (elsewhere / found.path.name).exists()


def test_a_file_that_becomes_a_link_is_left_alone(tmp_path: Path, folder: Folder) -> None:
    """The sweep removes files only; it lists no link, however old its target is."""
    found = bait(folder)
    victim = found.path.rename(tmp_path / "victim")
    found.path.symlink_to(victim)

    assert [*folder.files()] == []
    assert not folder.remove(found, before=found.changed + 10_000_000)
    assert victim.exists()
    assert found.path.is_symlink()


def test_the_lock_is_no_link(tmp_path: Path, folder: Folder) -> None:
    """A link in the place of the lock does not create or lock a file elsewhere."""
    found = bait(folder)
    (folder.path / ".lock").unlink()
    (folder.path / ".lock").symlink_to(tmp_path / "victim")

    with pytest.raises(OSError, match="symbolic link"):
        folder.remove(found, before=found.changed + 1)
    with pytest.raises(StoreUnavailableError, match="symbolic link"):
        folder.keep(b"more")
    assert not (tmp_path / "victim").exists()


def test_values_are_not_written_through_a_link(tmp_path: Path, folder: Folder) -> None:
    """A link in the place of a sub-folder is refused: a sweep would not find the files behind it."""
    found = bait(folder)
    elsewhere = found.path.parent.rename(tmp_path / "elsewhere")
    found.path.parent.symlink_to(elsewhere)

    with pytest.raises(StoreUnavailableError, match="is a symbolic link; put a folder in its place"):
        folder.keep(b"unreferenced")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_a_name_that_no_folder_can_have(name: str) -> None:
    """It is refused when the store is opened, and not with an error of the system."""
    with pytest.raises(ConfigurationError, match="cannot be the name of a folder"):
        Folder(name)
