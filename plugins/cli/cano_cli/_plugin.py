"""The module that the entry point names.

It implements no hook: the commands are built in, so that `cano plugins` works even if plugins cannot be loaded.
It imports nothing, because every kernel imports it.
"""

CANO_API_VERSION = 2
