"""Layers around the codec, as named in a store's URL: `sqlite:///runs.db?codec=zstd:9,encrypt`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from cano.errors import CanoError, ConfigurationError, SerializationError, StoreUnavailableError
from cano.protocols import Codec, CodecLayer, ContextLayer, LayerContext
from cano.safe_text import error_text


class Layers(tuple[CodecLayer, ...]):
    """Several layers as one layer. The first of them is next to the codec.

    Attributes:
        bound: the layers that follow these, and that the store itself applies; None if there are none.
    """

    bound: BoundLayers | None = None

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

    def split(self) -> Layers:
        """Return the layers before the first one that binds values to their place, with the others as `bound`."""
        at = next((number for number, layer in enumerate(self) if _takes_context(layer)), len(self))
        first = Layers(self[:at])
        if at < len(self):
            first.bound = BoundLayers(self[at:])
        return first


class BoundLayers:
    """Layers of which at least the first binds values to their place. Which ones do is found out once, here."""

    def __init__(self, layers: Sequence[CodecLayer]) -> None:
        self._layers = [(layer, cast(ContextLayer, layer) if _takes_context(layer) else None) for layer in layers]
        self.layers = tuple(layers)
        self.seals_errors = any(getattr(layer, "seals_errors", False) for layer in layers)

    def inside(self) -> BoundLayers:
        """Return the layers that keep no values outside the store."""
        return BoundLayers([layer for layer in self.layers if not getattr(layer, "keeps_outside", False)])

    def wrap(self, data: bytes) -> bytes:
        """See `CodecLayer.wrap`."""
        return Layers(self.layers).wrap(data)

    def unwrap(self, data: bytes) -> bytes:
        """See `CodecLayer.unwrap`."""
        return Layers(self.layers).unwrap(data)

    def wrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """See `ContextLayer.wrap_in`."""
        for layer, bound in self._layers:
            data = _passed(layer, layer.wrap, data) if bound is None else _passed(layer, bound.wrap_in, data, context)
        return data

    def unwrap_in(self, data: bytes, context: LayerContext) -> bytes:
        """See `ContextLayer.unwrap_in`."""
        for layer, bound in reversed(self._layers):
            if bound is None:
                data = _passed(layer, layer.unwrap, data)
            else:
                data = _passed(layer, bound.unwrap_in, data, context)
        return data

    def is_current(self, data: bytes) -> bool:
        """See `ContextLayer.is_current`. The first layer decides."""
        for layer in reversed(self.layers[1:]):
            data = _passed(layer, layer.unwrap, data)
        return cast(ContextLayer, self.layers[0]).is_current(data)


def check_order(layers: Layers) -> None:
    """Raise ConfigurationError if one of `layers` keeps values outside the store before another one encrypts them."""
    for layer in layers:
        if layers.bound is not None and getattr(layer, "keeps_outside", False):
            raise ConfigurationError(
                f"codec= names {type(layer).__name__} before {type(layers.bound.layers[0]).__name__}, so the values "
                "that it keeps outside the store would not be encrypted; write codec=encrypt,offload:… in place of "
                "codec=offload:…,encrypt; for an existing store, copy it: cano migrate-store OLD_URL NEW_URL"
            )


def _takes_context(layer: CodecLayer) -> bool:
    return all(hasattr(layer, name) for name in ("wrap_in", "unwrap_in", "is_current"))


def _passed(layer: CodecLayer, method: Callable[..., bytes], data: bytes, *context: LayerContext) -> bytes:
    """Return what a method of `layer` makes of `data`. An error that is not of Cano is wrapped, and names the layer."""
    name = type(layer).__name__
    try:
        made = method(data, *context)
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
    from cano.redaction import redacted  # late: its patterns take long to compile

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
