#!/bin/sh
# Makes .venv at the repository's root and installs the tools and every member into it. Each package that is
# downloaded, also to build the members, must have one of the hashes in constraints.txt.
# Does nothing when nothing that it depends on has changed. PYTHON says which interpreter to take.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=$root/.venv
python=${PYTHON:-python3}

fail() {
    echo "$1; install Python 3.11 or newer, or say where it is: PYTHON=/path/to/python3.11" >&2
    exit 2
}

command -v "$python" >/dev/null || fail "there is no $python"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || fail "$python does not run"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is Python $version"

# Ray takes 200 MB, so that it is installed with CI=true only, and then kept; elsewhere its tests say that it is missing
if [ -n "${CI:-}" ] || ls -d "$venv"/lib/python*/site-packages/ray >/dev/null 2>&1; then ray=with; else ray=without; fi

stamp() {
    echo "Python $version $ray Ray" && cd "$root" &&
        cksum .ci/setup.sh constraints.txt pyproject.toml kernel/pyproject.toml plugins/*/pyproject.toml
}

wanted=$(stamp)
if [ "$(cat "$venv/cano-stamp" 2>/dev/null)" = "$wanted" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    exit 0
fi

echo "setting up .venv with Python $version" >&2
rm -f "$venv/cano-stamp"
found=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=none
[ "$found" = "$version" ] || "$python" -m venv --clear "$venv"

cd "$root"
if ! [ -x "$venv/bin/uv" ]; then
    # pip verifies hashes only of what it reads from a file of requirements
    sed -n '/^uv==/,/[^\\]$/p' constraints.txt >"$venv/uv.txt"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
fi
set -- -e kernel
for member in plugins/*/pyproject.toml; do
    set -- "$@" -e "${member%/pyproject.toml}"
done
uv() {
    "$venv/bin/uv" --quiet pip "$@" --python "$venv/bin/python"
}
pins=constraints.txt
if [ "$ray" = without ]; then
    pins=$venv/pins.txt
    sed '/^ray==/,/[^\\]$/d' constraints.txt >"$pins"
fi
# members have no hashes, so they are installed by themselves; `check` finds what the constraints lack
uv sync --require-hashes "$pins"
uv install --no-deps --require-build-hashes -b constraints.txt "$@"
uv check
echo "$wanted" >"$venv/cano-stamp"
