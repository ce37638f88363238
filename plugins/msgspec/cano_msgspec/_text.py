"""Strings, bytes, and types that are stored as one of them."""

from __future__ import annotations

from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from cano_msgspec._kind import Kind, builtin


def fits(value: str) -> bool:
    """Return whether MessagePack can represent the string: whether it has no lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_str(value: str) -> tuple[bytes]:
    return (value.encode("utf-8", "surrogatepass"),)


def _read_str(parts: list[Any]) -> str:
    return str(_only(bytes, parts), "utf-8", "surrogatepass")


def _write_bytearray(value: bytearray) -> tuple[bytes]:
    return (bytes(value),)


def _read_bytearray(parts: list[Any]) -> bytearray:
    return bytearray(_only(bytes, parts))


def _write_uuid(value: UUID) -> tuple[bytes]:
    return (value.bytes,)


def _read_uuid(parts: list[Any]) -> UUID:
    return UUID(bytes=_only(bytes, parts))


def _write_path(value: PurePath) -> tuple[str]:
    return (str(value),)


def _path(cls: type[PurePath], tag: str) -> Kind:
    def read(parts: list[Any]) -> PurePath:
        return cls(_only(str, parts))

    return builtin(cls, tag, _write_path, read)


def _write_unset(value: UnsetType) -> tuple[()]:
    return ()


def _read_unset(parts: list[Any]) -> UnsetType:
    if parts:
        raise ValueError("UNSET has no parts")
    return UNSET


def _only(cls: type, parts: list[Any]) -> Any:
    (part,) = parts
    if type(part) is not cls:
        raise TypeError(f"a {cls.__name__} was expected, not a {type(part).__name__}")
    return part


KINDS = (
    builtin(str, "S", _write_str, _read_str),
    builtin(bytearray, "ba", _write_bytearray, _read_bytearray),
    builtin(UUID, "u", _write_uuid, _read_uuid),
    _path(PosixPath, "p"),
    _path(PurePosixPath, "pp"),
    _path(WindowsPath, "w"),
    _path(PureWindowsPath, "pw"),
    builtin(UnsetType, "U", _write_unset, _read_unset),
)
