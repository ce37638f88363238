"""Where a server is not installed, nothing is left untested without a word."""

from __future__ import annotations

import pytest

from tests.servers import missing


def test_in_ci_it_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs a server which CI has not fails, and names what to install."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr(missing, "MISSING", {})
    with pytest.raises(pytest.fail.Exception, match="Oracle is not installed: buy one"):
        missing.not_installed("Oracle", "buy one")


def test_elsewhere_it_is_a_skip_that_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere it is skipped, and the end of the output says so."""
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(missing, "MISSING", {})
    with pytest.raises(pytest.skip.Exception, match="Oracle is not installed"):
        missing.not_installed("Oracle", "buy one")

    assert missing.MISSING == {"Oracle": "buy one"}
