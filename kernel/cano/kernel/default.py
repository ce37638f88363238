"""The default kernel: the one piece of global state."""

from __future__ import annotations

import threading

from cano.kernel.kernel import Kernel

_default: Kernel | None = None
_default_lock = threading.Lock()


def default_kernel() -> Kernel:
    """The kernel that `Workflow.orchestrate` uses: in memory, with every installed plugin."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Kernel()
        return _default
