"""Cano's codec, based on msgspec's MessagePack."""

from cano_msgspec.codec import MsgspecCodec

__all__ = ["MsgspecCodec"]
