#!/bin/sh
# Makes .venv at the repository's root and installs the tools and every member into it.
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

stamp() {
    echo "Python $version" && cd "$root" &&
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
[ -x "$venv/bin/uv" ] ||
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check -c constraints.txt uv
set -- -e kernel
for member in plugins/*/pyproject.toml; do
    set -- "$@" -e "${member%/pyproject.toml}"
done
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --exact \
    -c constraints.txt -b constraints.txt --group dev "$@"
echo "$wanted" >"$venv/cano-stamp"
