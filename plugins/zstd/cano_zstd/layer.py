"""`ZstdLayer`: values are compressed in the store, where that makes them smaller.

What it compresses begins with the mark C1 5A, and is a Zstandard frame with a checksum from there on. No MessagePack
begins with C1, and no value of cano-msgspec does: what begins otherwise was not compressed, and is given back as it is.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cano import ConfigurationError, SerializationError

if TYPE_CHECKING:
    from types import ModuleType

MARK = b"\xc1Z"
LEVELS = range(1, 23)
LARGEST = 256 * 1024 * 1024
"""Bytes: what is larger is stored uncompressed, and nothing becomes larger when it is read."""
SMALLEST = 64
"""Bytes: what is smaller is not tried."""
WINDOW = 27
"""The logarithm of the largest window that a reader sets aside: 128 MiB, as the zstd command does."""


class ZstdLayer:
    """Compresses values with Zstandard, where that makes them smaller. Safe to share between threads.

    Args:
        level: from 1, the fastest, to 22, the smallest; both are read back equally fast.

    Raises:
        ConfigurationError: there is no such level.
    """

    def __init__(self, level: int = 3) -> None:
        if isinstance(level, bool) or not isinstance(level, int) or level not in LEVELS:
            raise ConfigurationError(f"zstd's level must be a number from {LEVELS[0]} to {LEVELS[-1]}, not {level!r}")
        self.level = level
        zstd = _library()
        self._compress = zstd.compress
        self._options = {
            zstd.CompressionParameter.compression_level: level,
            zstd.CompressionParameter.checksum_flag: 1,
        }
        self._frame_info = zstd.get_frame_info
        self._decompressor = zstd.ZstdDecompressor
        self._limits = {zstd.DecompressionParameter.window_log_max: WINDOW}
        self._error = zstd.ZstdError

    def __repr__(self) -> str:
        return f"<ZstdLayer, level {self.level}>"

    def wrap(self, data: bytes) -> bytes:
        """`data`, compressed where that makes it smaller.

        Raises:
            SerializationError: it looks as if it were compressed already, and is too large to be compressed again.
        """
        marked = data.startswith(MARK)  # such bytes could not be told from our own if they were left as they are
        if not marked and not SMALLEST <= len(data) <= LARGEST:
            return data
        if len(data) > LARGEST:
            raise SerializationError(f"it takes {len(data)} bytes; zstd compresses {LARGEST} at most")
        packed: bytes = MARK + self._compress(data, options=self._options)
        return packed if marked or len(packed) < len(data) else data

    def unwrap(self, data: bytes) -> bytes:
        """What `wrap` was given.

        Raises:
            SerializationError: it is damaged, or would become larger than anything that `wrap` compresses.
        """
        if not data.startswith(MARK):
            return data
        frame = memoryview(data)[len(MARK) :]
        try:
            size = self._frame_info(frame).decompressed_size
            if size is None or size > LARGEST:  # ours say it
                raise SerializationError(f"its compressed bytes would become {size} bytes; {LARGEST} are allowed")
            reader = self._decompressor(options=self._limits)
            plain: bytes = reader.decompress(frame, max_length=size + 1)
        except self._error as error:
            raise SerializationError(f"its compressed bytes are damaged: {error}") from error
        if len(plain) != size or not reader.eof or reader.unused_data:
            raise SerializationError("its compressed bytes are damaged: too few, or too many")
        return plain


def _library() -> ModuleType | Any:
    """Zstandard, which is in the standard library from Python 3.14 on. Imported late: it takes a few milliseconds."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
