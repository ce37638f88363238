"""The codec of Cano, on msgspec's MessagePack."""

from cano_msgspec.codec import MsgspecCodec

__all__ = ["MsgspecCodec"]
