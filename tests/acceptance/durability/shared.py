"""Kernels of several tests: their plugins, and a store in memory for more than one of them."""

from __future__ import annotations

from typing import Any

from cano_memory import MemoryBackend

ONLY: dict[str, Any] = {"plugins": ["memory", "sqlite", "postgres", "redis", "msgspec"], "discover": False}
"""Options of a kernel that loads the stores, their codec and no other plugin."""


class Shared(MemoryBackend):
    """A strict store in memory that outlives a kernel."""

    async def close(self) -> None:
        """Keep everything."""
