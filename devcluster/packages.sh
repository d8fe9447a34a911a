#!/bin/sh
# Installs the Debian packages that the embedded development cluster needs, and only those that are missing.
# Can be run as often as wanted. No service of the packages is started: the cluster runs its own.
set -eu

packages="containerd runc containernetworking-plugins iptables conntrack ebtables ethtool socat iproute2 openssl
ca-certificates buildah mmdebstrap docker-registry procps"

missing=""
for package in $packages; do
    if [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
        missing="$missing $package"
    fi
done

if [ -z "$missing" ]; then
    echo "All system packages are installed."
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "Not a Debian system. Please install the equivalents of:$missing" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "Please run as root, to install:$missing" >&2
    exit 1
fi

echo "Installing:$missing"
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
attempt=1
# shellcheck disable=SC2086 # the list is meant to be split
until apt-get update -qq && apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends $missing; do
    [ "$attempt" -lt 3 ] || exit 1
    attempt=$((attempt + 1))
    echo "Trying again ($attempt of 3)"
done
echo "Done."
