#!/bin/sh
# Every check, the quick ones first. Arguments are handed on to pytest, such as -k view or --lf.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
[ -z "${CI:-}" ] || sh "$root/.ci/servers.sh"
sh "$root/.ci/setup.sh"
cd "$root"
VIRTUAL_ENV=$root/.venv PATH=$root/.venv/bin:$PATH
export VIRTUAL_ENV PATH

ruff check .
ruff format --check .
mypy --num-workers auto
lint-imports --no-logo
# one worker runs all tests of a file, for they share fixtures; tests/conftest.py sets the order
exec pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
