#!/bin/bash
# Makes the database cluster on the first start, then runs the server. Started as root it hands the data directory to
# postgres and goes on as postgres; started as another user it goes on as that user.
set -euo pipefail

data=${PGDATA:?}
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}

case "${1:-}" in
'' | -*) set -- postgres "$@" ;;
esac
[[ $1 == postgres ]] || exec "$@"

if [[ $(id -u) == 0 ]]; then
    mkdir -p "$data" /var/run/postgresql
    chown postgres:postgres /var/run/postgresql
    # A volume's top is its owner's; what is in a data directory has belonged to postgres since it was made.
    [[ $(stat -c %U "$data") == postgres ]] || chown -R postgres:postgres "$data"
    # A volume may be mounted above the data directory and be closed to others.
    parent=$(dirname "$data")
    [[ $(stat -c %u "$parent") != 0 ]] || chmod o+x "$parent"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

# Text as SQL wants it between quotes.
quoted() { printf "'%s'" "${1//\'/\'\'}"; }
identifier() { printf '"%s"' "${1//\"/\"\"}"; }

make_cluster() {
    if [[ -z ${POSTGRES_PASSWORD:-} && ${POSTGRES_HOST_AUTH_METHOD:-} != trust ]]; then
        echo "Error: POSTGRES_PASSWORD is not set (or set POSTGRES_HOST_AUTH_METHOD=trust)." >&2
        exit 1
    fi
    local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256} script
    if [[ -n ${POSTGRES_INITDB_ARGS:-} ]]; then
        local arguments
        read -r -a arguments <<<"$POSTGRES_INITDB_ARGS"
        # It wants an empty directory, so the mark that make_cluster is at work is made anew after it.
        rm "$data/.making"
        initdb --pgdata="$data" --username=postgres --no-sync "${arguments[@]}" >/dev/null
        touch "$data/.making"
    else
        # initdb takes most of a second; a copy of what it made when the image was built does not.
        cp -a --reflink=auto "$TEMPLATE/." "$data/"
    fi
    chmod 700 "$data"
    # 127.0.0.1 and the socket need no password, every other address does.
    printf '%s\n' "local all all trust" "host all all 127.0.0.1/32 trust" "host all all ::1/128 trust" \
        "local replication all trust" "host all all all $method" >"$data/pg_hba.conf"
    # The first role keeps its rights and gets its name: like the official image, no other superuser is left behind.
    {
        [[ $user == postgres ]] ||
            echo "UPDATE pg_authid SET rolname = $(quoted "$user") WHERE oid = 10;"
        [[ -z ${POSTGRES_PASSWORD:-} ]] ||
            echo "ALTER ROLE $(identifier "$user") PASSWORD $(quoted "$POSTGRES_PASSWORD");"
        [[ $database == postgres ]] || echo "CREATE DATABASE $(identifier "$database");"
    } | postgres --single -O -F -D "$data" postgres >/dev/null
    for script in /docker-entrypoint-initdb.d/*; do
        if [[ -e $script ]]; then
            run_scripts
            break
        fi
    done
}

# A server that only this container reaches, for as long as the scripts run.
run_scripts() {
    local script
    pg_ctl --pgdata="$data" --wait --silent --options="-c listen_addresses=''" start
    for script in /docker-entrypoint-initdb.d/*; do
        echo "$0: $script"
        case $script in
        *.sql) psql -v ON_ERROR_STOP=1 -q -U "$user" -d "$database" -f "$script" ;;
        *.sql.gz) gunzip -c "$script" | psql -v ON_ERROR_STOP=1 -q -U "$user" -d "$database" ;;
        *.sh) if [[ -x $script ]]; then "$script"; else . "$script"; fi ;;
        esac
    done
    pg_ctl --pgdata="$data" --wait --silent --mode=fast stop
}

# A first start that was cut off leaves its mark, and begins again from nothing.
[[ ! -e $data/.making ]] || find "$data" -mindepth 1 -delete
if [[ ! -s $data/PG_VERSION ]]; then
    touch "$data/.making"
    make_cluster
    rm "$data/.making"
fi
unset POSTGRES_PASSWORD

exec postgres -c listen_addresses='*' "${@:2}"
