"""The kernel: the public API, and what it is made of."""
