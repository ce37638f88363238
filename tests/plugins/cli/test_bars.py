"""The progress of a step as text, in `cano run` and in `cano show`."""

from __future__ import annotations

import pytest
from cano import Progress
from cano_cli.bars import bar


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(0, 4, None), "[..........] 0% 0/4"), (Progress(1, 4, "pages"), "[##........] 25% 1/4 pages"),
        (Progress(4, 4, None), "[##########] 100% 4/4"), (Progress(9, 4, None), "[##########] 100% 9/4"),
        (Progress(-1, 4, None), "[..........] 0% -1/4"), (Progress(3, None, "rows"), "3 rows"),
        (Progress(3, 0, None), "3/0"), (Progress(0.5, 1.0, None), "[#####.....] 50% 0.5/1"),
    ],
)  # fmt: skip
def test_bars(progress: Progress, expected: str) -> None:
    """A bar never leaves its cells, and there is none without a total."""
    assert bar(progress) == expected
