"""Layers around the codec, which a store's URL names: `sqlite:///runs.db?codec=zstd:9,encrypt`."""

from __future__ import annotations

from typing import Any

from cano.errors import ConfigurationError
from cano.protocols import Codec, CodecLayer


class Layers(tuple[CodecLayer, ...]):
    """Layers as one: the first of them is the innermost, next to the codec."""

    __slots__ = ()

    def wrap(self, data: bytes) -> bytes:
        """What the store keeps. Raises SerializationError."""
        for layer in self:
            data = layer.wrap(data)
        return data

    def unwrap(self, data: bytes) -> bytes:
        """What the codec wrote. Raises SerializationError."""
        for layer in reversed(self):
            data = layer.unwrap(data)
        return data


class LayeredCodec:
    """A codec whose bytes pass through layers.

    Attributes:
        plain: the codec itself, for what becomes a part of a value that passes through the layers as a whole.
        layers: what is around it.
    """

    def __init__(self, codec: Codec, layers: Layers) -> None:
        self.plain = codec
        self.layers = layers

    def register(self, *types: Any) -> None:
        """See `Codec.register`."""
        self.plain.register(*types)

    def encode(self, value: Any) -> bytes:
        """See `Codec.encode`."""
        return self.layers.wrap(self.plain.encode(value))

    def decode(self, data: bytes, type: Any = None) -> Any:
        """See `Codec.decode`."""
        return self.plain.decode(self.layers.unwrap(data), type)


def shown(url: str) -> str:
    """What messages call `url`: without user, password and options, which may be secret, however they are written."""
    scheme, colon, rest = url.partition(":")
    place = rest.partition("?")[0]
    if "@" in rest and not place.startswith("///"):  # in a path an @ is a letter
        place = "//" + (place.rpartition("@")[2] if "@" in place else "***")  # a password may have a / or a ? in it
    return scheme + colon + place if "=" not in scheme else scheme.partition("=")[0] + "=***"


def split_codec(url: str) -> tuple[str, list[str]]:
    """A store's URL as its plugin gets it, without the option `codec`; and the items of that option.

    Each item is percent-decoded by itself, so that a folder's name may have a comma, as %2C.
    """
    from urllib.parse import unquote  # late: it takes 3 ms to import

    place, _, query = url.partition("?")
    options = [option.partition("=") for option in query.split("&")]
    given = [value for name, _, value in options if name == "codec"]
    rest = "&".join("".join(option) for option in options if option[0] != "codec")
    if not given:
        return url, []
    if len(given) > 1:
        raise ConfigurationError(f"{shown(url)!r} has the option 'codec' twice; name all in one: codec=zstd,encrypt")
    return place + ("?" + rest if rest else ""), [unquote(item) for item in given[0].split(",")]
