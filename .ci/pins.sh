#!/bin/sh
# Writes constraints.txt: exact versions with the hashes of all their files, good for every Python and system.
# Versions stay as they are. Arguments go to `uv pip compile`, such as --upgrade, --upgrade-package NAME or --offline.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

cp constraints.txt "$new/pins.txt" # uv keeps the versions that it finds in its output file
"${UV:-.venv/bin/uv}" pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --generate-hashes \
    --no-annotate --no-header --output-file "$new/pins.txt" "$@" \
    kernel/pyproject.toml plugins/*/pyproject.toml
{
    sed -n '/^#/p' constraints.txt
    grep -v '^-e' "$new/pins.txt"
} >"$new/constraints.txt"
cp "$new/constraints.txt" constraints.txt
