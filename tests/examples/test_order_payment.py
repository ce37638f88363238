"""The order survives kill -9, and each item is paid for once."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ITEMS = ["lamp", "chair", "vase"]
PAYMENTS = [f"order-17:{number} {item}" for number, item in enumerate(ITEMS, 1)]
RESULT = "RunResult(run_id='order-17', state='DONE', data={'items': []}, steps=3)"

OutputOf = Callable[..., list[str]]


def killed(root: Path, folder: Path, after: str) -> list[str]:
    """Kill the example when it has printed that line. Return its output."""
    command = [sys.executable, str(root / "examples" / "order_payment.py")]
    lines = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            if lines[-1] == after:
                break
        process.kill()
        lines += process.stdout.read().splitlines()
    return lines


def test_it_goes_on_after_every_kill(root: Path, tmp_path: Path, output_of: OutputOf) -> None:
    """Killed after each payment, the step is repeated, and the provider charges once."""
    printed = [killed(root, tmp_path, f"paid for {item}") for item in ITEMS]
    printed.append(output_of("order_payment"))

    assert printed[-1][-1:] == [RESULT]
    paid = [line.removeprefix("paid for ") for line in itertools.chain(*printed) if line != RESULT]
    assert [item for item, _ in itertools.groupby(paid)] == ITEMS
    assert (tmp_path / "payments.txt").read_text().splitlines() == PAYMENTS


def test_a_finished_order_stays_finished(tmp_path: Path, output_of: OutputOf) -> None:
    """Run again, it prints its result and pays nothing."""
    first, again = output_of("order_payment"), output_of("order_payment")

    assert first == [*(f"paid for {item}" for item in ITEMS), RESULT]
    assert again == [RESULT]
    assert (tmp_path / "payments.txt").read_text().splitlines() == PAYMENTS
