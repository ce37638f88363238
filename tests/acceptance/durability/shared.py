"""A store in memory for several kernels."""

from __future__ import annotations

from cano_memory import MemoryBackend


class Shared(MemoryBackend):
    """A strict store in memory that outlives a kernel."""

    async def close(self) -> None:
        """Keep everything."""
