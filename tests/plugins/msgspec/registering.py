"""A codec for tests of values whose classes need not be listed."""

from __future__ import annotations

from typing import Any

from cano import SerializationError
from cano_msgspec import MsgspecCodec


class RegisteringCodec(MsgspecCodec):
    """Registers the class of each instance that it is to encode."""

    def encode(self, value: Any) -> bytes:
        """See `MsgspecCodec.encode`."""
        while True:
            try:
                return MsgspecCodec.encode(self, value)
            except SerializationError as error:
                if "is not registered" not in str(error):
                    raise
                self.register(error.actual)
