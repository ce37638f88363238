"""The plugin: its entry point leads here."""

from __future__ import annotations

from cano import Codec, hookimpl

from cano_msgspec.codec import MsgspecCodec

CANO_API_VERSION = 2


@hookimpl
def cano_codec() -> Codec:
    """Return a new codec for each kernel, so that kernels do not share registered classes."""
    return MsgspecCodec()
