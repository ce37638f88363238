"""The kernel: the public API, and the classes that implement it."""
