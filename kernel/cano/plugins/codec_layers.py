"""Layers around the codec, as named in a store's URL: `sqlite:///runs.db?codec=zstd:9,encrypt`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from cano.errors import CanoError, ConfigurationError, SerializationError, StoreUnavailableError
from cano.protocols import Codec, CodecLayer
from cano.redaction import redacted
from cano.safe_text import error_text


class Layers(tuple[CodecLayer, ...]):
    """Several layers as one layer. The first of them is next to the codec."""

    __slots__ = ()

    def wrap(self, data: bytes) -> bytes:
        """Return the bytes for the store. Raises SerializationError or StoreUnavailableError."""
        for layer in self:
            data = _passed(layer, layer.wrap, data)
        return data

    def unwrap(self, data: bytes) -> bytes:
        """Return the bytes that the codec made. Raises SerializationError or StoreUnavailableError."""
        for layer in reversed(self):
            data = _passed(layer, layer.unwrap, data)
        return data


def _passed(layer: CodecLayer, method: Callable[[bytes], bytes], data: bytes) -> bytes:
    """Return what a method of `layer` makes of `data`. An error that is not of Cano is wrapped, and names the layer."""
    name = type(layer).__name__
    try:
        made = method(data)
    except CanoError:
        raise
    except OSError as error:  # of a disk or a server, which may answer later
        raise StoreUnavailableError(f"the codec layer {name} failed: {error_text(error)}") from error
    except Exception as error:
        raise SerializationError(f"the codec layer {name} raised {error_text(error)}") from error
    if not isinstance(made, bytes):
        raise SerializationError(f"the codec layer {name} returned {type(made).__name__}, not bytes")
    return made


class LayeredCodec:
    """A codec whose bytes pass through layers.

    Attributes:
        plain: the codec itself, for the parts of a value that passes the layers as a whole.
        layers: the layers around it.
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


def restricted(codec: Codec, types: Iterable[Any]) -> Codec:
    """Register `types`, and return a codec that encodes values of these types only; or `codec`, if it has no such."""
    if isinstance(codec, LayeredCodec):
        return LayeredCodec(restricted(codec.plain, types), codec.layers)
    codec.register(*(known := tuple(types)))
    return codec.restricted(*known) if hasattr(codec, "restricted") else codec


def shown(url: str) -> str:
    """Return `url` for messages: without user, password and options, which may be secret, even if it is malformed."""
    scheme, colon, rest = url.partition(":")
    address = rest.partition("?")[0]
    if "@" in rest and not address.startswith("///"):  # in a path, @ is an ordinary character
        address = "//" + (address.rpartition("@")[2] if "@" in address else "***")  # a password may contain / or ?
    return redacted(scheme + colon + address) if "=" not in scheme else scheme.partition("=")[0] + "=***"


def split_codec(url: str) -> tuple[str, list[str]]:
    """Return a store's URL without the option `codec`, and the items of that option.

    Each item is percent-decoded by itself, so that a folder's name may contain a comma, as %2C.
    """
    from urllib.parse import unquote  # late: importing it takes 3 ms

    address, _, query = url.partition("?")
    options = [option.partition("=") for option in query.split("&")]
    given = [value for name, _, value in options if name == "codec"]
    rest = "&".join("".join(option) for option in options if option[0] != "codec")
    if not given:
        return url, []
    if len(given) > 1:
        raise ConfigurationError(f"{shown(url)!r} has the option 'codec' twice; name all in one: codec=zstd,encrypt")
    return address + ("?" + rest if rest else ""), [unquote(item) for item in given[0].split(",")]
