#!/bin/sh
# Makes the virtual environment and installs what requirements.lock says, by hash, and the project itself as an
# editable. Run by `make setup` when one of its files changed; can be run as often as wanted.
#
#   PYTHON   the interpreter to make the environment with (default: the system's, if it is new enough and makes
#            virtual environments, else the first python3 on PATH)
set -eu
cd "$(dirname "$0")/.."
venv=.venv

new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))'
}

# Distributions compile theirs with a profile of its use. One that was compiled on the spot mostly has none, and
# takes up to a third longer.
python=${PYTHON:-/usr/bin/python3}
if [ -z "${PYTHON:-}" ] && ! { new_enough "$python" && "$python" -c 'import ensurepip'; } 2>/dev/null; then
    python=python3
fi
if ! new_enough "$python"; then
    echo "Perdure needs Python 3.11 or newer; $python is not. Name one: make setup PYTHON=/path/to/python3.11" >&2
    exit 1
fi
if [ ! -x "$venv/bin/pip" ]; then
    echo "Making the virtual environment with $("$python" --version), $(command -v "$python")"
    "$python" -m venv "$venv" || {
        echo "The module venv does not work here; on Debian, 'apt-get install python3-venv' brings it." >&2
        exit 1
    }
fi

# Only uv comes by pip, by hash too; it installs the rest in a fraction of the time.
"$venv/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock

# uv does not read pip's settings; whoever has pip go to a mirror wants uv there as well.
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then
    mirror=${PIP_INDEX_URL:-$("$venv/bin/pip" config get global.index-url 2>/dev/null || true)}
    if [ -n "$mirror" ]; then
        export UV_DEFAULT_INDEX="$mirror"
    fi
fi
export VIRTUAL_ENV="$PWD/$venv" UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-120}"
echo "Installing $(grep -c '^[a-z]' requirements.lock) packages from requirements.lock (about 600 MB on disk)"
attempt=1
until "$venv/bin/uv" pip install --quiet --require-hashes -r requirements.lock; do
    [ "$attempt" -lt 3 ] || exit 1
    attempt=$((attempt + 1))
    echo "Trying again ($attempt of 3)"
done
# The builder is installed already, so that nothing is fetched without a hash.
"$venv/bin/uv" pip install --quiet --no-deps --no-build-isolation --editable .
