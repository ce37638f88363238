"""Encrypted runs leave no plain text on disk, even while keys are rotated."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

OutputOf = Callable[..., list[str]]


def test_nothing_is_to_be_read(output_of: OutputOf, tmp_path: Path) -> None:
    """The unencrypted store contains the plain text, the encrypted one none; a missing key is named."""
    folder = tmp_path / "100% safe, and sound"
    clear, changed, secret, refused = output_of("encrypted_runs", folder)

    assert clear == "unencrypted, found on disk: Ada Lovelace, born 10 December 1815, sprained, two weeks of rest"
    assert changed == "encrypted, with a new key added: two weeks of rest"
    assert secret == "encrypted, found on disk: nothing"
    assert refused.startswith("old key removed too early: run ada, key 'patient': it is encrypted with the key '2026'")
    files = [path.read_bytes() for path in (folder / "secret").rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not any(word in data for data in files for word in (b"Lovelace", b"sprained", b"rest"))


def test_it_runs_without_a_folder(output_of: OutputOf) -> None:
    """Without a folder it uses a temporary one."""
    assert output_of("encrypted_runs")[2] == "encrypted, found on disk: nothing"
