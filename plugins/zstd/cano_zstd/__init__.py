"""Compression of what stores keep, with Zstandard: `?codec=zstd`."""

from cano_zstd.layer import ZstdLayer

__all__ = ["ZstdLayer"]
