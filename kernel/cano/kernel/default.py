"""The default kernel, which is the only global state."""

from __future__ import annotations

import threading

from cano.kernel.kernel import Kernel

_default: Kernel | None = None
_default_lock = threading.Lock()


def default_kernel() -> Kernel:
    """Return the kernel that `Workflow.orchestrate` uses: in memory, with every installed plugin."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Kernel()
        return _default
