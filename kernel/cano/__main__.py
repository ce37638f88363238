"""`python -m cano`: the `cano` command, if cano-cli is installed."""

import importlib.util
import sys

if __name__ == "__main__":
    if importlib.util.find_spec("cano_cli") is None:
        sys.exit("the cano command is in the distribution cano-cli, which is not installed")
    importlib.import_module("cano_cli.main").main()
