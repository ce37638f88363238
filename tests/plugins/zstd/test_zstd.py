"""Compression: what goes in comes out, what does not shrink stays, and nothing damaged or oversized gets through."""

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
from cano_zstd.layer import LARGEST, MARK, SMALLEST, ZstdLayer
from hypothesis import given
from hypothesis import strategies as st

LAYER = ZstdLayer()
LONG = b"to be or not to be, " * 100
plain = st.binary(max_size=300) | st.builds(bytes.__mul__, st.binary(max_size=40), st.integers(0, 200))


def zstandard() -> Any:
    """The library."""
    return cano_zstd.layer._library()


@given(plain)
def test_what_goes_in_comes_out(data: bytes) -> None:
    """Whatever it is, also what begins with the mark; and it does not get longer, unless it does so."""
    for each in (data, MARK + data):
        assert LAYER.unwrap(LAYER.wrap(each)) == each
        assert LAYER.unwrap(LAYER.unwrap(LAYER.wrap(LAYER.wrap(each)))) == each
    assert len(LAYER.wrap(data)) <= len(data) or data.startswith(MARK)


@given(plain.filter(lambda data: not data.startswith(MARK)))
def test_what_was_not_compressed_is_read_as_it_is(data: bytes) -> None:
    """A store may have values from before it was compressed."""
    assert LAYER.unwrap(data) == data


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.binary(), st.lists))
def test_the_codec_never_writes_the_mark(value: Any) -> None:
    """So what it wrote before there was compression cannot be taken for something compressed."""
    assert not MsgspecCodec().encode(value).startswith(MARK[:1])


@given(st.data())
def test_damage_is_found(data: st.DataObject) -> None:
    """A changed, cut or lengthened frame is refused; or, where the mark is what changed, it is not read as ours."""
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
        # a bit of the header that says nothing, or the mark itself
        assert seen == (LONG if damaged.startswith(MARK) else damaged)


def test_small_values_and_noise_stay_as_they_are() -> None:
    """What would not get shorter is not touched."""
    for data in (b"", b"a" * (SMALLEST - 1), os.urandom(2000)):
        assert LAYER.wrap(data) is data
    assert len(LAYER.wrap(b"a" * SMALLEST)) < SMALLEST
    assert len(LAYER.wrap(LONG)) < len(LONG) / 20


def test_too_large_a_value_is_not_compressed() -> None:
    """It could not be read back."""
    large = b"\0" * (LARGEST + 1)
    assert LAYER.wrap(large) is large
    with pytest.raises(SerializationError, match="zstd compresses 268435456 at most"):
        LAYER.wrap(MARK + large)


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    """Few bytes that become very many are refused by what they say, without being decompressed; so is silence."""
    zstd = zstandard()
    silent = zstd.ZstdCompressor()
    for bomb in (zstd.compress(b"\0" * (LARGEST + 1)), silent.compress(b"\0" * LARGEST) + silent.flush()):
        assert len(bomb) < 50_000
        with pytest.raises(SerializationError, match="would become"):
            LAYER.unwrap(MARK + bomb)


def test_a_bomb_that_lies_is_stopped() -> None:
    """A frame that holds more than it says is refused, and costs no more memory than it says."""
    frame = bytearray(zstandard().compress(b"\0" * (64 << 20)))
    assert frame[4] >> 6 == 2  # the size is in four bytes
    frame[6:10] = (1000).to_bytes(4, "little")
    script = (
        "import resource, sys; from cano import SerializationError; from cano_zstd.layer import MARK, ZstdLayer\n"
        "layer = ZstdLayer(); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: layer.unwrap(MARK + sys.stdin.buffer.read())\n"
        "except SerializationError as error: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)"
    )
    done = subprocess.run([sys.executable, "-c", script], input=bytes(frame), capture_output=True, check=True)

    grown, _, error = done.stdout.decode().partition(" ")
    assert "damaged" in error
    assert int(grown) < 32_000  # KiB


@pytest.mark.parametrize("level", [1, 3, 22])
def test_levels(level: int) -> None:
    """Whatever the level, every layer reads it."""
    layer = cano_codec_layer(f"zstd:{level}")
    assert layer is not None
    assert layer.level == level
    assert LAYER.unwrap(layer.wrap(LONG)) == LONG


def test_the_level_is_three() -> None:
    """Without one, and other layers are others'."""
    layer = cano_codec_layer("zstd")
    assert repr(layer) == "<ZstdLayer, level 3>"
    assert cano_codec_layer("zstandard") is None


@pytest.mark.parametrize("spec", ["zstd:", "zstd:0", "zstd:23", "zstd:-1", "zstd:x", "zstd:3:4", "zstd:٣", "zstd: 3"])
def test_wrong_levels_are_refused(spec: str) -> None:
    """A level is a number that there is."""
    with pytest.raises(ConfigurationError, match="level must be a number from 1 to 22"):
        cano_codec_layer(spec)


@pytest.mark.parametrize("level", [True, 1.0, "3", None, 99])
def test_wrong_levels_of_a_layer_are_refused(level: Any) -> None:
    """So it is for who makes one."""
    with pytest.raises(ConfigurationError, match="level must be a number from 1 to 22"):
        ZstdLayer(level)


def test_discovery_does_not_load_the_library() -> None:
    """A program that only loads its plugins pays nothing for this one."""
    script = (
        "import sys, cano_zstd._plugin; print([name for name in sys.modules if 'zstd' in name and 'cano' not in name])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_readme_says_it() -> None:
    """The public name, the mark and the limits are those of the code."""
    text = (Path(cano_zstd.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    for promised in ("`ZstdLayer`", MARK.hex(" ").upper(), f"{LARGEST >> 20} MiB", f"{SMALLEST} bytes"):
        assert promised in text
