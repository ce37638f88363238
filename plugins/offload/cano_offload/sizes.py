"""Sizes in bytes with units, such as `512KiB`, `1MiB`, `10MB` or `4096`."""

from __future__ import annotations

import re

from cano import ConfigurationError

UNITS: dict[str, int] = {"": 1, "B": 1} | {
    f"{letter}{end}": base**power for end, base in (("B", 1000), ("iB", 1024)) for power, letter in enumerate("KMGT", 1)
}
_SIZE = re.compile(r"([0-9]{1,15})([A-Za-z]*)", re.ASCII)


def size_in_bytes(text: str) -> int:
    """Parse a size. Return its number of bytes.

    Args:
        text: a whole number above 0, with an optional unit: B, KB, MB, GB, TB (powers of 1000), KiB, MiB, GiB or TiB
            (powers of 1024).

    Raises:
        ConfigurationError: the size is malformed or 0.
    """
    found = _SIZE.fullmatch(text)
    if found is None or found[2] not in UNITS or not int(found[1]):
        raise ConfigurationError(
            f"{text!r} is not a size; write 512KiB, 1MiB, 10MB, or a number of bytes, such as 4096"
        )
    return int(found[1]) * UNITS[found[2]]


def format_size(size: int) -> str:
    """Return `size` in the largest unit that is exact, and in bytes."""
    unit = max((unit for unit, factor in UNITS.items() if size % factor == 0), key=UNITS.__getitem__)
    return f"{size} bytes" if UNITS[unit] == 1 else f"{size // UNITS[unit]} {unit} ({size} bytes)"
