#!/bin/bash
# Makes the data directory on the first start, then runs the server. Started as root it goes on as mysql.
set -euo pipefail

data=/var/lib/mysql
case "${1:-}" in
'' | -*) set -- mariadbd "$@" ;;
esac
[[ $1 == mariadbd ]] || exec "$@"

for name in ROOT_PASSWORD DATABASE USER PASSWORD; do
    official=MARIADB_$name other=MYSQL_$name
    declare "$name=${!official:-${!other:-}}"
    unset "$official" "$other"
done

if [[ $(id -u) == 0 ]]; then
    chown mysql:mysql "$data" /run/mysqld
    export MARIADB_ROOT_PASSWORD=$ROOT_PASSWORD MARIADB_DATABASE=$DATABASE MARIADB_USER=$USER \
        MARIADB_PASSWORD=$PASSWORD
    exec setpriv --reuid=mysql --regid=mysql --init-groups "$0" "$@"
fi

# Text as SQL wants it between quotes.
quoted() { local text=${1//\\/\\\\}; printf "'%s'" "${text//\'/\'\'}"; }
identifier() { printf '`%s`' "${1//\`/\`\`}"; }

make_data() {
    if [[ -z $ROOT_PASSWORD ]]; then
        echo "Error: MARIADB_ROOT_PASSWORD is not set." >&2
        exit 1
    fi
    find "$data" -mindepth 1 -maxdepth 1 ! -name .making ! -name lost+found -exec rm -rf {} +
    # A host name that does not resolve would stop it.
    mariadb-install-db --datadir="$data" --force --skip-test-db --auth-root-authentication-method=normal >/dev/null
    {
        echo "DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host <> 'localhost');"
        echo "FLUSH PRIVILEGES;"
        echo "ALTER USER root@localhost IDENTIFIED BY $(quoted "$ROOT_PASSWORD");"
        echo "CREATE USER root@'%' IDENTIFIED BY $(quoted "$ROOT_PASSWORD");"
        echo "GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;"
        [[ -z $DATABASE ]] || echo "CREATE DATABASE $(identifier "$DATABASE");"
        if [[ -n $USER ]]; then
            echo "CREATE USER $(quoted "$USER")@'%' IDENTIFIED BY $(quoted "$PASSWORD");"
            [[ -z $DATABASE ]] || echo "GRANT ALL ON $(identifier "$DATABASE").* TO $(quoted "$USER")@'%';"
        fi
    } | mariadbd --datadir="$data" --bootstrap
}

# A first start that was cut off leaves its mark, and begins again from nothing.
if [[ -e $data/.making || ! -d $data/mysql ]]; then
    touch "$data/.making"
    make_data
    rm "$data/.making"
fi

exec mariadbd --datadir="$data" --socket=/run/mysqld/mysqld.sock --bind-address=0.0.0.0 --skip-name-resolve "${@:2}"
