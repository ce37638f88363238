"""The plugin: its entry point leads here. It sends webhooks if environment variables say where to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cano import ConfigurationError, hookimpl

if TYPE_CHECKING:
    from cano import Kernel

CANO_API_VERSION = 2


@hookimpl
async def cano_kernel_started(kernel: Kernel) -> None:
    """Send webhooks to `CANO_WEBHOOKS_URL`, if that is set and the store survives its process."""
    url = os.environ.get("CANO_WEBHOOKS_URL")
    if not url or kernel.backend is None or not kernel.backend.capabilities.durable:
        return
    from cano_webhooks.webhooks import KINDS, Webhooks  # late: most programs need none

    secrets = os.environ.get("CANO_WEBHOOKS_SECRET", "").split()
    if not secrets:
        raise ConfigurationError("CANO_WEBHOOKS_URL is set, and CANO_WEBHOOKS_SECRET is not; set it, too")
    on = os.environ.get("CANO_WEBHOOKS_ON", ",".join(KINDS)).replace(",", " ").split()
    await Webhooks(url, secret=secrets, on=on, name="environment").start(kernel)
