"""What these tests share: a folder for offloaded values, and files in it that are old."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cano_offload import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder that is not there yet."""
    return Folder(tmp_path / "blobs")


def age(folder: Folder, seconds: float = 4000) -> None:
    """Let every file in the folder be as old."""
    for found in folder.files():
        os.utime(found.path, (found.changed - seconds, found.changed - seconds))
