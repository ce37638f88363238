"""Sealed stores: the encryption layer around a store in memory, in a file, and on servers."""

from __future__ import annotations

import pytest
from cano_encryption import KEYS_ENV, new_key


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is set."""
    monkeypatch.setenv(KEYS_ENV, new_key("first"))
