"""What the kernel finds through the entry point.

There is no hook in it: the command's own commands are built in, so that `cano plugins` can say what is wrong
when plugins cannot be loaded. It imports nothing, since every kernel imports it.
"""

CANO_API_VERSION = 2
