"""Decoding the values of a stored run, as far as this process knows their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from cano import Appended, Kernel, SerializationError, Workflow

from cano_cli.jsonable import dumps, jsonable


class Values(NamedTuple):
    """Stored values, decoded as far as possible.

    Attributes:
        data: key to value.
        unreadable: key to the reason why this process cannot decode its value.
    """

    data: dict[str, Any]
    unreadable: dict[str, str]

    def rows(self, clean: Callable[[Any], Any] = lambda value: value) -> list[list[str]]:
        """Return a row for each key: the key, and its value or the reason in parentheses.

        Args:
            clean: called with the values and the reasons, each time as JSON types by key; returns them without secrets.
        """
        known = [[key, dumps(value, ascii=False)] for key, value in clean(jsonable(self.data)).items()]
        return known + [[key, f"({reason})"] for key, reason in clean(self.unreadable).items()]


def decode_values(kernel: Kernel, stored: Mapping[str, Any], *, advise: bool = True) -> Values:
    """Decode the stored value of each key.

    Args:
        kernel: a kernel on the store.
        stored: the values by key.
        advise: whether the reasons say what to do about unknown classes.
    """
    values = Values({}, {})
    for key in stored:
        try:  # of an encrypted store, to look up a value is to decrypt it
            values.data[key] = decode_value(kernel, stored[key])
        except SerializationError as error:
            reason = " ".join(str(error).split())
            values.unreadable[key] = reason if advise else reason.partition("; name it in Workflow(")[0]
    return values


def decode_value(kernel: Kernel, value: Any) -> Any:
    """Decode one value as the kernel's store returns it. Raises SerializationError."""
    if kernel.backend is None or kernel.codec is None or not kernel.backend.capabilities.encoded:
        return value
    if value.__class__ is Appended:
        return Appended(item for part in value for item in kernel.codec.decode(part))
    return kernel.codec.decode(value)


def register_types(kernel: Kernel, flows: Iterable[Workflow[Any]]) -> None:
    """Register the classes of the data of `flows`, so that the kernel can decode them."""
    for flow in flows:
        types = kernel.bind(flow).types()
        if kernel.codec is not None:
            kernel.codec.register(*types)
