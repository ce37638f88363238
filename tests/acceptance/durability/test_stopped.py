"""Promise 2: two processes never drive one run with effect; a stale holder's commit is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from cano import Kernel

PROGRAM = Path(__file__).with_name("holder.py")
LOST = "error ConflictError"


def holder(url: str) -> subprocess.Popen[str]:
    env = os.environ | {"CANO_BLOCK": "structlog,otel"}
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), url, "run"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
    )


def said(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], word: str) -> None:
    assert child.stdin is not None
    child.stdin.write(word + "\n")
    child.stdin.flush()


def in_step(url: str) -> subprocess.Popen[str]:
    """Start holders until one is in its step: a busy machine may stop one for longer than its lease before that."""
    while (line := said(child := holder(url))) == LOST:
        child.communicate()
    assert line == "in step"
    return child


async def test_stopped_holder_changes_nothing(store_url: str) -> None:
    """A holder that was stopped while its lease lapsed finds a ConflictError; history is one unbroken line."""
    with in_step(store_url) as stale:
        stale.send_signal(signal.SIGSTOP)
        end = LOST
        while end == LOST:
            with in_step(store_url) as heir:  # not before the lease of the first one has lapsed
                tell(heir, "heir")
                end = said(heir)
        assert end == "result heir"
        stale.send_signal(signal.SIGCONT)
        tell(stale, "stale")
        assert said(stale) == LOST

    async with Kernel(store=store_url) as kernel:
        history = await kernel.history("run")
        assert [(line.seq, line.state) for line in history] == [(0, "FIRST"), (1, "SECOND"), (2, "DONE")]
        assert history[-1].changed == {"steps": 2, "by": "heir"}
