"""Search attributes of copied runs: what DST finds them by is made from the values that SRC keeps with each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cano import Codec, SerializationError
from cano.search_attributes import encoded

NAME = "attributes"
"""The name of the engine's value that has them."""
Reader = Callable[[Mapping[str, Any]], dict[str, bytes] | None]
"""Returns the encoded attributes that the engine's own values of a run have; None if they have none."""


def no_attributes(own: Mapping[str, Any]) -> None:
    """Return None: DST finds no runs by attributes, or is encrypted and would keep them in clear unasked."""


def reader(codec: Codec, unwrap: Callable[[bytes], bytes] | None) -> Reader:
    """Return a function that reads the attributes of runs; `unwrap` frees values of SRC's layers, if they have any."""

    def read(own: Mapping[str, Any]) -> dict[str, bytes] | None:
        if NAME not in own:
            return None
        try:
            stored = own[NAME]
            values, _ = codec.decode(stored if unwrap is None else unwrap(stored))
            return {str(name): encoded(value) for name, value in values.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise SerializationError(f"its search attributes cannot be read: {error}") from error

    return read
