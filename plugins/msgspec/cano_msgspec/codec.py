"""`MsgspecCodec`: values to bytes and back, with their types.

The bytes are one byte for the format, four for a checksum over all the rest, and MessagePack. Values that
MessagePack keeps by itself stand there as they are. Anything else is an array whose first item is a tag (an
extension value, which no other array starts with), followed by the parts the value is made of:

    (1, 2)                    [tag "t", 1, 2]
    Order(id=7) of shop.py    [tag "shop:Order", {"id": 7}]

The format byte says whether there are tags at all, since bytes without any are read by msgspec alone.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any, NoReturn
from zlib import crc32

from cano import SerializationError

if TYPE_CHECKING:
    from cano_msgspec._kind import Refusal

_UNTAGGED, _TAGGED = 0x10, 0x11
_LAYERED = 0xC1  # how the layers of ?codec= mark what they have wrapped
_HEAD = Struct(">BI")


class MsgspecCodec:
    """Turns values into bytes and back: equal values of the same types, or a SerializationError.

    Reading builds instances of registered classes alone. `register` registers a class; so does encoding an
    instance of it, since the program has that class at hand. Where two classes have the same module and
    qualified name, such as a local class that is defined again on each call, the name stands for the one that was
    registered last, and instances of the other one are refused until it is registered again.

    Safe to share between threads. Each codec has a registry of its own.
    """

    def __init__(self) -> None:
        # Imported here, so that a program that only loads its plugins does not load msgspec: 0.1 s.
        from msgspec.msgpack import Decoder, Encoder

        from cano_msgspec._kind import Refusal
        from cano_msgspec._matches import matches, shown
        from cano_msgspec._reader import Reader, no_tags
        from cano_msgspec._registry import Registry
        from cano_msgspec._writer import Writer

        self._registry = Registry()
        self._writer = Writer
        self._read = Reader(self._registry).read
        self._refusal = Refusal
        self._matches = matches
        self._shown = shown
        self._pack = Encoder().encode
        self._unpack = Decoder().decode
        self._unpack_untagged = Decoder(ext_hook=no_tags).decode

    def register(self, *types: Any) -> None:
        """Let values of these types be decoded, and those of the types that their fields are annotated with.

        Dataclasses, enums, NamedTuples, msgspec Structs and pydantic models are registered; whatever else an
        annotation names is passed over. So are names in annotations that cannot be resolved.

        Args:
            types: classes, or annotations such as `list[Order]` or `Order | None`.
        """
        self._registry.register(*types)

    def encode(self, value: Any) -> bytes:
        """Bytes from which `decode` makes an equal value of the same type.

        Raises:
            SerializationError: some part of the value cannot be kept; the message says which, and where it is.
        """
        try:
            writer = self._writer(self._registry)
            try:
                body = self._pack(writer.write(value))
            except (OverflowError, UnicodeEncodeError):  # an integer or a string that MessagePack has no room for
                writer = self._writer(self._registry, careful=True)
                body = self._pack(writer.write(value))
        except self._refusal as refusal:
            self._refused("encode", refusal)
        except RecursionError as error:
            raise SerializationError("cannot encode a value this deep in the call stack", actual=type(value)) from error
        except Exception as error:  # value's own code may run, such as a metaclass's
            raise SerializationError(f"cannot encode a {type(value).__name__}: {error}", actual=type(value)) from error
        head = _TAGGED if writer.tagged else _UNTAGGED
        return _HEAD.pack(head, crc32(body, head)) + body

    def decode(self, data: bytes, type: Any = None) -> Any:
        """The value that `encode` was given.

        A class whose fields have changed since: a new field takes its default; a new one without a default, and a
        stored one that the class no longer has, raise. Neither `__init__` nor `__post_init__` runs, but a Struct's
        `__post_init__`, which msgspec always runs; the fields are afterwards what they were.

        Args:
            data: what `encode` returned.
            type: the type to expect, which is registered first. Of `list[Order]` only the list is checked.

        Raises:
            SerializationError: the bytes are damaged, or name a class that is not registered, or the value is not
                of `type`.
        """
        if type is not None:
            self._registry.register_once(type)
        try:
            value = self._decode(data)
        except self._refusal as refusal:
            self._refused("decode", refusal, type)
        except Exception as error:  # whatever damaged bytes lead to
            raise SerializationError(f"cannot decode damaged bytes: {error}", expected=type) from error
        if type is not None and value.__class__ is not type and not self._matches(value, type):
            raise SerializationError(
                f"decoded a {value.__class__.__name__}, not a {self._shown(type)}",
                expected=type, actual=value.__class__,
            )  # fmt: skip
        return value

    def _decode(self, data: bytes) -> Any:
        if len(data) < _HEAD.size:
            raise self._refusal("the bytes are damaged: too few")
        head, checksum = _HEAD.unpack_from(data)
        if head not in (_TAGGED, _UNTAGGED):
            raise self._refusal(
                f"the bytes are damaged, or of a format that this version cannot read ({head:#x})"
                + ("; a layer wrote them, which codec= in the store's URL has to name" if head == _LAYERED else "")
            )
        body = memoryview(data)[_HEAD.size :]
        if crc32(body, head) != checksum:
            raise self._refusal("the bytes are damaged: the checksum is another")
        if head == _UNTAGGED:
            return self._unpack_untagged(body)
        return self._read(self._unpack(body))

    def _refused(self, action: str, refusal: Refusal, expected: Any = None) -> NoReturn:
        message = f"cannot {action} {refusal.path}: {refusal.reason}"
        raise SerializationError(message, expected=expected, actual=refusal.actual) from refusal.__cause__
