#!/bin/sh
# Runs the text pipeline with the given arguments, such as a folder of text files.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/.ci/setup.sh"
# without structlog, whose lines about every step would hide the report
CANO_BLOCK=${CANO_BLOCK-structlog}
export CANO_BLOCK
exec "$root/.venv/bin/python" "$root/examples/text_pipeline.py" "$@"
