"""The in-memory store of Cano."""

from cano_memory.store import MemoryStore

__all__ = ["MemoryStore"]
