"""The disk tells nothing without the key, also while keys change."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

OutputOf = Callable[..., list[str]]


def test_nothing_is_to_be_read(output_of: OutputOf, tmp_path: Path) -> None:
    """In clear everything is; and a key that is still needed is named."""
    folder = tmp_path / "100% safe, and sound"
    clear, changed, secret, refused = output_of("encrypted_runs", folder)

    assert clear == "in clear, the disk tells: Ada Lovelace, born 10 December 1815, sprained, two weeks of rest"
    assert changed == "encrypted, and with a new key on the way: two weeks of rest"
    assert secret == "encrypted, the disk tells: nothing"
    assert refused.startswith(
        "without the old key, too early: run ada, key 'patient': it is encrypted with the key '2026'"
    )
    files = [path.read_bytes() for path in (folder / "secret").rglob("*") if path.is_file()]
    assert len(files) >= 2
    assert not any(word in data for data in files for word in (b"Lovelace", b"sprained", b"rest"))


def test_it_runs_without_a_folder(output_of: OutputOf) -> None:
    """One command is enough."""
    assert output_of("encrypted_runs")[2] == "encrypted, the disk tells: nothing"
