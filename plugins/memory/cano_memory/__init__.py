"""The in-memory store of Cano."""

from cano_memory.backend import MemoryBackend
from cano_memory.store import MemoryStore

__all__ = ["MemoryBackend", "MemoryStore"]
