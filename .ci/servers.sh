#!/bin/sh
# Installs the servers and programs that tests start by themselves, where they are missing and this is Debian and root.
# Nothing of them is left running. Elsewhere it only says what is missing: the tests that need it then fail in CI.
set -eu

missing=
for bin in /usr/lib/postgresql/*/bin/postgres; do
    [ -x "$bin" ] || command -v postgres >/dev/null || missing=postgresql
done
command -v redis-server >/dev/null || missing="$missing redis-server"
command -v dot >/dev/null || missing="$missing graphviz"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "please install:" $missing >&2
    exit 0
fi

DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
install() {
    apt-get install -qq -y --no-install-recommends "$@" >/dev/null
}

# packages must not start what they install
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi

echo "installing:" $missing >&2
apt-get update -qq
case $missing in *postgresql*)
    install postgresql-common
    echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
    ;;
esac
install $missing
