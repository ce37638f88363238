"""`ZstdLayer`: compresses values in the store, if that makes them smaller.

A compressed value is the mark C1 5A and a Zstandard frame with a checksum. No value of cano-msgspec begins with C1, a
byte that MessagePack does not use. So bytes that begin otherwise were not compressed and are returned unchanged.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cano import SerializationError
from cano.options import whole

if TYPE_CHECKING:
    from types import ModuleType

MARK = b"\xc1Z"
LEVELS = range(1, 23)
MAX_SIZE = 256 * 1024 * 1024
"""Bytes. Larger values are stored uncompressed, and no value decompresses to more."""
MIN_SIZE = 64
"""Bytes. Smaller values are stored uncompressed."""
MAX_WINDOW_LOG = 27
"""Log2 of the largest decompression window, 128 MiB, which is also the zstd command's default."""


class ZstdLayer:
    """A layer that compresses values with Zstandard, if that makes them smaller. Safe to share between threads.

    Args:
        level: from 1 (fastest) to 22 (smallest). It does not change the speed of reading.

    Raises:
        ConfigurationError: the level is out of range.
    """

    hides = False  # see `cano.CodecLayer`

    def __init__(self, level: int = 3) -> None:
        self.level = level = whole("zstd's level", level, LEVELS[0], LEVELS[-1])
        zstd = _import_zstd()
        self._compress = zstd.compress
        self._options = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        self._frame_info = zstd.get_frame_info
        self._decompressor = zstd.ZstdDecompressor
        self._limits = {zstd.DecompressionParameter.window_log_max: MAX_WINDOW_LOG}
        self._error = zstd.ZstdError

    def __repr__(self) -> str:
        return f"<ZstdLayer, level {self.level}>"

    def wrap(self, data: bytes) -> bytes:
        """Return `data`, compressed if that makes it smaller.

        Raises:
            SerializationError: `data` begins with the mark and is too large to compress.
        """
        marked = data.startswith(MARK)  # compress such bytes in any case, or they would be mistaken for our own
        if not marked and not MIN_SIZE <= len(data) <= MAX_SIZE:
            return data
        if len(data) > MAX_SIZE:
            raise SerializationError(f"it has {len(data)} bytes, but zstd compresses at most {MAX_SIZE}; split it")
        packed: bytes = MARK + self._compress(data, options=self._options)
        return packed if marked or len(packed) < len(data) else data

    def unwrap(self, data: bytes) -> bytes:
        """Return the data that `wrap` was given.

        Raises:
            SerializationError: `data` is corrupt, or would decompress to more than `MAX_SIZE` bytes.
        """
        if not data.startswith(MARK):
            return data
        frame = memoryview(data)[len(MARK) :]
        try:
            size = self._frame_info(frame).decompressed_size
            if size is None or size > MAX_SIZE:  # `wrap` always declares the size
                raise SerializationError(
                    f"its compressed bytes declare a size of {size} bytes, but at most {MAX_SIZE} are allowed; "
                    "restore the value from a backup"
                )
            reader = self._decompressor(options=self._limits)
            plain: bytes = reader.decompress(frame, max_length=size + 1)
        except self._error as error:
            raise SerializationError(
                f"its compressed bytes are corrupt: {error}; restore the value from a backup"
            ) from error
        if len(plain) != size or not reader.eof or reader.unused_data:
            raise SerializationError("its compressed bytes are corrupt; restore the value from a backup")
        return plain


def _import_zstd() -> ModuleType | Any:
    """Import Zstandard on first use, because that takes a few milliseconds. Python 3.14 and later include it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
