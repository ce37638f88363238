"""What tests of workflows and of plugins need."""

from cano.testing.clock import VirtualClock
from cano.testing.contract import DurableStoreBackendContract, StoreBackendContract

__all__ = [
    "DurableStoreBackendContract",
    "StoreBackendContract",
    "VirtualClock",
]
