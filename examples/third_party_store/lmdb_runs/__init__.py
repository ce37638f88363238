"""Durable runs of Cano in an LMDB file: `Kernel(store="lmdb:///runs.mdb")`."""
