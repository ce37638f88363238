"""What tests of workflows and of plugins need."""

from cano.testing.clock import VirtualClock
from cano.testing.contract import DurableStoreBackendContract, StoreBackendContract
from cano.testing.faults import Fault, Faults, FaultyStore

__all__ = [
    "DurableStoreBackendContract",
    "Fault",
    "Faults",
    "FaultyStore",
    "StoreBackendContract",
    "VirtualClock",
]
