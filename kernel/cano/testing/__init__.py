"""Tools for tests of workflows and plugins.

Each name is imported on first use, since pytest imports this package at its start, for `pytest_plugin`.
"""

import importlib as _importlib
import typing

if typing.TYPE_CHECKING:
    from cano.testing.clock import VirtualClock
    from cano.testing.contract import DurableStoreBackendContract, StoreBackendContract
    from cano.testing.contract_damage import DamageContract
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

_MODULES = {
    "clock": ("VirtualClock",),
    "contract": ("DurableStoreBackendContract", "StoreBackendContract"),
    "contract_damage": ("DamageContract",),
    "contract_lost_answers": ("LostAnswersContract",),
    "contract_restart": ("RestartContract",),
    "crashes": ("CrashPoint", "CrashReport", "Outcome", "survives_crashes"),
    "faults": ("Fault", "Faults", "FaultyStore"),
    "relay": ("Relay",),
}


if not typing.TYPE_CHECKING:  # with this function, type checkers would accept every name

    def __getattr__(name: str) -> typing.Any:
        for module, names in _MODULES.items():
            if name in names:
                return getattr(_importlib.import_module(f"cano.testing.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
