"""`MsgspecCodec`: converts values to bytes and back, with their types.

The bytes are a format byte, a four-byte checksum of all other bytes, and MessagePack. Values of MessagePack's own types
are stored directly. Any other value is an array. Its first item is a tag, an extension value with which no other array
begins. The parts of the value follow:

    (1, 2)                    [tag "t", 1, 2]
    Order(id=7) of shop.py    [tag "shop:Order", {"id": 7}]

The format byte shows whether there are tags, because msgspec alone can decode bytes without tags.
"""

from __future__ import annotations

from copy import copy
from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

from cano import SerializationError

if TYPE_CHECKING:
    from cano_msgspec._kind import Refusal
    from cano_msgspec._registry import Registry

_UNTAGGED, _TAGGED = 0x10, 0x11
_LAYERED = 0xC1  # the first byte of values that a layer of ?codec= has wrapped
_HEAD = Struct(">BI")


class MsgspecCodec:
    """Converts values to bytes and back: to an equal value of the same type, or a SerializationError.

    It encodes and builds instances of registered classes only, so that each process that registers the same classes can
    decode what another one has encoded. If two classes have the same module and qualified name, such as a local class
    defined on each call, the name refers to the class that was registered last. Instances of the other class are
    refused until it is registered again.

    Safe to share between threads. Each codec has its own registry.
    """

    def __init__(self) -> None:
        # imported on first use, because loading msgspec takes 0.1 s
        from msgspec.msgpack import Decoder, Encoder

        from cano_msgspec._kind import Refusal
        from cano_msgspec._matches import format_type, matches
        from cano_msgspec._reader import Reader, no_tags
        from cano_msgspec._registry import Registry
        from cano_msgspec._writer import Writer

        self._reader = Reader
        self._writer = Writer
        self._use(Registry())
        self._refusal = Refusal
        self._matches = matches
        self._format_type = format_type
        self._pack = Encoder().encode
        self._unpack = Decoder().decode
        self._unpack_untagged = Decoder(ext_hook=no_tags).decode

    def _use(self, registry: Registry) -> None:
        self._registry = registry
        self._read = self._reader(registry).read

    def register(self, *types: Any) -> None:
        """Allow values of these types, and of the types of their fields, to be encoded and decoded.

        Registers dataclasses, enums, NamedTuples, msgspec Structs and pydantic models. Ignores other types, and names
        in annotations that cannot be resolved.

        Args:
            types: classes, or annotations such as `list[Order]` or `Order | None`.
        """
        self._registry.register(*types)

    def restricted(self, *types: Any) -> MsgspecCodec:
        """Register these types, and return a codec that encodes values of these types only.

        The new codec decodes what this one decodes. If both know a class of the same name, it builds its own.

        Args:
            types: see `register`.
        """
        self.register(*types)
        other = copy(self)
        other._use(type(self._registry)(self._registry.names))
        other.register(*types)
        return other

    def encode(self, value: Any) -> bytes:
        """Return bytes from which `decode` makes an equal value of the same type.

        Raises:
            SerializationError: a part of the value has a type that is unsupported or not registered. The message gives
                the type and the path.
        """
        try:
            writer = self._writer(self._registry)
            try:
                body = self._pack(writer.write(value))
            except (OverflowError, UnicodeEncodeError):  # an integer or a string that MessagePack cannot represent
                writer = self._writer(self._registry, careful=True)
                body = self._pack(writer.write(value))
        except self._refusal as refusal:
            self._refused("encode", refusal)
        except RecursionError as error:
            raise SerializationError("cannot encode a value so deep in the call stack", actual=type(value)) from error
        except Exception as error:  # code of the value's class may run, such as a metaclass's
            raise SerializationError(f"cannot encode a {type(value).__name__}: {error}", actual=type(value)) from error
        head = _TAGGED if writer.tagged else _UNTAGGED
        return _HEAD.pack(head, crc32(body, head)) + body

    def decode(self, data: bytes, type: Any = None) -> Any:
        """Return the value that `encode` was given.

        If the fields of a class have changed since, a new field gets its default. A new field without a default, and a
        stored field that the class no longer has, raise. `__init__` and `__post_init__` do not run. Only a Struct's
        `__post_init__` always runs, but its fields get their stored values afterwards.

        Args:
            data: the bytes that `encode` returned.
            type: the expected type, which is registered first. Of `list[Order]` only the list is checked.

        Raises:
            SerializationError: the bytes are corrupt or contain a class that is not registered, or the value is not of
                `type`.
        """
        if type is not None:
            self._registry.register_once(type)
        try:
            value = self._decode(data)
        except self._refusal as refusal:
            self._refused("decode", refusal, type)
        except Exception as error:  # corrupt bytes may cause any exception
            raise SerializationError(f"cannot decode corrupt bytes: {error}", expected=type) from error
        if type is not None and value.__class__ is not type and not self._matches(value, type):
            raise SerializationError(
                f"decoded a {value.__class__.__name__}, not a {self._format_type(type)}",
                expected=type, actual=value.__class__,
            )  # fmt: skip
        return value

    def _decode(self, data: bytes) -> Any:
        if len(data) < _HEAD.size:
            raise self._refusal("the bytes are corrupt: too few")
        head, checksum = _HEAD.unpack_from(data)
        if head not in (_TAGGED, _UNTAGGED):
            raise self._refusal(
                f"the bytes are corrupt, or of a format that this version cannot read ({head:#x})"
                + ("; a layer wrote them: add it to codec= in the store's URL" if head == _LAYERED else "")
            )
        body = memoryview(data)[_HEAD.size :]
        if crc32(body, head) != checksum:
            raise self._refusal("the bytes are corrupt: the checksum does not match")
        if head == _UNTAGGED:
            return self._unpack_untagged(body)
        return self._read(self._unpack(body))

    def _refused(self, action: str, refusal: Refusal, expected: Any = None) -> NoReturn:
        message = f"cannot {action} {refusal.path}: {refusal.reason}"
        raise SerializationError(message, expected=expected, actual=refusal.actual) from refusal.__cause__
