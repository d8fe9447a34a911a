#!/bin/sh
# Becomes one program of the development stack: `run.sh temporal|worker|api`, started by supervisor from the
# repository. Reads the stack's settings, and leaves the process id where people and tests look for it.
set -eu
state=${PERDURE_DEV_STATE:?}
set -a
. "$state/stack.env"
set +a
echo $$ >"$state/run/$1.pid"
case $1 in
temporal)
    exec "$PERDURE_DEV_PYTHON" -m worker.devserver --state "$state" \
        --port "$PERDURE_DEV_TEMPORAL_PORT" --ui-port "$PERDURE_DEV_TEMPORAL_UI_PORT"
    ;;
worker) exec "$PERDURE_DEV_PYTHON" -m worker ;;
api) exec "$PERDURE_DEV_PYTHON" -m api ;;
*)
    echo "no such program: $1" >&2
    exit 2
    ;;
esac
