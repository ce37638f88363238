"""Tools for tests of workflows and plugins.

Each name is imported on first use, since pytest imports this package at its start, for `pytest_plugin`.
"""

import typing

from cano.lazy_names import lazy_names as _lazy_names

if typing.TYPE_CHECKING:
    from cano.testing.clock import VirtualClock
    from cano.testing.contract import DurableStoreBackendContract, StoreBackendContract
    from cano.testing.contract_damage import DamageContract
    from cano.testing.contract_executor import ExecutorContract
    from cano.testing.contract_lost_answers import LostAnswersContract
    from cano.testing.contract_restart import RestartContract
    from cano.testing.crashes import CrashPoint, CrashReport, Outcome, survives_crashes
    from cano.testing.faults import Fault, Faults, FaultyStore
    from cano.testing.relay import Relay

__all__ = [
    "CrashPoint",
    "CrashReport",
    "DamageContract",
    "DurableStoreBackendContract",
    "ExecutorContract",
    "Fault",
    "Faults",
    "FaultyStore",
    "LostAnswersContract",
    "Outcome",
    "Relay",
    "RestartContract",
    "StoreBackendContract",
    "VirtualClock",
    "survives_crashes",
]

if not typing.TYPE_CHECKING:  # with these functions, type checkers would accept every name
    __getattr__, __dir__ = _lazy_names(
        __name__,
        {
            "clock": "VirtualClock",
            "contract": "DurableStoreBackendContract StoreBackendContract",
            "contract_damage": "DamageContract",
            "contract_executor": "ExecutorContract",
            "contract_lost_answers": "LostAnswersContract",
            "contract_restart": "RestartContract",
            "crashes": "CrashPoint CrashReport Outcome survives_crashes",
            "faults": "Fault Faults FaultyStore",
            "relay": "Relay",
        },
    )
