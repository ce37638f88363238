"""Runs and data in memory: `memory://` and `MemoryStore`."""

from cano_memory.backend import MemoryBackend
from cano_memory.store import MemoryStore

__all__ = ["MemoryBackend", "MemoryStore"]
