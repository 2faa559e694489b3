#!/bin/sh
# Install what TigerFox needs to be built, demonstrated and tested: Debian packages and a virtual environment.
set -eu

PACKAGES="python3 python3-venv python3-dev gcc libc6-dev zlib1g-dev libhyperscan-dev libpcre2-dev libnetfilter-queue-dev
pkg-config iptables nftables conntrack iproute2 ethtool curl openssl bind9-dnsutils"
case "$(uname -m)" in
    x86_64|i?86) ;;
    *) PACKAGES=$(echo "$PACKAGES" | sed 's/libhyperscan-dev/libvectorscan-dev/') ;;     # the same library for other processors
esac
python=python3
venv=.venv

usage() {
    cat <<EOF
usage: scripts/setup.sh [--python COMMAND] [--venv FOLDER]

Installs the Debian packages: $PACKAGES
(only those that are missing, with apt-get, through sudo where you are not root),
then makes a virtual environment in FOLDER (default .venv) with pip, setuptools and Cython.
Can be run twice; the second run finds nothing to do.
EOF
}

while [ $# -gt 0 ]; do
    case "$1" in
        --python) python=$2; shift 2 ;;
        --venv) venv=$2; shift 2 ;;
        -h|--help) usage; exit 0 ;;
        *) echo "setup.sh: unknown option $1; see --help" >&2; exit 2 ;;
    esac
done

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

missing=""
for package in $PACKAGES; do
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [ "$status" = "install ok installed" ] || missing="$missing $package"
done
if [ -n "$missing" ]; then
    echo "installing Debian packages:$missing"
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # the list is meant to be split
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
fi

if [ ! -x "$venv/bin/python" ]; then
    echo "making the virtual environment $venv"
    "$python" -m venv "$venv"
fi
echo "installing into $venv: pip, setuptools, Cython (Python packages that TigerFox itself needs follow with the build)"
"$venv/bin/python" -m pip install --quiet --upgrade pip "setuptools>=77" "Cython>=3.1"
