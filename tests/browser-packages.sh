#!/bin/sh
# Installs the browser that the tests of pages drive: Debian's Chromium. Only tests need it, so it stands apart from
# the packages of the development cluster. Can be run as often as wanted.
set -eu

if command -v chromium >/dev/null 2>&1; then
    exit 0
fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "Chromium is missing, and can be installed here only as root on a Debian system." >&2
    exit 1
fi
echo "Installing: chromium fonts-dejavu-core"
export DEBIAN_FRONTEND=noninteractive
attempt=1
until apt-get update -qq &&
    apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends chromium fonts-dejavu-core; do
    [ "$attempt" -lt 3 ] || exit 1
    attempt=$((attempt + 1))
    echo "Trying again ($attempt of 3)"
done
