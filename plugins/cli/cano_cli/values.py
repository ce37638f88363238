"""The values of a run, as far as this process can read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cano import Kernel, SerializationError, Workflow

from cano_cli.jsonable import dumps
from cano_cli.records import HIDDEN


class Values(NamedTuple):
    """The values of some keys.

    Attributes:
        data: key to value.
        unreadable: key to the reason why its value cannot be read here.
    """

    data: dict[str, Any]
    unreadable: dict[str, str]

    def rows(self) -> list[list[str]]:
        """Key and value, or reason, for people."""
        known = [[key, dumps(value, ascii=False)] for key, value in self.data.items()]
        return known + [[key, f"({reason})"] for key, reason in self.unreadable.items()]


def read(kernel: Kernel, stored: Mapping[str, Any]) -> Values:
    """What a store keeps under each key. The engine's own keys are left out."""
    values = Values({}, {})
    for key, value in stored.items():
        if key.startswith(HIDDEN):
            continue
        try:
            values.data[key] = decoded(kernel, value)
        except SerializationError as error:
            values.unreadable[key] = " ".join(str(error).split())
    return values


def decoded(kernel: Kernel, value: Any) -> Any:
    """What `value` stands for, which is as the kernel's store keeps it. Raises SerializationError."""
    if kernel.backend is None or kernel.codec is None or not kernel.backend.capabilities.encoded:
        return value
    return kernel.codec.decode(value)


def know(kernel: Kernel, flows: Iterable[Workflow[Any]]) -> None:
    """Let the kernel read values of the classes that belong to `flows`."""
    for flow in flows:
        types = kernel.bind(flow).types()
        if kernel.codec is not None:
            kernel.codec.register(*types)
