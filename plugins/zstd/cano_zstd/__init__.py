"""Compression of the values in a store with Zstandard: `?codec=zstd`."""

from cano_zstd.layer import ZstdLayer

__all__ = ["ZstdLayer"]
