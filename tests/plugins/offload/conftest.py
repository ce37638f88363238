"""Fixtures: a folder for offloaded values, and a way to make its files old."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cano_offload import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """A folder that does not exist yet."""
    return Folder(tmp_path / "blobs")


def age(folder: Folder, seconds: float = 4000) -> None:
    """Set the time of every file in the folder that many seconds back."""
    for found in folder.files():
        os.utime(found.path, (found.changed - seconds, found.changed - seconds))
