#!/bin/sh
# Runs the text pipeline. Arguments are handed on to it, such as a folder of text files.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/.ci/setup.sh"
# the log lines of every step would bury the report
CANO_BLOCK=${CANO_BLOCK-structlog}
export CANO_BLOCK
exec "$root/.venv/bin/python" "$root/examples/text_pipeline.py" "$@"
