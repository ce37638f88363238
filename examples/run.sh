#!/bin/sh
# Runs the text pipeline with the given arguments, such as a folder of text files.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
sh "$root/.ci/setup.sh"
exec "$root/.venv/bin/python" "$root/examples/text_pipeline.py" "$@"
