"""Compression: values survive a round trip, or stay as they are; corrupt and oversized ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cano_zstd
import pytest
from cano import ConfigurationError, SerializationError
from cano_msgspec import MsgspecCodec
from cano_zstd._plugin import cano_codec_layer
from cano_zstd.layer import MARK, MAX_SIZE, MIN_SIZE, ZstdLayer
from hypothesis import given
from hypothesis import strategies as st

from tests.peak import PEAK

LAYER = ZstdLayer()
LONG = b"to be or not to be, " * 100
plain = st.binary(max_size=300) | st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 200))


def zstandard() -> Any:
    """Return the Zstandard module."""
    return cano_zstd.layer._import_zstd()


@given(plain)
def test_round_trip(data: bytes) -> None:
    """Any bytes survive; none get longer except those that begin with the mark."""
    for each in (data, MARK + data):
        assert LAYER.unwrap(LAYER.wrap(each)) == each
        assert LAYER.unwrap(LAYER.unwrap(LAYER.wrap(LAYER.wrap(each)))) == each
    assert len(LAYER.wrap(data)) <= len(data) or data.startswith(MARK)


@given(plain.filter(lambda data: not data.startswith(MARK)))
def test_what_was_not_compressed_is_read_as_it_is(data: bytes) -> None:
    """Uncompressed values, as from before the layer was added, are returned unchanged."""
    assert LAYER.unwrap(data) == data


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.binary(), st.lists))
def test_the_codec_never_writes_the_mark(value: Any) -> None:
    """No encoded value begins with the mark's first byte, so none is mistaken for a compressed one."""
    assert not MsgspecCodec().encode(value).startswith(MARK[:1])


@given(st.data())
def test_damage_is_found(data: st.DataObject) -> None:
    """A changed, truncated or extended frame is refused, or returned unchanged if its mark is gone."""
    packed = LAYER.wrap(LONG)
    at = data.draw(st.integers(0, len(packed) - 1))
    flipped = bytes([packed[at] ^ data.draw(st.integers(1, 255))])
    for damaged in (packed[:at] + flipped + packed[at + 1 :], packed[: at + 1], packed + flipped):
        if damaged == packed:
            continue
        try:
            seen = LAYER.unwrap(damaged)
        except SerializationError:
            continue
        # an unused bit of the header, or the mark itself, has changed
        assert seen == (LONG if damaged.startswith(MARK) else damaged)


def test_small_values_and_noise_stay_as_they_are() -> None:
    """Values that compression would not shorten stay unchanged."""
    for data in (b"", b"a" * (MIN_SIZE - 1), os.urandom(2000)):
        assert LAYER.wrap(data) is data
    assert len(LAYER.wrap(b"a" * MIN_SIZE)) < MIN_SIZE
    assert len(LAYER.wrap(LONG)) < len(LONG) / 20


def test_too_large_a_value_is_not_compressed() -> None:
    """A value over the size limit stays uncompressed, and is refused if it begins with the mark."""
    large = b"\0" * (MAX_SIZE + 1)
    assert LAYER.wrap(large) is large
    with pytest.raises(SerializationError, match="zstd compresses at most 268435456"):
        LAYER.wrap(MARK + large)


def test_a_bomb_is_refused_before_it_is_decompressed() -> None:
    """A frame that declares too large a size, or none, is refused without being decompressed."""
    zstd = zstandard()
    silent = zstd.ZstdCompressor()
    for bomb in (zstd.compress(b"\0" * (MAX_SIZE + 1)), silent.compress(b"\0" * MAX_SIZE) + silent.flush()):
        assert len(bomb) < 50_000
        with pytest.raises(SerializationError, match="declare a size of"):
            LAYER.unwrap(MARK + bomb)


def test_a_bomb_that_lies_is_stopped() -> None:
    """A frame with more data than it declares is refused, and takes no more memory than it declares."""
    frame = bytearray(zstandard().compress(b"\0" * (64 << 20)))
    assert frame[4] >> 6 == 2  # the size is in four bytes
    frame[6:10] = (1000).to_bytes(4, "little")
    script = (
        "import sys; from cano import SerializationError; from cano_zstd.layer import MARK, ZstdLayer\n"
        f"layer = ZstdLayer(); before = {PEAK}\n"
        "try: layer.unwrap(MARK + sys.stdin.buffer.read())\n"
        f"except SerializationError as error: print({PEAK} - before, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=bytes(frame), capture_output=True, check=True)

    grown, _, error = done.stdout.decode().partition(" ")
    assert "corrupt" in error
    assert int(grown) < 32_000  # KiB


@pytest.mark.parametrize("level", [1, 3, 22])
def test_levels(level: int) -> None:
    """Every layer reads the values of every level."""
    layer = cano_codec_layer(f"zstd:{level}")
    assert layer is not None
    assert layer.level == level
    assert LAYER.unwrap(layer.wrap(LONG)) == LONG


def test_the_level_is_three() -> None:
    """The default level is 3; the plugin ignores the names of other layers."""
    layer = cano_codec_layer("zstd")
    assert repr(layer) == "<ZstdLayer, level 3>"
    assert cano_codec_layer("zstandard") is None


@pytest.mark.parametrize("spec", ["zstd:", "zstd:0", "zstd:23", "zstd:-1", "zstd:x", "zstd:3:4", "zstd:٣", "zstd: 3"])
def test_wrong_levels_are_refused(spec: str) -> None:
    """A level in a URL must be a number from 1 to 22."""
    with pytest.raises(ConfigurationError, match="level must be a whole number from 1 to 22"):
        cano_codec_layer(spec)


@pytest.mark.parametrize("level", [True, 1.0, "3", None, 99])
def test_wrong_levels_of_a_layer_are_refused(level: Any) -> None:
    """A level passed to `ZstdLayer` must be an int from 1 to 22."""
    with pytest.raises(ConfigurationError, match="level must be a whole number from 1 to 22"):
        ZstdLayer(level)


def test_discovery_does_not_load_the_import_zstd() -> None:
    """Loading the plugin does not import Zstandard."""
    script = (
        "import sys, cano_zstd._plugin; print([name for name in sys.modules if 'zstd' in name and 'cano' not in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_readme_says_it() -> None:
    """The README contains the public name, and the code's mark and limits."""
    text = (Path(cano_zstd.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for promised in ("`ZstdLayer`", MARK.hex(" ").upper(), f"{MAX_SIZE >> 20} MiB", f"{MIN_SIZE} bytes"):
        assert promised in text
