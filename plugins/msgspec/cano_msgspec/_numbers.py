"""Numbers without a MessagePack type."""

from __future__ import annotations

from decimal import Context, Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from cano_msgspec._kind import Refusal, builtin

_EXACT = Context(capitals=1, traps=[InvalidOperation])  # independent of the program's own decimal context
_MAX_BITS = (
    8 * 4096
)  # of a fraction's numerator and denominator, since the time to reduce it is quadratic in their size


def fits(value: int) -> bool:
    """Return whether MessagePack can represent the integer."""
    return -(2**63) <= value < 2**64


def _write_int(value: int) -> tuple[bytes]:
    return (value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True),)


def _read_int(parts: list[Any]) -> int:
    (raw,) = parts
    if type(raw) is not bytes:
        raise TypeError("an integer must be stored as bytes")
    return int.from_bytes(raw, "big", signed=True)


def _write_decimal(value: Decimal) -> tuple[str]:
    return (_EXACT.to_sci_string(value),)


def _read_decimal(parts: list[Any]) -> Decimal:
    (text,) = parts
    if type(text) is not str:
        raise TypeError("a decimal must be stored as a string")
    return Decimal(text, _EXACT)


def _write_complex(value: complex) -> tuple[float, float]:
    return value.real, value.imag


def _read_complex(parts: list[Any]) -> complex:
    real, imag = parts
    if type(real) is not float or type(imag) is not float:
        raise TypeError("a complex number must be stored as two floats")
    return complex(real, imag)


def _write_fraction(value: Fraction) -> tuple[int, int]:
    if max(value.numerator.bit_length(), value.denominator.bit_length()) > _MAX_BITS:
        raise Refusal(f"the fraction has more than {_MAX_BITS} bits in its numerator or denominator", Fraction)
    return value.numerator, value.denominator


def _read_fraction(parts: list[Any]) -> Fraction:
    numerator, denominator = parts
    if not type(numerator) is type(denominator) is int:
        raise TypeError("a fraction must be stored as two integers")
    if max(numerator.bit_length(), denominator.bit_length()) > _MAX_BITS:
        raise ValueError("the numerator or denominator is too long")
    return Fraction(numerator, denominator)


def _write_range(value: range) -> tuple[int, int, int]:
    return value.start, value.stop, value.step


def _read_range(parts: list[Any]) -> range:
    start, stop, step = parts
    return range(start, stop, step)


KINDS = (
    builtin(int, "i", _write_int, _read_int),
    builtin(Decimal, "n", _write_decimal, _read_decimal),
    builtin(complex, "c", _write_complex, _read_complex),
    builtin(Fraction, "f", _write_fraction, _read_fraction),
    builtin(range, "r", _write_range, _read_range),
)
