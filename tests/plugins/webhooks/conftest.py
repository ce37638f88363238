"""What these tests share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.plugins.webhooks.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver that listens."""
    with receiving() as receiver:
        yield receiver
