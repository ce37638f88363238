"""`python -m cano_encryption [ID]` prints a new key."""

from __future__ import annotations

import sys

from cano import ConfigurationError

from cano_encryption.keys import new_key


def main(arguments: list[str]) -> int:
    """Print a new key. Return the exit code: 2 for a usage error."""
    if len(arguments) > 1 or any(each.startswith("-") for each in arguments):
        print("usage: python -m cano_encryption [ID]", file=sys.stderr)
        return 2
    try:
        print(new_key(*arguments))
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
