#!/bin/sh
# Without arguments, or with options only, starts the server; anything else is run as it is.
set -eu
case "${1:-}" in
'' | -* | *.conf) set -- redis-server "$@" ;;
esac
if [ "$1" = redis-server ]; then
    shift
    [ -z "${REDIS_PASSWORD:-}" ] || set -- --requirepass "$REDIS_PASSWORD" "$@"
    exec redis-server --bind '* -::*' --protected-mode no --daemonize no --logfile '' "$@"
fi
exec "$@"
