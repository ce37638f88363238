"""The kernels that write and read golden data: their clock stands still, and few plugins are loaded."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any

from cano import HOOK_NAMESPACE, Kernel
from cano.testing import VirtualClock

from tests.acceptance.venvs import ROOT

sys.path.append(str(ROOT / "examples" / "third_party_store"))  # a distribution that is not installed here
from lmdb_runs import plugin as lmdb

NAMES = {"msgspec", "sqlite", "postgres", "redis", "zstd", "encryption", "offload", "scheduler"}
# loaded here once, because each kernel would search all installed distributions
PLUGINS = (*(entry.load() for entry in entry_points(group=HOOK_NAMESPACE) if entry.name in NAMES), lmdb)


def kernel_at(url: str, now: float, *observers: Any) -> Kernel:
    """Return a kernel on the store at `url`, whose clock shows `now` until a test advances it."""
    clock = VirtualClock(now, auto=False)
    return Kernel(store=url, plugins=[*PLUGINS, *observers], discover=False, clock=clock, grace=0)
