"""What tests of workflows and of plugins need."""

from cano.testing.clock import VirtualClock

__all__ = [
    "VirtualClock",
]
