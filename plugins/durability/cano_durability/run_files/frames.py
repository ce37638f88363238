"""The container of an exported run: a line that names the format, and frames, each with a checksum.

    {"format": "cano-run", "version": 1, "id": "…", "codec": []}    the head: one line of JSON, at most 4096 bytes
    length  4 bytes, big-endian: that of the payload     \\
    crc     4 bytes: the CRC-32 of the payload            }  a frame; the file has any number of them
    payload                                              /

`id` is random. `codec` names the layers of an encrypted store; then they have encrypted each payload for its place: the
file's id and the frame's number. So no frame can be read, changed, moved, repeated or left out without the key.

A payload begins with the length of its JSON (4 bytes), and the JSON, which names the kind of the frame. The encoded
values follow, whose sizes are in the JSON. The last frame has the kind "end", the number of frames before it, and the
SHA-256 of all bytes before it. No part of a file is the name of another file, and none is compressed by this format.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, BinaryIO, NamedTuple

from cano import ContextLayer, LayerContext, RunFileError, SerializationError

FORMAT = "cano-run"
VERSION = 1
LONGEST_HEAD = 4096
SLACK = 2**24
"""Bytes of a frame beside the encoded values: names, ids, texts of errors, and what encryption adds."""
CHUNK = 2**20
"""The most bytes that are read at once, whatever length a file claims."""
_LARGEST = 2**32 - 1
_KINDS = {b"PK": "a zip archive", b"\x1f\x8b": "compressed by gzip", b"(\xb5/\xfd": "compressed by zstd"}


class Sealing(NamedTuple):
    """Encrypts the frames of one file, and decrypts them.

    Attributes:
        layer: encrypts for a place.
        names: the names of the store's layers.
    """

    layer: ContextLayer
    names: Sequence[str]

    def context(self, id: str, number: int) -> LayerContext:
        """Return the place of a frame."""
        return LayerContext(id, FORMAT, f"\0frame {number}", number)


class Frame(NamedTuple):
    """A frame of a file.

    Attributes:
        meta: its JSON.
        values: the bytes after that.
        offset: where it begins in the file, for messages.
    """

    meta: Mapping[str, Any]
    values: bytes
    offset: int


class Writer:
    """Makes the bytes of a file, part by part. With a `sealing`, the frames are encrypted."""

    def __init__(self, sealing: Sealing | None) -> None:
        self._sealing = sealing
        self._id = os.urandom(16).hex()
        self._number = 0
        self._digest = sha256()

    def head(self) -> bytes:
        """Return the head."""
        codec = [] if self._sealing is None else [*self._sealing.names]
        head = {"format": FORMAT, "version": VERSION, "id": self._id, "codec": codec}
        return self._counted(json.dumps(head).encode() + b"\n")

    def frame(self, meta: Mapping[str, Any], values: Sequence[bytes] = ()) -> bytes:
        """Return the next frame. Raises SerializationError if it would be too large."""
        text = json.dumps(meta).encode()
        payload = b"".join((len(text).to_bytes(4), text, *values))
        if self._sealing is not None:
            payload = self._sealing.layer.wrap_in(payload, self._sealing.context(self._id, self._number))
        if len(payload) > _LARGEST:
            raise SerializationError(f"its {meta['kind']} has {len(payload)} bytes, at most {_LARGEST} can be exported")
        self._number += 1
        return self._counted(len(payload).to_bytes(4) + zlib.crc32(payload).to_bytes(4) + payload)

    def end(self) -> bytes:
        """Return the last frame."""
        return self.frame({"kind": "end", "frames": self._number, "sha256": self._digest.hexdigest()})

    def _counted(self, data: bytes) -> bytes:
        self._digest.update(data)
        return data


class Reader:
    """Reads a file, and checks all that can be checked without knowing what a run is.

    Args:
        file: the file, from its beginning.
        sealing: decrypts the frames, if the store is encrypted.
        most: the most bytes of a payload.

    Attributes:
        digest: the SHA-256 of the whole file in hexadecimal digits, once all frames are read.
    """

    def __init__(self, file: BinaryIO, sealing: Sealing | None, most: int) -> None:
        self._file = file
        self._sealing = sealing
        self._most = most
        self._digest = sha256()
        self._at = 0
        self.digest = ""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames but the last one, which vouches for them.

        Raises:
            RunFileError: the file is not one of an exported run, or it was corrupt.
        """
        id, sealing = self._head()
        number = 0
        while True:
            before, offset = self._digest.hexdigest(), self._at
            length, crc = (int.from_bytes(self._exactly(4, offset)) for _ in range(2))
            if length > self._most:
                problem = f"a frame of {length} bytes, more than SizeLimits.run = {self._most - SLACK} allows"
                raise self.error("too large", f"{problem}; raise the limit: Kernel(limits=SizeLimits(run=…))", offset)
            payload = self._exactly(length, offset)
            if zlib.crc32(payload) != crc:
                raise self.error("corrupt", f"frame {number} is not as it was written; {_AGAIN}", offset)
            if sealing is not None:
                try:
                    payload = sealing.layer.unwrap_in(payload, sealing.context(id, number))
                except SerializationError as error:
                    raise self.error("encrypted", f"frame {number} cannot be decrypted: {error}", offset) from error
            frame = self._frame(payload, number, offset)
            if frame.meta["kind"] == "end":
                if (frame.meta.get("frames"), frame.meta.get("sha256")) != (number, before) or frame.values:
                    raise self.error("corrupt", f"its checksum is not that of its content; {_AGAIN}", offset)
                if self._file.read(1):
                    raise self.error("corrupt", f"more bytes follow its end; {_AGAIN}", self._at)
                self.digest = self._digest.hexdigest()
                return
            yield frame
            number += 1

    def error(self, problem: str, text: str, offset: int | None = None) -> RunFileError:
        """Return the error of a file that is refused."""
        offset = self._at if offset is None else offset
        message = f"the file of the run is refused at byte {offset}, nothing of it is stored: {text}"
        return RunFileError(message, problem=problem, offset=offset)

    def _head(self) -> tuple[str, Sealing | None]:
        """Read the head; return the file's id, and what decrypts the frames."""
        start = self._read(LONGEST_HEAD)
        line, newline, _ = start.partition(b"\n")
        head: Any = None
        with suppress(ValueError, RecursionError):
            head = json.loads(line) if newline else None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            found = next((what for mark, what in _KINDS.items() if start.startswith(mark)), None)
            what = f"it is {found}; unpack it first" if found else "it does not begin as such a file does"
            raise self.error("not a run file", f"{what}; pass a file that `cano export` has made", 0)
        if not isinstance(version := head.get("version"), int) or version > VERSION:
            raise self.error(
                "newer version", f"its format has the version {version!r:.20}, and this program reads up to {VERSION}; "
                "import it with a newer version of Cano", 0,
            )  # fmt: skip
        id, codec = head.get("id"), head.get("codec")
        if not isinstance(id, str) or not isinstance(codec, list) or not all(isinstance(name, str) for name in codec):
            raise self.error("corrupt", f"its first line is not as it was written; {_AGAIN}", 0)
        self._file.seek(len(line) + 1)
        self._digest.update(line + newline)
        self._at = len(line) + 1
        if codec and self._sealing is None:
            raise self.error(
                "encrypted", f"it is encrypted by {','.join(codec):.100}; import it into a store with ?codec="
                f"{','.join(codec):.100} and its keys, or export the run with plain=True (`--plain`)", 0,
            )  # fmt: skip
        return id, self._sealing if codec else None

    def _frame(self, payload: bytes, number: int, offset: int) -> Frame:
        size = int.from_bytes(payload[:4])
        try:
            meta = json.loads(payload[4 : 4 + size])
            if len(payload) < 4 + size or not isinstance(meta, dict) or not isinstance(meta.get("kind"), str):
                raise ValueError("it names no kind")
        except (ValueError, RecursionError) as error:
            raise self.error("corrupt", f"frame {number} cannot be read: {error}; {_AGAIN}", offset) from error
        return Frame(meta, payload[4 + size :], offset)

    def _exactly(self, count: int, offset: int) -> bytes:
        """Return the next `count` bytes. The memory grows only with those that there are."""
        parts = []
        while count:
            if not (part := self._read(min(count, CHUNK))):
                raise self.error("truncated", f"the file ends here, in the middle; {_AGAIN}", offset)
            self._digest.update(part)
            self._at += len(part)
            count -= len(part)
            parts.append(part)
        return b"".join(parts)

    def _read(self, most: int) -> bytes:
        return self._file.read(most)


_AGAIN = "copy or export it again"
