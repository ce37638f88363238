"""What the kernel finds through the entry point."""

from __future__ import annotations

from cano import Codec, hookimpl

from cano_msgspec.codec import MsgspecCodec

CANO_API_VERSION = 2


@hookimpl
def cano_codec() -> Codec:
    """A codec of its own for each kernel, so that what one program part registers is no other's."""
    return MsgspecCodec()
